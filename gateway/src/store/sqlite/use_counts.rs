//! Use counts in SQLite, and what a restore presumes.

use super::rows::read_use_count;
use crate::{
    keys::{record::Tagged, use_count::UseCountRow},
    store::{StoreError, StoredUseCount},
};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

/// What is stored of a version's uses.
pub(super) fn read(connection: &Connection, uid: Uuid, version: u32) -> Result<StoredUseCount, StoreError> {
    let counted = connection
        .prepare_cached(
            "SELECT key_uid, number, uses, encryptions, tag FROM use_counts WHERE key_uid = ?1 AND number = ?2",
        )?
        .query_row(params![uid.as_bytes(), version], |row| Ok(read_use_count(row)))
        .optional()?
        .transpose()?;
    let presumed: Option<i64> = connection
        .prepare_cached("SELECT encryptions FROM presumed_encryptions WHERE key_uid = ?1 AND number = ?2")?
        .query_row(params![uid.as_bytes(), version], |row| row.get(0))
        .optional()?;
    Ok(StoredUseCount {
        counted,
        presumed: presumed.map_or(0, |presumed| u64::try_from(presumed).unwrap_or(u64::MAX)),
    })
}

/// Stores counts, which are with what was presumed before.
pub(super) fn put(connection: &Connection, counts: &[Tagged<UseCountRow>]) -> Result<(), StoreError> {
    for Tagged { row, tag } in counts {
        connection
            .prepare_cached(
                "INSERT INTO use_counts (key_uid, number, uses, encryptions, tag) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (key_uid, number) DO UPDATE SET uses = ?3, encryptions = ?4, tag = ?5",
            )?
            .execute(params![
                row.key_uid.as_bytes(),
                row.number,
                row.uses as i64,
                row.encryptions as i64,
                tag,
            ])?;
        connection
            .prepare_cached("DELETE FROM presumed_encryptions WHERE key_uid = ?1 AND number = ?2")?
            .execute(params![row.key_uid.as_bytes(), row.number])?;
    }
    Ok(())
}

/// Identities between two of which counts are stored and no key.
pub(super) fn ephemeral(
    connection: &Connection,
    after: Uuid,
    before: Uuid,
    limit: u32,
) -> Result<Vec<Uuid>, StoreError> {
    connection
        .prepare_cached(
            "SELECT DISTINCT key_uid FROM use_counts
             WHERE key_uid > ?1 AND key_uid < ?2 AND length(key_uid) = 16
               AND NOT EXISTS (SELECT 1 FROM keys WHERE uid = key_uid)
             ORDER BY key_uid LIMIT ?3",
        )?
        .query_map(params![after.as_bytes(), before.as_bytes(), limit], |row| {
            row.get(0).map(Uuid::from_bytes)
        })?
        .map(|uid| Ok(uid?))
        .collect()
}

/// Removes counts and what is presumed.
pub(super) fn remove(connection: &Connection, of: &[Uuid]) -> Result<(), StoreError> {
    for uid in of {
        for table in ["use_counts", "presumed_encryptions"] {
            connection
                .prepare_cached(&format!("DELETE FROM {table} WHERE key_uid = ?1"))?
                .execute([uid.as_bytes()])?;
        }
    }
    Ok(())
}

/// The latest time that is presumed for a principal's revocation in a ring: microseconds since 1970.
pub(super) fn presumed_revocation(connection: &Connection, ring: &str, principal: &str) -> Result<u64, StoreError> {
    let found: Option<i64> = connection
        .prepare_cached(
            "SELECT max(not_before) FROM presumed_revocations WHERE ring_id IN ('', ?1) AND principal IN ('', ?2)",
        )?
        .query_row([ring, principal], |row| row.get(0))?;
    Ok(found.map_or(0, |time| u64::try_from(time).unwrap_or(0)))
}

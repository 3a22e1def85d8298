//! Use counts in SQLite.

use super::rows::read_use_count;
use crate::{
    keys::{record::Tagged, use_count::UseCountRow},
    store::StoreError,
};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

/// What is stored of a version's uses.
pub(super) fn read(
    connection: &Connection,
    uid: Uuid,
    version: u32,
) -> Result<Option<Tagged<UseCountRow>>, StoreError> {
    connection
        .prepare_cached(
            "SELECT key_uid, number, uses, encryptions, tag FROM use_counts WHERE key_uid = ?1 AND number = ?2",
        )?
        .query_row(params![uid.as_bytes(), version], |row| Ok(read_use_count(row)))
        .optional()?
        .transpose()
}

/// Stores counts.
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
    }
    Ok(())
}

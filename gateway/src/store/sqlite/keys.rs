//! Rings, keys and versions in SQLite.

use super::{
    resident,
    rows::{
        KEY_COLUMNS, RING_COLUMNS, VERSION_COLUMNS, labels_text, members_text, profile_text, raw, read_hold, read_key,
        read_restriction, read_ring, read_version, remains_text, shown,
    },
};
use crate::{
    keys::{
        name::{Id, KeyName},
        record::{KeyRow, Restriction, RingRow, StoredKey, Tagged, VersionRow, micros},
        state::VersionState,
    },
    store::{KeyChange, Listed, StoreError},
};
use rusqlite::{Connection, OptionalExtension, params};
use time::OffsetDateTime;
use uuid::Uuid;

/// Adds a ring.
pub(super) fn insert_ring(connection: &Connection, Tagged { row, tag }: Tagged<RingRow>) -> Result<(), StoreError> {
    let changed = connection.execute(
        "INSERT INTO key_rings (ring_id, uid, labels, created, revision, tag, layout, least_destroy_window)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (ring_id) DO NOTHING",
        params![
            row.id.as_str(),
            row.uid.as_bytes(),
            labels_text(&row.labels),
            micros(row.created) as i64,
            row.revision as i64,
            tag,
            row.layout as i64,
            row.least_destroy_window.as_secs() as i64,
        ],
    )?;
    match changed {
        0 => Err(StoreError::AlreadyExists(format!("keyRings/{}", row.id))),
        _ => Ok(()),
    }
}

/// Replaces a ring that has still the revision before.
pub(super) fn update_ring(connection: &Connection, Tagged { row, tag }: Tagged<RingRow>) -> Result<(), StoreError> {
    let changed = connection.execute(
        "UPDATE key_rings SET labels = ?2, revision = ?3, tag = ?4, layout = ?5, least_destroy_window = ?6
         WHERE ring_id = ?1 AND revision = ?3 - 1",
        params![
            row.id.as_str(),
            labels_text(&row.labels),
            row.revision as i64,
            tag,
            row.layout as i64,
            row.least_destroy_window.as_secs() as i64,
        ],
    )?;
    replaced(changed, || format!("keyRings/{}", row.id))
}

/// A ring.
pub(super) fn ring(connection: &Connection, id: &Id) -> Result<Option<Tagged<RingRow>>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {RING_COLUMNS} FROM key_rings WHERE ring_id = ?1"))?
        .query_row([id.as_str()], |row| Ok(read_ring(row)))
        .optional()?
        .transpose()
}

/// A page of rings.
pub(super) fn rings(
    connection: &Connection,
    after: Vec<u8>,
    limit: u32,
) -> Result<Vec<Listed<Tagged<RingRow>>>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {RING_COLUMNS} FROM key_rings WHERE ring_id > CAST(?1 AS TEXT) ORDER BY ring_id LIMIT ?2"
    ))?;
    let mut rows = statement.query(params![after, limit])?;
    let mut rings = Vec::new();
    while let Some(row) = rows.next()? {
        rings.push(Listed {
            id: raw(row, 0)?,
            shown: shown(row, 0)?,
            row: read_ring(row),
        });
    }
    Ok(rings)
}

/// Adds a key with its versions.
pub(super) fn insert_key(connection: &Connection, stored: StoredKey) -> Result<(), StoreError> {
    let Tagged { row, tag } = stored.key;
    let ring_exists: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM key_rings WHERE ring_id = ?1)")?
        .query_row([row.name.ring.as_str()], |row| row.get(0))?;
    if !ring_exists {
        return Err(StoreError::NotFound(format!("keyRings/{}", row.name.ring)));
    }
    let changed = connection
        .prepare_cached(
            "INSERT INTO keys
             (uid, ring_id, key_id, purpose, protection, labels, primary_version, created, revision, tag, profile)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (ring_id, key_id) DO NOTHING",
        )?
        .execute(params![
            row.uid.as_bytes(),
            row.name.ring.as_str(),
            row.name.key.as_str(),
            row.purpose as i64,
            row.protection as i64,
            labels_text(&row.labels),
            row.primary_version,
            micros(row.created) as i64,
            row.revision as i64,
            tag,
            row.profile.as_ref().map(profile_text),
        ])?;
    if changed == 0 {
        return Err(StoreError::AlreadyExists(row.name.to_string()));
    }
    for version in stored.versions {
        insert_version(connection, &row.name, version)?;
    }
    Ok(())
}

/// Replaces a key's row and adds or replaces rows of its versions.
pub(super) fn change_key(connection: &Connection, change: KeyChange) -> Result<(), StoreError> {
    if let Some(key) = change.key {
        update_key(connection, key)?;
    }
    for version in change.versions {
        if version.row.revision == 1 {
            insert_version(connection, &change.name, version)?;
        } else {
            update_version(connection, &change.name, version)?;
        }
    }
    Ok(())
}

fn update_key(connection: &Connection, Tagged { row, tag }: Tagged<KeyRow>) -> Result<(), StoreError> {
    let changed = connection
        .prepare_cached(
            "UPDATE keys SET labels = ?2, primary_version = ?3, revision = ?4, tag = ?5, profile = ?6
             WHERE uid = ?1 AND revision = ?4 - 1",
        )?
        .execute(params![
            row.uid.as_bytes(),
            labels_text(&row.labels),
            row.primary_version,
            row.revision as i64,
            tag,
            row.profile.as_ref().map(profile_text),
        ])?;
    replaced(changed, || row.name.to_string())?;
    if let Some(profile) = &row.profile {
        connection
            .prepare_cached("DELETE FROM presumed_versions WHERE key_uid = ?1 AND last_version <= ?2")?
            .execute(params![row.uid.as_bytes(), profile.last_version])?;
    }
    Ok(())
}

fn insert_version(
    connection: &Connection,
    key: &KeyName,
    Tagged { row, tag }: Tagged<VersionRow>,
) -> Result<(), StoreError> {
    let changed = connection
        .prepare_cached(
            "INSERT INTO key_versions
             (key_uid, number, state, members, created, revision, token, tag, layout, reason, activated, deactivated,
              compromised, destroy, remains)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
             ON CONFLICT (key_uid, number) DO NOTHING",
        )?
        .execute(params![
            row.key_uid.as_bytes(),
            row.number,
            row.state as i64,
            members_text(&row.members),
            micros(row.created) as i64,
            row.revision as i64,
            row.token,
            tag,
            row.layout as i64,
            row.history.reason,
            time(row.history.activated),
            time(row.history.deactivated),
            time(row.history.compromised),
            time(row.history.destroy),
            row.history.remains.as_ref().map(remains_text),
        ])?;
    replaced(changed, || key.version(row.number))?;
    resident::end(connection, row.key_uid, row.number)
}

fn update_version(
    connection: &Connection,
    key: &KeyName,
    Tagged { row, tag }: Tagged<VersionRow>,
) -> Result<(), StoreError> {
    let changed = connection
        .prepare_cached(
            "UPDATE key_versions SET state = ?3, members = ?4, revision = ?5, token = ?6, tag = ?7, layout = ?8,
             reason = ?9, activated = ?10, deactivated = ?11, compromised = ?12, destroy = ?13, remains = ?14
             WHERE key_uid = ?1 AND number = ?2 AND revision = ?5 - 1",
        )?
        .execute(params![
            row.key_uid.as_bytes(),
            row.number,
            row.state as i64,
            members_text(&row.members),
            row.revision as i64,
            row.token,
            tag,
            row.layout as i64,
            row.history.reason,
            time(row.history.activated),
            time(row.history.deactivated),
            time(row.history.compromised),
            time(row.history.destroy),
            row.history.remains.as_ref().map(remains_text),
        ])?;
    replaced(changed, || key.version(row.number))?;
    for unfolded in [
        "DELETE FROM restrictions WHERE key_uid = ?1 AND number = ?2",
        "DELETE FROM destruction_holds WHERE key_uid = ?1 AND number = ?2",
    ] {
        connection
            .prepare_cached(unfolded)?
            .execute(params![row.key_uid.as_bytes(), row.number])?;
    }
    resident::end(connection, row.key_uid, row.number)
}

/// A key with its versions.
pub(super) fn key(connection: &Connection, name: &KeyName) -> Result<Option<StoredKey>, StoreError> {
    let key = connection
        .prepare_cached(&format!(
            "SELECT {KEY_COLUMNS} FROM keys WHERE ring_id = ?1 AND key_id = ?2"
        ))?
        .query_row([name.ring.as_str(), name.key.as_str()], |row| Ok(read_key(row)))
        .optional()?
        .transpose()?;
    key.map(|key| with_versions(connection, key)).transpose()
}

/// A page of a ring's keys.
pub(super) fn keys(
    connection: &Connection,
    ring: &Id,
    after: Vec<u8>,
    limit: u32,
) -> Result<Vec<Listed<StoredKey>>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {KEY_COLUMNS} FROM keys WHERE ring_id = ?1 AND key_id > CAST(?2 AS TEXT) ORDER BY key_id LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![ring.as_str(), after, limit])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let key = read_key(row).and_then(|key| with_versions(connection, key));
        keys.push(Listed {
            id: raw(row, 2)?,
            shown: shown(row, 2)?,
            row: key,
        });
    }
    Ok(keys)
}

fn with_versions(connection: &Connection, key: Tagged<KeyRow>) -> Result<StoredKey, StoreError> {
    let name = key.row.name.to_string();
    let uid = key.row.uid;
    let versions = connection
        .prepare_cached(&format!(
            "SELECT {VERSION_COLUMNS} FROM key_versions WHERE key_uid = ?1 ORDER BY number"
        ))?
        .query_map([uid.as_bytes()], |row| Ok(read_version(row, &name)))?
        .map(|row| row?)
        .collect::<Result<Vec<_>, _>>()?;
    let restrictions = connection
        .prepare_cached("SELECT key_uid, number, state, reason, time FROM restrictions WHERE key_uid = ?1")?
        .query_map([uid.as_bytes()], |row| Ok(read_restriction(row, &name)))?
        .map(|row| row?)
        .collect::<Result<Vec<_>, _>>()?;
    let holds = connection
        .prepare_cached("SELECT number, reason, time FROM destruction_holds WHERE key_uid = ?1")?
        .query_map([uid.as_bytes()], |row| Ok(read_hold(row, &name)))?
        .map(|row| row?)
        .collect::<Result<Vec<_>, _>>()?;
    let presumed: Option<i64> = connection
        .prepare_cached("SELECT last_version FROM presumed_versions WHERE key_uid = ?1")?
        .query_row([uid.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(StoredKey {
        key,
        versions,
        restrictions,
        holds,
        presumed_last_version: presumed.map_or(0, |presumed| u32::try_from(presumed).unwrap_or(u32::MAX)),
    })
}

/// Whether a version is stored.
pub(super) fn has_version(connection: &Connection, uid: Uuid, version: u32) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM key_versions WHERE key_uid = ?1 AND number = ?2 AND length(token) > 0)",
        )?
        .query_row(params![uid.as_bytes(), version], |row| row.get(0))?)
}

/// Notes a restriction.
pub(super) fn restrict(connection: &Connection, restriction: &Restriction) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO restrictions (key_uid, number, state, reason, time) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key_uid, number) DO UPDATE SET state = ?3, reason = ?4, time = ?5",
        params![
            restriction.key_uid.as_bytes(),
            restriction.number,
            restriction.state as i64,
            restriction.reason,
            micros(restriction.time) as i64,
        ],
    )?;
    Ok(())
}

/// The names of keys that have restrictions or holds.
pub(super) fn restricted_keys(connection: &Connection) -> Result<Vec<KeyName>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ring_id, key_id FROM keys WHERE uid IN
           (SELECT key_uid FROM restrictions UNION SELECT key_uid FROM destruction_holds) ORDER BY ring_id, key_id",
    )?;
    names(&mut statement, [])
}

/// The names of keys with versions to be destroyed until a time.
pub(super) fn due_for_destruction(
    connection: &Connection,
    until: OffsetDateTime,
    limit: u32,
) -> Result<Vec<KeyName>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ring_id, key_id FROM keys WHERE uid IN
           (SELECT key_uid FROM key_versions WHERE state IN (6, 7) AND destroy <= ?1
              AND (key_uid, number) NOT IN (SELECT key_uid, number FROM destruction_holds) ORDER BY destroy LIMIT ?2)",
    )?;
    debug_assert_eq!(
        (VersionState::DestroyScheduled as i64, VersionState::Destroying as i64),
        (6, 7)
    );
    names(&mut statement, params![micros(until) as i64, limit])
}

/// Names that are names: what is none is in a row that was changed, and is found when the key is used.
fn names(
    statement: &mut rusqlite::CachedStatement<'_>,
    parameters: impl rusqlite::Params,
) -> Result<Vec<KeyName>, StoreError> {
    let mut rows = statement.query(parameters)?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        if let (Ok(ring), Ok(key)) = (Id::parse(&shown(row, 0)?), Id::parse(&shown(row, 1)?)) {
            names.push(KeyName { ring, key });
        }
    }
    Ok(names)
}

fn time(time: Option<OffsetDateTime>) -> Option<i64> {
    time.map(|time| micros(time) as i64)
}

fn replaced(changed: usize, name: impl FnOnce() -> String) -> Result<(), StoreError> {
    match changed {
        0 => Err(StoreError::Conflict(name())),
        _ => Ok(()),
    }
}

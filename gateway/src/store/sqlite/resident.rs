//! Notes of resident keys that are being made.

use crate::{
    keys::record::Tagged,
    store::{ResidentIntent, StoreError},
};
use rusqlite::{Connection, params};
use uuid::Uuid;

/// Notes that a resident version is about to be made, unless somebody else makes it now or did not clear it up yet.
pub(super) fn begin(connection: &Connection, intent: Tagged<ResidentIntent>) -> Result<(), StoreError> {
    let Tagged { row, tag } = intent;
    let changed = connection.execute(
        "INSERT INTO resident_intents (uid, version, member, tag) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (uid, version) DO NOTHING",
        params![row.uid.as_bytes(), row.version, row.member, tag],
    )?;
    match changed {
        0 => Err(StoreError::Conflict(format!("version {} of {}", row.version, row.uid))),
        _ => Ok(()),
    }
}

/// Takes a note away.
pub(super) fn end(connection: &Connection, uid: Uuid, version: u32) -> Result<(), StoreError> {
    connection.execute(
        "DELETE FROM resident_intents WHERE uid = ?1 AND version = ?2",
        params![uid.as_bytes(), version],
    )?;
    Ok(())
}

/// All notes.
pub(super) fn all(connection: &Connection) -> Result<Vec<Tagged<ResidentIntent>>, StoreError> {
    connection
        .prepare("SELECT uid, version, member, tag FROM resident_intents")?
        .query_map([], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .map(|row| {
            let (uid, version, member, tag) = row?;
            Ok(Tagged {
                row: ResidentIntent {
                    uid: Uuid::from_bytes(uid),
                    version,
                    member,
                },
                tag,
            })
        })
        .collect()
}

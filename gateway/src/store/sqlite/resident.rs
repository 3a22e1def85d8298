//! Notes of resident keys that are being made.

use crate::{
    keys::record::Tagged,
    store::{ResidentIntent, StoreError},
};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

/// Notes that a resident version is about to be made, unless somebody else makes it now or did not clear it up yet.
pub(super) fn begin(connection: &Connection, intent: Tagged<ResidentIntent>) -> Result<(), StoreError> {
    let Tagged { row, tag } = intent;
    let changed = connection.execute(
        "INSERT INTO resident_intents (uid, version, member, tag, making) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (uid, version) DO NOTHING",
        params![
            row.uid.as_bytes(),
            row.version,
            row.member,
            tag,
            row.making.as_ref().map(|making| making.as_bytes())
        ],
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

/// All notes. One that cannot be read is an error in its place.
pub(super) fn all(connection: &Connection) -> Result<Vec<Result<Tagged<ResidentIntent>, StoreError>>, StoreError> {
    connection
        .prepare("SELECT uid, version, member, tag, making FROM resident_intents")?
        .query_map([], |row| Ok(read(row)))?
        .map(|row| Ok(row?))
        .collect()
}

fn read(row: &Row<'_>) -> Result<Tagged<ResidentIntent>, StoreError> {
    let read = || {
        Some(Tagged {
            row: ResidentIntent {
                uid: Uuid::from_bytes(row.get(0).ok()?),
                version: row.get(1).ok()?,
                member: row.get(2).ok()?,
                making: row.get::<_, Option<[u8; 16]>>(4).ok()?.map(Uuid::from_bytes),
            },
            tag: row.get(3).ok()?,
        })
    };
    read().ok_or_else(|| StoreError::Malformed("an interrupted create".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::migrate;

    /// Found by fuzzing: one note that could not be read kept all others from being cleared up.
    #[test]
    fn a_note_that_cannot_be_read_is_malformed_and_only_that_one() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&mut connection).expect("the schema");
        let intent = ResidentIntent {
            uid: Uuid::from_bytes([3; 16]),
            version: 1,
            member: "a".to_owned(),
            making: Some(Uuid::from_bytes([4; 16])),
        };
        begin(&connection, Tagged::new(intent.clone(), [7; 32])).expect("a note");
        connection
            .execute_batch(
                "INSERT INTO resident_intents VALUES (x'00', 549755813889, 'a', x'00', NULL);
                 INSERT INTO resident_intents VALUES (zeroblob(16), -1, 'a', x'00', NULL);
                 INSERT INTO resident_intents VALUES (zeroblob(16), 2, 'a', x'00', x'00');",
            )
            .expect("what nobody writes");
        let (whole, malformed): (Vec<_>, Vec<_>) = all(&connection)
            .expect("the notes")
            .into_iter()
            .partition(Result::is_ok);
        let whole: Vec<_> = whole.into_iter().flatten().map(|note| note.row).collect();
        assert_eq!(whole, [intent]);
        assert!(
            malformed
                .iter()
                .all(|note| matches!(note, Err(StoreError::Malformed(_))))
        );
        assert_eq!(malformed.len(), 3);
    }
}

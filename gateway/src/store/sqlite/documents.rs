//! Documents in SQLite.

use super::rows::{raw, read_document, shown};
use crate::{
    keys::{
        document::{DocumentKey, DocumentRow},
        record::{Tagged, micros},
    },
    store::{Listed, StoreError},
};
use rusqlite::{Connection, OptionalExtension, params};

/// Adds a document, or replaces one that has still the revision before.
pub(super) fn put(connection: &Connection, document: &Tagged<DocumentRow>) -> Result<(), StoreError> {
    let Tagged { row, tag } = document;
    let name = || format!("{} {} in keyRings/{}", row.key.kind, row.key.id, row.key.ring);
    if row.revision == 1 {
        let changed = connection.execute(
            "INSERT INTO documents (kind, ring_id, id, uid, body, created, updated, revision, tag)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (kind, ring_id, id) DO NOTHING",
            params![
                row.key.kind,
                row.key.ring,
                row.key.id,
                row.uid.as_bytes(),
                row.body,
                micros(row.created) as i64,
                micros(row.updated) as i64,
                row.revision as i64,
                tag,
            ],
        )?;
        return match changed {
            0 => Err(StoreError::AlreadyExists(name())),
            _ => Ok(()),
        };
    }
    let changed = connection.execute(
        "UPDATE documents SET body = ?4, updated = ?5, revision = ?6, tag = ?7
         WHERE kind = ?1 AND ring_id = ?2 AND id = ?3 AND revision = ?6 - 1",
        params![
            row.key.kind,
            row.key.ring,
            row.key.id,
            row.body,
            micros(row.updated) as i64,
            row.revision as i64,
            tag,
        ],
    )?;
    match changed {
        0 => Err(StoreError::Conflict(name())),
        _ => Ok(()),
    }
}

/// A document.
pub(super) fn find(connection: &Connection, key: &DocumentKey) -> Result<Option<Tagged<DocumentRow>>, StoreError> {
    connection
        .prepare_cached(
            "SELECT ring_id, id, uid, body, created, updated, revision, tag FROM documents
             WHERE kind = ?1 AND ring_id = ?2 AND id = ?3",
        )?
        .query_row([key.kind, &key.ring, &key.id], |row| Ok(read_document(row, key.kind)))
        .optional()?
        .transpose()
}

/// A page of documents of a kind in a ring.
pub(super) fn list(
    connection: &Connection,
    kind: &'static str,
    ring: &str,
    after: Vec<u8>,
    limit: u32,
) -> Result<Vec<Listed<Tagged<DocumentRow>>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ring_id, id, uid, body, created, updated, revision, tag FROM documents
         WHERE kind = ?1 AND ring_id = ?2 AND id > CAST(?3 AS TEXT) ORDER BY id LIMIT ?4",
    )?;
    let mut rows = statement.query(params![kind, ring, after, limit])?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next()? {
        documents.push(Listed {
            id: raw(row, 1)?,
            shown: shown(row, 1)?,
            row: read_document(row, kind),
        });
    }
    Ok(documents)
}

/// The rings that have documents of a kind.
pub(super) fn rings(connection: &Connection, kind: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT ring_id FROM documents WHERE kind = ?1")?;
    let rings = statement.query_map([kind], |row| row.get(0))?;
    Ok(rings.collect::<Result<_, _>>()?)
}

/// Removes a document that has still this revision.
pub(super) fn delete(connection: &Connection, key: &DocumentKey, revision: u64) -> Result<(), StoreError> {
    let changed = connection.execute(
        "DELETE FROM documents WHERE kind = ?1 AND ring_id = ?2 AND id = ?3 AND revision = ?4",
        params![key.kind, key.ring, key.id, revision as i64],
    )?;
    match changed {
        0 => Err(StoreError::Conflict(format!(
            "{} {} in keyRings/{}",
            key.kind, key.id, key.ring
        ))),
        _ => Ok(()),
    }
}

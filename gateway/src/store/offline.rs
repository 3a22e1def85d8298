//! A database seen without a gateway: copied, and looked at as a whole.

use super::{
    StoreError,
    opening::{database_path, explain, refused},
    schema,
    upgrade::copy_to,
};
use crate::keys::{document::canonical_form, record::Row, use_count::UseCountRow};
use rusqlite::{Connection, OpenFlags};
use std::{path::Path, time::Duration};
use uuid::Uuid;

/// What is in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The version of its schema.
    pub schema: i64,
    /// How many key rings it has.
    pub rings: u64,
    /// How many keys.
    pub keys: u64,
    /// How many key versions.
    pub versions: u64,
}

/// Copies the database of a state directory as it is at this moment, also while a gateway writes to it, into a new file for its owner
/// alone.
pub fn copy_database(directory: &Path, to: &Path) -> Result<(), StoreError> {
    let path = database_path(directory);
    if !path.exists() {
        return Err(refused(
            &path,
            "there is none: no gateway of this configuration was started yet",
        ));
    }
    let connection = read_only(&path).map_err(|error| explain(&path, &error))?;
    copy_to(&connection, to)
}

/// Checks a database that nobody writes to: SQLite's own integrity, its references, and that its tables are those of a schema that this
/// program knows; counts what is in it.
pub fn inspect(path: &Path) -> Result<Content, StoreError> {
    let explained = |error: rusqlite::Error| explain(path, &error);
    let connection = read_only(path).map_err(explained)?;
    let integrity: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(explained)?;
    if integrity != "ok" {
        return Err(refused(path, format!("it is damaged: {integrity}")));
    }
    let dangling: i64 = connection
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .map_err(explained)?;
    if dangling > 0 {
        return Err(refused(
            path,
            format!("{dangling} of its rows refer to rows that are missing"),
        ));
    }
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(explained)?;
    let expected = schema::objects_of(version).map_err(|error| refused(path, error))?;
    let found = schema::objects(&connection).map_err(explained)?;
    if expected != found {
        let differing = expected.symmetric_difference(&found).next();
        let name = differing.map_or("", |(name, _)| name.as_str());
        return Err(refused(
            path,
            format!("its tables are not those of schema {version}: look at {name}"),
        ));
    }
    let count = |table: &str| -> Result<u64, StoreError> {
        let rows: i64 = connection
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .map_err(explained)?;
        Ok(rows.unsigned_abs())
    };
    Ok(Content {
        schema: version,
        rings: count("key_rings")?,
        keys: count("keys")?,
        versions: count("key_versions")?,
    })
}

/// A row that belongs to a ring or a key, as the mac key authenticates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticForm {
    /// What it is, for people.
    pub name: String,
    /// The canonical form.
    pub canonical: Vec<u8>,
    /// Its tag.
    pub tag: Vec<u8>,
}

/// The documents of every kind and the use counts of a database of the current schema that nobody writes to. A row that cannot be read
/// is an error in its place, with its name.
pub fn dependent_rows(path: &Path) -> Result<Vec<Result<AuthenticForm, String>>, StoreError> {
    let connection = read_only(path)?;
    let mut forms = Vec::new();
    let mut documents =
        connection.prepare("SELECT kind, ring_id, id, uid, created, updated, revision, body, tag FROM documents")?;
    let mut rows = documents.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, ring, id): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let name = format!("the document {kind} {id} of keyRings/{ring}");
        let read = || {
            let number = |column| u64::try_from(row.get::<_, i64>(column).ok()?).ok();
            let uid = Uuid::from_bytes(row.get(3).ok()?);
            let body: Vec<u8> = row.get(7).ok()?;
            let times = [number(4)?, number(5)?];
            Some(canonical_form([&kind, &ring, &id], uid, times, number(6)?, &body))
        };
        forms.push(authentic_form(name, read(), row.get(8).ok()));
    }
    let mut counts = connection.prepare("SELECT key_uid, number, uses, encryptions, tag FROM use_counts")?;
    let mut rows = counts.query([])?;
    while let Some(row) = rows.next()? {
        let read = || {
            Some(UseCountRow {
                key_uid: Uuid::from_bytes(row.get(0).ok()?),
                number: row.get(1).ok()?,
                uses: u64::try_from(row.get::<_, i64>(2).ok()?).ok()?,
                encryptions: u64::try_from(row.get::<_, i64>(3).ok()?).ok()?,
            })
        };
        let count = read();
        let name = match &count {
            Some(count) => format!("the use count of version {} of {}", count.number, count.key_uid),
            None => "a use count".to_owned(),
        };
        forms.push(authentic_form(
            name,
            count.map(|count| count.canonical()),
            row.get(4).ok(),
        ));
    }
    Ok(forms)
}

fn authentic_form(name: String, canonical: Option<Vec<u8>>, tag: Option<Vec<u8>>) -> Result<AuthenticForm, String> {
    match (canonical, tag) {
        (Some(canonical), Some(tag)) => Ok(AuthenticForm { name, canonical, tag }),
        _ => Err(name),
    }
}

fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

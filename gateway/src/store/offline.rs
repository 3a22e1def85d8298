//! A database seen without a gateway: copied, and looked at as a whole.

use super::{
    StoreError,
    opening::{database_path, explain, refused},
    schema,
    upgrade::copy_to,
};
use rusqlite::{Connection, OpenFlags};
use std::{path::Path, time::Duration};

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

fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

//! The schema, as a list of migrations. A migration that was released is never changed.

use rusqlite::{Connection, Transaction};
use std::collections::BTreeSet;

/// What each version adds, from version 1.
const MIGRATIONS: &[&str] = &[
    // 1: rings, keys, versions.
    "
    CREATE TABLE key_rings (
        ring_id   TEXT PRIMARY KEY NOT NULL,
        uid       BLOB NOT NULL UNIQUE,
        labels    TEXT NOT NULL,
        created   INTEGER NOT NULL,
        revision  INTEGER NOT NULL,
        tag       BLOB NOT NULL
    ) STRICT;

    CREATE TABLE keys (
        uid             BLOB PRIMARY KEY NOT NULL,
        ring_id         TEXT NOT NULL REFERENCES key_rings (ring_id),
        key_id          TEXT NOT NULL,
        purpose         INTEGER NOT NULL,
        protection      INTEGER NOT NULL,
        labels          TEXT NOT NULL,
        primary_version INTEGER NOT NULL,
        created         INTEGER NOT NULL,
        revision        INTEGER NOT NULL,
        tag             BLOB NOT NULL,
        UNIQUE (ring_id, key_id)
    ) STRICT;

    CREATE TABLE key_versions (
        key_uid   BLOB NOT NULL REFERENCES keys (uid),
        number    INTEGER NOT NULL,
        state     INTEGER NOT NULL,
        members   TEXT NOT NULL,
        created   INTEGER NOT NULL,
        revision  INTEGER NOT NULL,
        token     BLOB NOT NULL,
        tag       BLOB NOT NULL,
        PRIMARY KEY (key_uid, number)
    ) STRICT;

    CREATE TABLE requests (
        principal    TEXT NOT NULL,
        request_id   BLOB NOT NULL,
        request_hash BLOB NOT NULL,
        time         INTEGER NOT NULL,
        PRIMARY KEY (principal, request_id)
    ) STRICT;
    CREATE INDEX requests_by_time ON requests (time);

    CREATE TABLE resident_intents (
        uid     BLOB NOT NULL,
        version INTEGER NOT NULL,
        member  TEXT NOT NULL,
        tag     BLOB NOT NULL,
        PRIMARY KEY (uid, version)
    ) STRICT;
    ",
    // 2: what rotation, states, import and destruction need; documents; use counts.
    "
    ALTER TABLE key_rings ADD COLUMN layout INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE key_rings ADD COLUMN least_destroy_window INTEGER NOT NULL DEFAULT 0;

    ALTER TABLE keys ADD COLUMN profile TEXT;

    ALTER TABLE key_versions ADD COLUMN layout INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE key_versions ADD COLUMN reason TEXT NOT NULL DEFAULT '';
    ALTER TABLE key_versions ADD COLUMN activated INTEGER;
    ALTER TABLE key_versions ADD COLUMN deactivated INTEGER;
    ALTER TABLE key_versions ADD COLUMN compromised INTEGER;
    ALTER TABLE key_versions ADD COLUMN destroy INTEGER;
    ALTER TABLE key_versions ADD COLUMN remains TEXT;
    -- Versions that are to be destroyed, or are being destroyed.
    CREATE INDEX key_versions_to_destroy ON key_versions (destroy) WHERE state IN (6, 7);

    CREATE TABLE restrictions (
        key_uid BLOB NOT NULL,
        number  INTEGER NOT NULL,
        state   INTEGER NOT NULL,
        reason  TEXT NOT NULL,
        time    INTEGER NOT NULL,
        PRIMARY KEY (key_uid, number)
    ) STRICT;

    CREATE TABLE use_counts (
        key_uid     BLOB NOT NULL,
        number      INTEGER NOT NULL,
        uses        INTEGER NOT NULL,
        encryptions INTEGER NOT NULL,
        tag         BLOB NOT NULL,
        PRIMARY KEY (key_uid, number)
    ) STRICT;

    CREATE TABLE documents (
        kind     TEXT NOT NULL,
        ring_id  TEXT NOT NULL,
        id       TEXT NOT NULL,
        uid      BLOB NOT NULL,
        body     BLOB NOT NULL,
        created  INTEGER NOT NULL,
        updated  INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        tag      BLOB NOT NULL,
        PRIMARY KEY (kind, ring_id, id)
    ) STRICT;
    ",
    // 3: the version that a request made, for the answer to its repetition.
    "
    ALTER TABLE requests ADD COLUMN version INTEGER;
    ",
    // 4: the key of page tokens; what a restore presumes without an HSM. Like restrictions that has no tags, because it
    // can only take something away.
    "
    CREATE TABLE page_token_key (
        id  INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
        key BLOB NOT NULL
    ) STRICT;

    CREATE TABLE presumed_encryptions (
        key_uid     BLOB NOT NULL,
        number      INTEGER NOT NULL,
        encryptions INTEGER NOT NULL,
        PRIMARY KEY (key_uid, number)
    ) STRICT;

    -- An empty ring or principal stands for all.
    CREATE TABLE presumed_revocations (
        ring_id    TEXT NOT NULL,
        principal  TEXT NOT NULL,
        not_before INTEGER NOT NULL,
        PRIMARY KEY (ring_id, principal)
    ) STRICT;
    ",
    // 5: destructions that a restore stopped, and version numbers that it presumes to be taken. No tags, as above.
    "
    CREATE TABLE destruction_holds (
        key_uid BLOB NOT NULL,
        number  INTEGER NOT NULL,
        reason  TEXT NOT NULL,
        time    INTEGER NOT NULL,
        PRIMARY KEY (key_uid, number)
    ) STRICT;

    CREATE TABLE presumed_versions (
        key_uid      BLOB PRIMARY KEY NOT NULL,
        last_version INTEGER NOT NULL
    ) STRICT;

    -- Which making of a version a note is of; its objects have that in their id.
    ALTER TABLE resident_intents ADD COLUMN making BLOB;
    ",
];

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// It is newer than this program.
    #[error("its schema has version {found}; this program knows up to {known}: use a newer portcullisd")]
    Newer { found: i64, known: i64 },
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The version that this program works with.
pub(super) fn newest() -> i64 {
    MIGRATIONS.len() as i64
}

/// The tables and indexes that a version of the schema has.
pub(super) fn objects_of(version: i64) -> Result<BTreeSet<(String, String)>, SchemaError> {
    let known = newest();
    if version > known {
        return Err(SchemaError::Newer { found: version, known });
    }
    let connection = Connection::open_in_memory()?;
    for step in MIGRATIONS.iter().take(version.max(0) as usize) {
        connection.execute_batch(step)?;
    }
    Ok(objects(&connection)?)
}

/// The tables and indexes of a database: name and definition.
pub(super) fn objects(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, String)>> {
    connection
        .prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Brings a database to the current version, each step in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    let known = newest();
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(SchemaError::Newer { found, known });
    }
    for (number, step) in (1i64..).zip(MIGRATIONS).skip(found.max(0) as usize) {
        let transaction: Transaction<'_> = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_schema_is_refused() {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&mut connection).expect("migrated");
        migrate(&mut connection).expect("nothing to do");
        connection
            .pragma_update(None, "user_version", 99)
            .expect("a newer version");
        assert!(matches!(
            migrate(&mut connection),
            Err(SchemaError::Newer { found: 99, .. })
        ));
    }
}

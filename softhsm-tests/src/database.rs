//! The gateway's database, seen and changed by someone who can write to the disk.

use crate::cluster::TestCluster;
use rusqlite::{Connection, OptionalExtension, Params, types::Value};

/// The database of a cluster. Change it only while its gateway is stopped: a running one remembers what it read.
pub struct Database {
    connection: Connection,
}

impl Database {
    /// Opens it.
    pub fn of(cluster: &TestCluster) -> Self {
        let path = cluster.database_file();
        assert!(path.is_file(), "{} is missing", path.display());
        Self {
            connection: Connection::open(path).expect("the database"),
        }
    }

    /// The stored token of a key's first version.
    pub fn key_token(&self, ring: &str, key: &str) -> Vec<u8> {
        let sql = format!("SELECT token FROM key_versions WHERE number = 1 AND {VERSION_OF_KEY}");
        let found = self.connection.query_row(&sql, [ring, key], |row| row.get(0));
        found.unwrap_or_else(|error| panic!("the token of {ring}/{key}: {error}"))
    }

    /// Replaces the stored token of a key's first version.
    pub fn set_key_token(&self, ring: &str, key: &str, token: &[u8]) {
        self.set("key_versions", "token", ring, key, &Value::Blob(token.to_vec()));
    }

    /// One column of a key's row in `keys` or of its first version's in `key_versions`.
    pub fn column(&self, table: &str, column: &str, ring: &str, key: &str) -> Value {
        let sql = format!("SELECT {column} FROM {table} WHERE {}", condition(table));
        let found = self.connection.query_row(&sql, [ring, key], |row| row.get(0));
        found.unwrap_or_else(|error| panic!("{table}.{column} of {ring}/{key}: {error}"))
    }

    /// Sets such a column.
    pub fn set(&self, table: &str, column: &str, ring: &str, key: &str, value: &Value) {
        let sql = format!("UPDATE {table} SET {column} = ?3 WHERE {}", condition(table));
        assert_eq!(
            self.execute(&sql, (ring, key, value)),
            1,
            "{table}.{column} of {ring}/{key}"
        );
    }

    /// Changes one byte of such a column, or the number in it by one.
    pub fn disturb(&self, table: &str, column: &str, ring: &str, key: &str) {
        let disturbed = match self.column(table, column, ring, key) {
            Value::Integer(number) => Value::Integer(number ^ 1),
            Value::Blob(mut bytes) => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Value::Blob(bytes)
            }
            other => panic!("{table}.{column} of {ring}/{key} is {other:?}"),
        };
        self.set(table, column, ring, key, &disturbed);
    }

    /// The uid and tag of the note of a resident key that is being created now, if there is one.
    pub fn resident_note(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let found = self
            .connection
            .query_row("SELECT uid, tag FROM resident_intents", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            });
        found
            .optional()
            .unwrap_or_else(|error| panic!("the notes of resident keys: {error}"))
    }

    /// How many rows a table has.
    pub fn count(&self, table: &str) -> u64 {
        self.number(&format!("SELECT count(*) FROM {table}")).unsigned_abs()
    }

    /// The one number that a query finds.
    pub fn number(&self, sql: &str) -> i64 {
        let found = self.connection.query_row(sql, [], |row| row.get(0));
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The uid of a key.
    pub fn key_uid(&self, ring: &str, key: &str) -> Vec<u8> {
        match self.column("keys", "uid", ring, key) {
            Value::Blob(uid) => uid,
            other => panic!("the uid of {ring}/{key} is {other:?}"),
        }
    }

    /// Runs a statement; returns how many rows it changed.
    pub fn execute(&self, sql: &str, parameters: impl Params) -> usize {
        self.connection
            .execute(sql, parameters)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

fn condition(table: &str) -> &'static str {
    match table {
        "keys" => "ring_id = ?1 AND key_id = ?2",
        "key_versions" => VERSION_OF_KEY,
        other => panic!("no condition for {other}"),
    }
}

const VERSION_OF_KEY: &str = "key_uid = (SELECT uid FROM keys WHERE ring_id = ?1 AND key_id = ?2)";

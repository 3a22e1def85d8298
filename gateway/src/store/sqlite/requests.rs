//! Requests that callers may repeat, and lists that they read on.

use crate::{
    keys::record::{micros, now},
    store::{Created, Earlier, Idempotency, StoreError},
};
use rusqlite::{Connection, OptionalExtension, params};

/// Whether a request is a repetition; notes it if it is not.
pub(super) fn recognise(connection: &Connection, once: Option<&Idempotency>) -> Result<Option<Created>, StoreError> {
    let Some(once) = once else { return Ok(None) };
    if look_up(connection, once)?.is_some() {
        return Ok(Some(Created::Before));
    }
    let time = micros(now()) as i64;
    connection.execute("DELETE FROM requests WHERE time <= ?1", [time - REQUESTS_KEPT_MICROS])?;
    connection.execute(
        "INSERT INTO requests (principal, request_id, request_hash, time, version) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            once.principal,
            once.request_id.as_bytes(),
            once.request_hash,
            time,
            once.version
        ],
    )?;
    Ok(None)
}

pub(super) fn look_up(connection: &Connection, once: &Idempotency) -> Result<Option<Earlier>, StoreError> {
    let found: Option<(Vec<u8>, Option<u32>)> = connection
        .prepare_cached(
            "SELECT request_hash, version FROM requests WHERE principal = ?1 AND request_id = ?2 AND time > ?3",
        )?
        .query_row(
            params![
                once.principal,
                once.request_id.as_bytes(),
                micros(now()) as i64 - REQUESTS_KEPT_MICROS
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    match found {
        None => Ok(None),
        Some((hash, version)) if hash == once.request_hash => Ok(Some(Earlier { version })),
        Some(_) => Err(StoreError::RequestIdReused),
    }
}

/// The key of page tokens, made where there is none. What it protects is the order of pages and names of keys, which whoever can read the
/// database sees there.
pub(super) fn page_token_key(connection: &Connection) -> Result<[u8; 32], StoreError> {
    let mut fresh = [0; 32];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| StoreError::Database("there is no randomness".to_owned()))?;
    connection.execute(
        "INSERT INTO page_token_key (id, key) VALUES (1, ?1) ON CONFLICT (id) DO NOTHING",
        [fresh],
    )?;
    Ok(connection.query_row("SELECT key FROM page_token_key", [], |row| row.get(0))?)
}

const REQUESTS_KEPT_MICROS: i64 = 24 * 3600 * 1_000_000;

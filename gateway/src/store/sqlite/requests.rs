//! Requests that callers may repeat.

use crate::{
    keys::record::{micros, now},
    store::{Created, Idempotency, StoreError},
};
use rusqlite::{Connection, OptionalExtension, params};

/// Whether a request is a repetition; notes it if it is not.
pub(super) fn recognise(connection: &Connection, once: Option<&Idempotency>) -> Result<Option<Created>, StoreError> {
    let Some(once) = once else { return Ok(None) };
    if let Some(earlier) = look_up(connection, once)? {
        return Ok(Some(earlier));
    }
    let time = micros(now()) as i64;
    connection.execute("DELETE FROM requests WHERE time <= ?1", [time - REQUESTS_KEPT_MICROS])?;
    connection.execute(
        "INSERT INTO requests (principal, request_id, request_hash, time) VALUES (?1, ?2, ?3, ?4)",
        params![once.principal, once.request_id.as_bytes(), once.request_hash, time],
    )?;
    Ok(None)
}

pub(super) fn look_up(connection: &Connection, once: &Idempotency) -> Result<Option<Created>, StoreError> {
    let hash: Option<Vec<u8>> = connection
        .prepare_cached("SELECT request_hash FROM requests WHERE principal = ?1 AND request_id = ?2 AND time > ?3")?
        .query_row(
            params![
                once.principal,
                once.request_id.as_bytes(),
                micros(now()) as i64 - REQUESTS_KEPT_MICROS
            ],
            |row| row.get(0),
        )
        .optional()?;
    match hash {
        None => Ok(None),
        Some(hash) if hash == once.request_hash => Ok(Some(Created::Before)),
        Some(_) => Err(StoreError::RequestIdReused),
    }
}

const REQUESTS_KEPT_MICROS: i64 = 24 * 3600 * 1_000_000;

//! Between SQLite's rows and the gateway's. What is in a row may be anything: a row that cannot be read is malformed, and
//! only that row.

use super::StoreError;
use crate::keys::{
    name::{Id, KeyName, is_id},
    purpose::Purpose,
    record::{KeyRow, Protection, RingRow, Tagged, VersionRow, check_labels, from_micros},
    state::VersionState,
};
use rusqlite::{Row, types::ValueRef};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// The columns that [`read_ring`] reads.
pub(super) const RING_COLUMNS: &str = "ring_id, uid, labels, created, revision, tag";
/// The columns that [`read_key`] reads.
pub(super) const KEY_COLUMNS: &str =
    "uid, ring_id, key_id, purpose, protection, labels, primary_version, created, revision, tag";

pub(super) fn read_ring(row: &Row<'_>) -> Result<Tagged<RingRow>, StoreError> {
    let read = || {
        Some(Tagged {
            row: RingRow {
                id: Id::parse(&row.get::<_, String>(0).ok()?).ok()?,
                uid: Uuid::from_bytes(row.get(1).ok()?),
                labels: read_labels(row, 2)?,
                created: read_time(row, 3)?,
                revision: u64::try_from(row.get::<_, i64>(4).ok()?).ok()?,
            },
            tag: row.get(5).ok()?,
        })
    };
    read().ok_or_else(|| malformed(format!("keyRings/{}", shown(row, 0).unwrap_or_default())))
}

pub(super) fn read_key(row: &Row<'_>) -> Result<Tagged<KeyRow>, StoreError> {
    let id = |column| Id::parse(&row.get::<_, String>(column).ok()?).ok();
    let read = || {
        Some(Tagged {
            row: KeyRow {
                name: KeyName {
                    ring: id(1)?,
                    key: id(2)?,
                },
                uid: Uuid::from_bytes(row.get(0).ok()?),
                purpose: Purpose::from_number(row.get(3).ok()?)?,
                protection: Protection::from_number(row.get(4).ok()?)?,
                labels: read_labels(row, 5)?,
                primary_version: row.get(6).ok()?,
                created: read_time(row, 7)?,
                revision: u64::try_from(row.get::<_, i64>(8).ok()?).ok()?,
            },
            tag: row.get(9).ok()?,
        })
    };
    let name = || {
        format!(
            "keyRings/{}/keys/{}",
            shown(row, 1).unwrap_or_default(),
            shown(row, 2).unwrap_or_default()
        )
    };
    read().ok_or_else(|| malformed(name()))
}

pub(super) fn read_version(row: &Row<'_>, key: &str) -> Result<Tagged<VersionRow>, StoreError> {
    let read = || {
        let token: Vec<u8> = row.get(6).ok()?;
        let members: Vec<String> = serde_json::from_str(&row.get::<_, String>(3).ok()?).ok()?;
        if token.len() > LONGEST_TOKEN || members.len() > MOST_MEMBERS || !members.iter().all(|name| is_id(name)) {
            return None;
        }
        Some(Tagged {
            row: VersionRow {
                key_uid: Uuid::from_bytes(row.get(0).ok()?),
                number: row.get(1).ok()?,
                state: VersionState::from_number(row.get(2).ok()?)?,
                members,
                created: read_time(row, 4)?,
                revision: u64::try_from(row.get::<_, i64>(5).ok()?).ok()?,
                token,
            },
            tag: row.get(7).ok()?,
        })
    };
    read().ok_or_else(|| malformed(format!("{key}/versions/{}", row.get::<_, i64>(1).unwrap_or_default())))
}

/// Labels within the limits that every writer keeps: what is beyond them was put there by somebody else.
fn read_labels(row: &Row<'_>, column: usize) -> Option<BTreeMap<String, String>> {
    let text: String = row.get(column).ok()?;
    let labels: BTreeMap<String, String> = serde_json::from_str(&text).ok()?;
    check_labels(&labels).is_ok().then_some(labels)
}

fn read_time(row: &Row<'_>, column: usize) -> Option<OffsetDateTime> {
    from_micros(u64::try_from(row.get::<_, i64>(column).ok()?).ok()?)
}

/// The bytes of a text column, whatever is in it.
pub(super) fn raw(row: &Row<'_>, column: usize) -> Result<Vec<u8>, StoreError> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    })
}

/// A text column as it can be shown, whatever is in it.
pub(super) fn shown(row: &Row<'_>, column: usize) -> Result<String, StoreError> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            let shown = String::from_utf8_lossy(bytes);
            // It may reach a terminal.
            shown
                .chars()
                .take(LONGEST_SHOWN)
                .map(|one| if one.is_control() { '\u{fffd}' } else { one })
                .collect()
        }
        _ => String::new(),
    })
}

fn malformed(name: String) -> StoreError {
    StoreError::Malformed(name)
}

pub(super) fn labels_text(labels: &BTreeMap<String, String>) -> String {
    serde_json::Value::from_iter(labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))).to_string()
}

pub(super) fn members_text(members: &[String]) -> String {
    serde_json::Value::from(members.to_vec()).to_string()
}

const LONGEST_TOKEN: usize = 16 * 1024;
const MOST_MEMBERS: usize = 64;
const LONGEST_SHOWN: usize = 200;

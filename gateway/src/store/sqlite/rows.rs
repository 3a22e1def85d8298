//! Between SQLite's rows and the gateway's. What is in a row may be anything: a row that cannot be read is malformed, and
//! only that row.

use crate::{
    keys::{
        document::{DocumentKey, DocumentRow},
        name::{Id, KeyName, is_id},
        purpose::Purpose,
        record::{
            History, Hold, KeyProfile, KeyRow, Layout, Protection, Remains, Restriction, RingRow, Tagged, VersionRow,
            check_labels, from_micros,
        },
        state::VersionState,
        use_count::UseCountRow,
    },
    store::StoreError,
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    key_token::Origin,
};
use rusqlite::{Row, types::ValueRef};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// The columns that [`read_ring`] reads.
pub(super) const RING_COLUMNS: &str = "ring_id, uid, labels, created, revision, tag, layout, least_destroy_window";
/// The columns that [`read_key`] reads.
pub(super) const KEY_COLUMNS: &str =
    "uid, ring_id, key_id, purpose, protection, labels, primary_version, created, revision, tag, profile";
/// The columns that [`read_version`] reads.
pub(super) const VERSION_COLUMNS: &str = "key_uid, number, state, members, created, revision, token, tag, layout, reason, \
    activated, deactivated, compromised, destroy, remains";

pub(super) fn read_ring(row: &Row<'_>) -> Result<Tagged<RingRow>, StoreError> {
    let read = || {
        Some(Tagged {
            row: RingRow {
                id: Id::parse(&row.get::<_, String>(0).ok()?).ok()?,
                uid: Uuid::from_bytes(row.get(1).ok()?),
                labels: read_labels(row, 2)?,
                created: read_time(row, 3)?,
                revision: u64::try_from(row.get::<_, i64>(4).ok()?).ok()?,
                layout: Layout::from_number(row.get(6).ok()?)?,
                least_destroy_window: Duration::from_secs(u64::try_from(row.get::<_, i64>(7).ok()?).ok()?),
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
                profile: match row.get::<_, Option<String>>(10).ok()? {
                    None => None,
                    Some(text) => Some(read_profile(&text)?),
                },
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
    let time = |column| match row.get::<_, Option<i64>>(column).ok()? {
        None => Some(None),
        Some(micros) => Some(Some(from_micros(u64::try_from(micros).ok()?)?)),
    };
    let read = || {
        let token: Vec<u8> = row.get(6).ok()?;
        let members: Vec<String> = serde_json::from_str(&row.get::<_, String>(3).ok()?).ok()?;
        let reason: String = row.get(9).ok()?;
        if token.len() > LONGEST_TOKEN
            || members.len() > MOST_MEMBERS
            || !members.iter().all(|name| is_id(name))
            || reason.len() > LONGEST_REASON
        {
            return None;
        }
        let layout = Layout::from_number(row.get(8).ok()?)?;
        let state = VersionState::from_number(row.get(2).ok()?)?;
        let created = read_time(row, 4)?;
        let history = match layout {
            Layout::One => History {
                activated: (state == VersionState::Active).then_some(created),
                ..History::default()
            },
            Layout::Two => History {
                reason,
                activated: time(10)?,
                deactivated: time(11)?,
                compromised: time(12)?,
                destroy: time(13)?,
                remains: match row.get::<_, Option<String>>(14).ok()? {
                    None => None,
                    Some(text) => Some(read_remains(&text)?),
                },
            },
        };
        Some(Tagged {
            row: VersionRow {
                key_uid: Uuid::from_bytes(row.get(0).ok()?),
                number: row.get(1).ok()?,
                state,
                members,
                created,
                revision: u64::try_from(row.get::<_, i64>(5).ok()?).ok()?,
                token,
                layout,
                history,
            },
            tag: row.get(7).ok()?,
        })
    };
    read().ok_or_else(|| malformed(format!("{key}/versions/{}", row.get::<_, i64>(1).unwrap_or_default())))
}

pub(super) fn read_restriction(row: &Row<'_>, key: &str) -> Result<Restriction, StoreError> {
    let read = || {
        Some(Restriction {
            key_uid: Uuid::from_bytes(row.get(0).ok()?),
            number: row.get(1).ok()?,
            state: VersionState::from_number(row.get(2).ok()?).filter(|state| {
                matches!(
                    state,
                    VersionState::Disabled | VersionState::Deactivated | VersionState::Compromised
                )
            })?,
            reason: row
                .get::<_, String>(3)
                .ok()
                .filter(|reason| reason.len() <= LONGEST_REASON)?,
            time: read_time(row, 4)?,
        })
    };
    read().ok_or_else(|| malformed(format!("a restriction of {key}")))
}

/// Reads `number, reason, time`.
pub(super) fn read_hold(row: &Row<'_>, key: &str) -> Result<Hold, StoreError> {
    let read = || {
        Some(Hold {
            number: row.get(0).ok()?,
            reason: row
                .get::<_, String>(1)
                .ok()
                .filter(|reason| reason.len() <= LONGEST_REASON)?,
            time: read_time(row, 2)?,
        })
    };
    read().ok_or_else(|| malformed(format!("a hold of {key}")))
}

pub(super) fn read_use_count(row: &Row<'_>) -> Result<Tagged<UseCountRow>, StoreError> {
    let read = || {
        Some(Tagged {
            row: UseCountRow {
                key_uid: Uuid::from_bytes(row.get(0).ok()?),
                number: row.get(1).ok()?,
                uses: u64::try_from(row.get::<_, i64>(2).ok()?).ok()?,
                encryptions: u64::try_from(row.get::<_, i64>(3).ok()?).ok()?,
            },
            tag: row.get(4).ok()?,
        })
    };
    read().ok_or_else(|| malformed("a use count".to_owned()))
}

/// Reads `ring_id, id, uid, body, created, updated, revision, tag`.
pub(super) fn read_document(row: &Row<'_>, kind: &'static str) -> Result<Tagged<DocumentRow>, StoreError> {
    let read = || {
        let body: Vec<u8> = row.get(3).ok()?;
        if body.len() > LONGEST_DOCUMENT {
            return None;
        }
        Some(Tagged {
            row: DocumentRow {
                key: DocumentKey {
                    kind,
                    ring: row.get(0).ok()?,
                    id: row.get(1).ok()?,
                },
                uid: Uuid::from_bytes(row.get(2).ok()?),
                created: read_time(row, 4)?,
                updated: read_time(row, 5)?,
                revision: u64::try_from(row.get::<_, i64>(6).ok()?).ok()?,
                body,
            },
            tag: row.get(7).ok()?,
        })
    };
    read().ok_or_else(|| {
        let (ring, id) = (shown(row, 0).unwrap_or_default(), shown(row, 1).unwrap_or_default());
        malformed(format!("{kind} {id} in keyRings/{ring}"))
    })
}

fn read_profile(text: &str) -> Option<KeyProfile> {
    let value: Value = serde_json::from_str(text).ok()?;
    let number = |key: &str| value.get(key)?.as_u64();
    let key_type = KeyType::from_number(number("type")?.try_into().ok()?)?;
    let pair = |pair: &Value| {
        Some(PermittedUse {
            operation: Operation::from_number(pair.get(0)?.as_u64()?.try_into().ok()?)?,
            mechanism: Mechanism::from_number(pair.get(1)?.as_u64()?.try_into().ok()?)?,
        })
    };
    let uses: Option<Vec<_>> = value.get("uses")?.as_array()?.iter().map(pair).collect();
    Some(KeyProfile {
        key_type,
        uses: PermittedUses::new(key_type, uses?).ok()?,
        exportable: value.get("exportable")?.as_bool()?,
        last_version: number("last_version")?.try_into().ok()?,
        destroy_window: Duration::from_secs(number("destroy_window")?),
    })
}

fn read_remains(text: &str) -> Option<Remains> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(Remains {
        origin: Origin::from_number(value.get("origin")?.as_u64()?.try_into().ok()?)?,
        epoch: value.get("epoch")?.as_u64()?.try_into().ok()?,
        public_key: hex::decode(value.get("public_key")?.as_str()?).ok()?,
    })
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

pub(super) fn profile_text(profile: &KeyProfile) -> String {
    let uses: Vec<_> = profile
        .uses
        .iter()
        .map(|one| json!([one.operation.number(), one.mechanism.number()]))
        .collect();
    json!({
        "type": profile.key_type.number(),
        "uses": uses,
        "exportable": profile.exportable,
        "last_version": profile.last_version,
        "destroy_window": profile.destroy_window.as_secs(),
    })
    .to_string()
}

pub(super) fn remains_text(remains: &Remains) -> String {
    json!({
        "origin": remains.origin as u8,
        "epoch": remains.epoch,
        "public_key": hex::encode(&remains.public_key),
    })
    .to_string()
}

const LONGEST_DOCUMENT: usize = 256 * 1024;
const LONGEST_REASON: usize = 1024;
const LONGEST_TOKEN: usize = 16 * 1024;
const MOST_MEMBERS: usize = 64;
const LONGEST_SHOWN: usize = 200;

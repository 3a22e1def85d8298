//! Rings, keys and versions as they are stored.
//!
//! Each row has a tag by the domain's mac key over its canonical form, which names its table, so that a row cannot be
//! changed, moved under another name, or passed off as a row of another kind. The layout is fixed in `docs/formats.md`.

use super::{
    name::{Id, KeyName},
    purpose::Purpose,
    state::VersionState,
};
use portcullis_hsm::{
    key_token::{KeyToken, TokenError, token_digest},
    record::{CanonicalWriter, Tag},
};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// The row.
    pub row: T,
    /// The tag as it is stored; empty only before the row is authenticated.
    pub tag: Vec<u8>,
}

impl<T> Tagged<T> {
    /// A row with a tag that the mac key just made.
    pub fn new(row: T, tag: Tag) -> Self {
        Self { row, tag: tag.to_vec() }
    }
}

/// Something that the mac key authenticates as a row.
pub trait Row: Sync {
    /// The canonical form over which the tag is made.
    fn canonical(&self) -> Vec<u8>;
}

/// A key ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingRow {
    /// Its id.
    pub id: Id,
    /// Its identity.
    pub uid: Uuid,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: OffsetDateTime,
    /// Counts changes, from 1.
    pub revision: u64,
}

/// How a key's versions are kept, as the caller chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// In tokens, under the domain.
    Wrapped = 1,
    /// On members.
    Resident = 2,
}

impl Protection {
    /// The protection with this number, if it is known.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Wrapped, Self::Resident]
            .into_iter()
            .find(|one| *one as i64 == number)
    }
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its name.
    pub name: KeyName,
    /// Its identity.
    pub uid: Uuid,
    /// Why it exists.
    pub purpose: Purpose,
    /// How its versions are kept.
    pub protection: Protection,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// The version that operations use when they name only the key.
    pub primary_version: u32,
    /// When it was made.
    pub created: OffsetDateTime,
    /// Counts changes, from 1.
    pub revision: u64,
}

/// A key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The key's identity.
    pub key_uid: Uuid,
    /// Its number, from 1.
    pub number: u32,
    /// Where it is in its life.
    pub state: VersionState,
    /// The members that hold a resident version.
    pub members: Vec<String>,
    /// When it was made.
    pub created: OffsetDateTime,
    /// Counts changes, from 1.
    pub revision: u64,
    /// The key token with its own tag.
    pub token: Vec<u8>,
}

impl VersionRow {
    /// Reads the key token; believe it only after its tag was checked.
    pub fn parse_token(&self) -> Result<KeyToken, TokenError> {
        let (body, _) = KeyToken::split(&self.token)?;
        KeyToken::parse(body)
    }
}

impl Row for RingRow {
    fn canonical(&self) -> Vec<u8> {
        let writer = CanonicalWriter::new()
            .bytes(b"key_ring/1")
            .bytes(self.id.as_str().as_bytes())
            .fixed(self.uid.as_bytes())
            .u64(micros(self.created))
            .u64(self.revision);
        with_labels(writer, &self.labels).finish()
    }
}

impl Row for KeyRow {
    fn canonical(&self) -> Vec<u8> {
        let writer = CanonicalWriter::new()
            .bytes(b"key/1")
            .bytes(self.name.ring.as_str().as_bytes())
            .bytes(self.name.key.as_str().as_bytes())
            .fixed(self.uid.as_bytes())
            .u8(self.purpose as u8)
            .u8(self.protection as u8)
            .u32(self.primary_version)
            .u64(micros(self.created))
            .u64(self.revision);
        with_labels(writer, &self.labels).finish()
    }
}

impl Row for VersionRow {
    fn canonical(&self) -> Vec<u8> {
        let mut writer = CanonicalWriter::new()
            .bytes(b"key_version/1")
            .fixed(self.key_uid.as_bytes())
            .u32(self.number)
            .u8(self.state as u8)
            .u64(micros(self.created))
            .u64(self.revision)
            .fixed(&token_digest(&self.token))
            .u32(self.members.len() as u32);
        for member in &self.members {
            writer = writer.bytes(member.as_bytes());
        }
        writer.finish()
    }
}

/// A key with all its versions, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: Tagged<KeyRow>,
    /// Its versions, by number.
    pub versions: Vec<Tagged<VersionRow>>,
}

/// Says what is wrong with labels: at most 64, keys of 1 to 63 characters, values of at most 255 bytes.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > MOST_LABELS {
        return Err(format!("expected at most {MOST_LABELS}, found {}", labels.len()));
    }
    for (key, value) in labels {
        let valid = |character: char| character.is_ascii_alphanumeric() || "-_./".contains(character);
        if !(1..=63).contains(&key.len()) || !key.chars().all(valid) {
            return Err("a key has 1 to 63 of a-z, A-Z, 0-9, -, _, . and /".to_owned());
        }
        if value.len() > 255 || value.chars().any(char::is_control) {
            return Err("a value has at most 255 bytes and no control characters".to_owned());
        }
    }
    Ok(())
}

const MOST_LABELS: usize = 64;

/// Microseconds since 1970, which is how times are stored.
pub fn micros(time: OffsetDateTime) -> u64 {
    u64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(0)
}

/// A stored time; `None` if it is out of range.
pub fn from_micros(micros: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).ok()
}

/// Now, as precise as it can be stored.
pub fn now() -> OffsetDateTime {
    from_micros(micros(OffsetDateTime::now_utc())).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn with_labels(writer: CanonicalWriter, labels: &BTreeMap<String, String>) -> CanonicalWriter {
    labels
        .iter()
        .fold(writer.u32(labels.len() as u32), |writer, (key, value)| {
            writer.bytes(key.as_bytes()).bytes(value.as_bytes())
        })
}

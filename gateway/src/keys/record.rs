//! Rings, keys and versions as they are stored.
//!
//! Each row has a tag by the domain's mac key over its canonical form, which names its table, so that a row cannot be
//! changed, moved under another name, or passed off as a row of another kind. The layout is fixed in `docs/formats.md`.

use super::{
    name::{Id, KeyName},
    purpose::Purpose,
    state::{Past, VersionState},
};
use portcullis_hsm::{
    algorithm::{KeyType, PermittedUse, PermittedUses},
    key_token::{KeyToken, Origin, TokenError, token_digest},
    record::{CanonicalWriter, Tag},
};
use std::{collections::BTreeMap, time::Duration};
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

/// The layout of a row's canonical form. A row is written in the newest one when it is changed, and read in any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// What a version before this one wrote.
    One = 1,
    /// With what keys need to be rotated, imported and destroyed.
    Two = 2,
}

impl Layout {
    /// The layout with this number, if it is known.
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::One, Self::Two].into_iter().find(|one| *one as i64 == number)
    }
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
    /// How it is laid out.
    pub layout: Layout,
    /// The least time between the scheduling of a destruction in it and the destruction; layout 2.
    pub least_destroy_window: Duration,
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
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Wrapped, Self::Resident];

    /// The protection with this number, if it is known.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as i64 == number)
    }

    /// The name, as policies and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrapped => "WRAPPED",
            Self::Resident => "RESIDENT",
        }
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
    /// What every version of the key is; layout 2. A row of layout 1 leaves it to the token of its only version.
    pub profile: Option<KeyProfile>,
}

/// What every version of a key is, whether it has key material or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProfile {
    /// What the key is.
    pub key_type: KeyType,
    /// What it may do.
    pub uses: PermittedUses,
    /// Whether it may be exported under another HSM key.
    pub exportable: bool,
    /// The highest number that a version ever had.
    pub last_version: u32,
    /// The time between the scheduling of a destruction and the destruction, where the caller of that names none.
    pub destroy_window: Duration,
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
    /// The key token with its own tag; empty before key material was imported and after it was destroyed.
    pub token: Vec<u8>,
    /// How it is laid out.
    pub layout: Layout,
    /// What happened to it; layout 2. For layout 1 this is what follows from the other fields.
    pub history: History,
}

/// What happened to a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Why it came to its state, where somebody said so.
    pub reason: String,
    /// When it came into use first.
    pub activated: Option<OffsetDateTime>,
    /// When its protecting use was ended.
    pub deactivated: Option<OffsetDateTime>,
    /// When it was marked as compromised.
    pub compromised: Option<OffsetDateTime>,
    /// When it is, or was, to be destroyed.
    pub destroy: Option<OffsetDateTime>,
    /// What is left of a destroyed version.
    pub remains: Option<Remains>,
}

/// What is left of a destroyed version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Where it came from.
    pub origin: Origin,
    /// The domain epoch under which it was sealed.
    pub epoch: u32,
    /// SubjectPublicKeyInfo in DER; empty for secret keys.
    pub public_key: Vec<u8>,
}

impl VersionRow {
    /// Reads the key token, if there is one; believe it only after its tag was checked.
    pub fn parse_token(&self) -> Result<Option<KeyToken>, TokenError> {
        if self.token.is_empty() {
            return Ok(None);
        }
        let (body, _) = KeyToken::split(&self.token)?;
        KeyToken::parse(body).map(Some)
    }

    /// What decides where the version can go.
    pub fn past(&self) -> Past {
        Past {
            activated: self.history.activated.is_some(),
            deactivated: self.history.deactivated.is_some(),
            compromised: self.history.compromised.is_some(),
            material: !self.token.is_empty(),
        }
    }

    /// The next form of the row, in a state: the history says when it came there, and why.
    #[must_use]
    pub fn entering(&self, state: VersionState, reason: &str, now: OffsetDateTime) -> Self {
        let mut next = Self {
            state,
            revision: self.revision + 1,
            layout: Layout::Two,
            ..self.clone()
        };
        next.history.reason = reason.to_owned();
        let first = |time: &mut Option<OffsetDateTime>| {
            time.get_or_insert(now);
        };
        match state {
            VersionState::Active => first(&mut next.history.activated),
            VersionState::Deactivated => first(&mut next.history.deactivated),
            VersionState::Compromised => first(&mut next.history.compromised),
            _ => {}
        }
        next
    }
}

impl VersionRow {
    /// The next form of a row that is marked as compromised and stays in its state.
    #[must_use]
    pub fn marked_compromised(&self, reason: &str, now: OffsetDateTime) -> Self {
        let mut next = self.entering(self.state, reason, now);
        next.history.compromised.get_or_insert(now);
        next
    }

    /// The next form of a row whose destruction is stopped: it waits for its destruction, and has no time for it.
    #[must_use]
    pub fn held(&self, hold: &Hold) -> Self {
        let mut next = self.entering(VersionState::DestroyScheduled, &hold.reason, hold.time);
        next.history.destroy = None;
        next
    }

    /// Whether a restriction still takes something away from it. What waits for its destruction can be marked once.
    pub fn is_restricted_by(&self, to: VersionState) -> bool {
        match (self.state, to) {
            (VersionState::DestroyScheduled, VersionState::Compromised) => self.history.compromised.is_none(),
            (state, to) => state.is_restricted_by(to),
        }
    }

    /// The next form of the row with a restriction as part of it.
    #[must_use]
    pub fn restricted(&self, restriction: &Restriction) -> Self {
        let Restriction {
            state, reason, time, ..
        } = restriction;
        match self.state {
            VersionState::DestroyScheduled => self.marked_compromised(reason, *time),
            _ => self.entering(*state, reason, *time),
        }
    }
}

impl Row for RingRow {
    fn canonical(&self) -> Vec<u8> {
        let label: &[u8] = match self.layout {
            Layout::One => b"key_ring/1",
            Layout::Two => b"key_ring/2",
        };
        let writer = CanonicalWriter::new()
            .bytes(label)
            .bytes(self.id.as_str().as_bytes())
            .fixed(self.uid.as_bytes())
            .u64(micros(self.created))
            .u64(self.revision);
        let writer = with_labels(writer, &self.labels);
        match self.layout {
            Layout::One => writer.finish(),
            Layout::Two => writer.u64(self.least_destroy_window.as_secs()).finish(),
        }
    }
}

impl Row for KeyRow {
    fn canonical(&self) -> Vec<u8> {
        let label: &[u8] = match self.profile {
            None => b"key/1",
            Some(_) => b"key/2",
        };
        let writer = CanonicalWriter::new()
            .bytes(label)
            .bytes(self.name.ring.as_str().as_bytes())
            .bytes(self.name.key.as_str().as_bytes())
            .fixed(self.uid.as_bytes())
            .u8(self.purpose as u8)
            .u8(self.protection as u8)
            .u32(self.primary_version)
            .u64(micros(self.created))
            .u64(self.revision);
        let writer = with_labels(writer, &self.labels);
        match &self.profile {
            None => writer.finish(),
            Some(profile) => {
                let writer = writer
                    .u16(profile.key_type.number())
                    .u8(profile.exportable.into())
                    .u32(profile.last_version)
                    .u64(profile.destroy_window.as_secs())
                    .u16(profile.uses.iter().len() as u16);
                let with_use = |writer: CanonicalWriter, one: PermittedUse| {
                    writer.u8(one.operation.number()).u16(one.mechanism.number())
                };
                profile.uses.iter().fold(writer, with_use).finish()
            }
        }
    }
}

impl Row for VersionRow {
    fn canonical(&self) -> Vec<u8> {
        let label: &[u8] = match self.layout {
            Layout::One => b"key_version/1",
            Layout::Two => b"key_version/2",
        };
        let mut writer = CanonicalWriter::new()
            .bytes(label)
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
        match self.layout {
            Layout::One => writer.finish(),
            Layout::Two => self.history.write(writer).finish(),
        }
    }
}

impl History {
    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        let time = |time: Option<OffsetDateTime>| time.map_or(0, micros);
        let writer = writer
            .bytes(self.reason.as_bytes())
            .u64(time(self.activated))
            .u64(time(self.deactivated))
            .u64(time(self.compromised))
            .u64(time(self.destroy));
        match &self.remains {
            None => writer.u8(0),
            Some(Remains {
                origin,
                epoch,
                public_key,
            }) => writer.u8(*origin as u8).u32(*epoch).bytes(public_key),
        }
    }
}

/// A key with all its versions, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: Tagged<KeyRow>,
    /// Its versions, by number.
    pub versions: Vec<Tagged<VersionRow>>,
    /// What was taken from versions while no HSM could authenticate it.
    pub restrictions: Vec<Restriction>,
    /// Destructions that a restore stopped.
    pub holds: Vec<Hold>,
    /// The highest number that a version may have had, as a restore presumes it; 0 where it does not.
    pub presumed_last_version: u32,
}

/// A state to which a version was brought while no HSM could authenticate the change. It has no tag: it can only take away
/// what a version may do, and becomes part of the version's row as soon as an HSM serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// The key.
    pub key_uid: Uuid,
    /// The version.
    pub number: u32,
    /// DISABLED, DEACTIVATED or COMPROMISED.
    pub state: VersionState,
    /// Why.
    pub reason: String,
    /// When.
    pub time: OffsetDateTime,
}

/// A destruction that a restore stopped: what the time after the backup decided about it, a backup does not know. It has no tag: it
/// can only keep a version from being destroyed before somebody says so again, and becomes part of the version's row as soon as an
/// HSM serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The version.
    pub number: u32,
    /// Why.
    pub reason: String,
    /// When.
    pub time: OffsetDateTime,
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

/// The time between the scheduling of a destruction and the destruction where nobody says anything else.
pub const DEFAULT_DESTROY_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);

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

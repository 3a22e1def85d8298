//! The script: what is done, in which order, by whom.
//!
//! It is reviewed, its hash is read aloud, and the same bytes are rehearsed and run. It has no field for a secret, no
//! command, no condition and no loop.

mod action;
mod deed;
mod kind;
mod order;
mod parse;
mod plan;
mod secrets;

pub use action::{Action, Spoken};
pub use deed::{Activation, Deed, RestoredAs, RootKeyType, TransportHash, UserPin};
pub use kind::Kind;
pub(crate) use secrets::looks_secret;

use crate::{name::Name, problem::Problems, words::Words};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

/// A ceremony as it was reviewed.
#[derive(Debug, Clone)]
pub struct Script {
    /// Which ceremony it is.
    pub kind: Kind,
    /// Its title, on every page.
    pub title: String,
    /// Why it is held: shown to everyone at the roll call.
    pub purpose: String,
    /// What is permitted.
    pub policy: Policy,
    /// When it may be held.
    pub window: Window,
    /// The custodians, if it needs them.
    pub quorum: Option<Quorum>,
    /// Who else takes part.
    pub roles: Vec<Role>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The hash of the file.
    pub hash: FileHash,
}

/// What a script permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether production may use tokens that are software.
    pub software_tokens: Permission,
    /// Whether production needs the bundle of a rehearsal of this very script.
    pub rehearsal: Need,
}

/// Whether something is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It is.
    Allowed,
    /// It is not.
    Refused,
}

/// Whether something must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may.
    Optional,
}

/// When a script may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: OffsetDateTime,
    /// The moment after the last.
    pub until: OffsetDateTime,
}

impl Window {
    /// Whether a moment is in it.
    pub fn contains(&self, now: OffsetDateTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// The custodians and how many of them are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// How many must be present and agree.
    pub need: u8,
    /// Their seats.
    pub of: Vec<Name>,
    /// Seats of those who may come for one who cannot.
    pub alternates: Vec<Name>,
    /// Roles whose holders may not be custodians.
    pub exclude_roles: Vec<Name>,
    /// Whether the script says that it wants all of them: losing one then loses everything.
    pub all_needed: bool,
}

/// A seat that is not a custodian's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name in this script.
    pub id: Name,
    /// What its holder does.
    pub kind: RoleKind,
    /// How many people hold it.
    pub count: u8,
}

/// What the holder of a role does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RoleKind {
    /// Leads through the script.
    Administrator,
    /// Handles tokens and types.
    Operator,
    /// Watches and signs, and holds no key material.
    Witness,
    /// Watches for somebody outside.
    Auditor,
    /// Answers for a member that joins.
    Owner,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, once in the script.
    pub id: Name,
    /// What is done.
    pub action: Action,
    /// The seats that do it; `custodians` stands for a quorum of them.
    pub by: Vec<Name>,
    /// The seats whose holders sign the transcript after it.
    pub sign_off: Vec<Name>,
    /// What happens if it fails.
    pub on_fail: OnFail,
    /// What is said to people beside what the step itself says.
    pub note: Option<String>,
}

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFail {
    /// The ceremony ends and what it made is destroyed.
    Abort,
    /// It is tried again, so many times.
    Retry(u8),
    /// People decide and sign what they decided.
    Exception,
}

/// The SHA-256 of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileHash([u8; 32]);

impl Script {
    /// Reads a script and holds it to everything that can be said of it alone.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        parse::parse(text)
    }

    /// The step of this name.
    pub fn step(&self, id: &Name) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The role of this name.
    pub fn role(&self, id: &Name) -> Option<&Role> {
        self.roles.iter().find(|role| role.id == *id)
    }

    /// Whether a seat is a custodian's.
    pub fn is_custodian(&self, seat: &Name) -> bool {
        self.quorum
            .as_ref()
            .is_some_and(|quorum| quorum.of.contains(seat) || quorum.alternates.contains(seat))
    }

    /// Every step in words, with who does it: what `plan` prints and people review.
    pub fn plan(&self) -> Vec<String> {
        plan::plan(self)
    }
}

impl Step {
    /// What is done and by whom, in a line.
    pub fn in_words(&self) -> String {
        plan::step_in_words(self)
    }
}

impl FileHash {
    /// Of a file's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(hash)
    }

    /// From 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (hex::encode(bytes) == text).then_some(Self(bytes))
    }

    /// As words to read aloud: the first sixteen bytes, which nobody can match by trying.
    pub fn words(&self) -> Words {
        Words::of(&self.0[..SPOKEN_BYTES])
    }
}

impl TryFrom<String> for FileHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected 64 hexadecimal digits in lower case")
    }
}

impl From<FileHash> for String {
    fn from(hash: FileHash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FileHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Witness => "witness",
            Self::Auditor => "auditor",
            Self::Owner => "owner",
        })
    }
}

/// Stands for a quorum of custodians where a step says who acts.
pub const CUSTODIANS: &str = "custodians";

/// A second preimage of 128 bits is out of reach, and sixteen words can be read and typed without a mistake.
const SPOKEN_BYTES: usize = 16;

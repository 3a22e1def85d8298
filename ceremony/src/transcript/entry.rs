//! What a line of the transcript says.

use super::{Head, Statement};
use crate::{
    environment::Class,
    name::Name,
    script::{FileHash, Kind},
};
use portcullis_provisioning::{Moment, custodian::CustodianName, signing_key::PublicKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1.
    pub seq: u64,
    /// The hash of the line before it.
    pub prev: Head,
    /// When, by the host's clock.
    pub at: Moment,
    /// Milliseconds since the program was started, by a clock that nobody sets.
    pub ms: u64,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Event {
    /// The ceremony began: always the first line.
    Opened(Box<Opened>),
    /// It was taken up again, by a new run of the program.
    Resumed {
        /// The hash of the program.
        tool: FileHash,
        /// Where answers came from.
        front: FrontKind,
    },
    /// A step is about to be done.
    Intent {
        /// Which.
        step: Name,
        /// The how many-th time.
        attempt: u32,
        /// Who does it.
        by: Vec<CustodianName>,
    },
    /// Somebody is here.
    Present {
        /// Who.
        person: CustodianName,
    },
    /// Somebody is not here.
    Absent {
        /// Who.
        person: CustodianName,
    },
    /// A root key is about to sign.
    Used {
        /// In which step.
        step: Name,
        /// The how many-th time the step is done.
        attempt: u32,
        /// The how many-th use, over all attempts of the step.
        number: u32,
        /// What it signs: the digest, in hexadecimal.
        digest: String,
    },
    /// A step was done.
    Result {
        /// Which.
        step: Name,
        /// The how many-th time.
        attempt: u32,
        /// What was seen, public all of it.
        facts: BTreeMap<String, String>,
        /// Files that it made, by their names in the bundle's `artefacts`.
        artefacts: BTreeMap<String, FileHash>,
    },
    /// A step failed. What it had made on a token is destroyed again, now or when the next attempt or an abort looks for it.
    Failed {
        /// Which.
        step: Name,
        /// The how many-th time.
        attempt: u32,
        /// Why.
        what: String,
    },
    /// The program ended in the middle of a step, or people left it. What it had made on a token is known by its `CKA_ID`: the next
    /// attempt, or an abort, destroys it.
    Interrupted {
        /// Which.
        step: Name,
        /// The how many-th time.
        attempt: u32,
    },
    /// Somebody signed everything before this line.
    Signed {
        /// Who.
        person: CustodianName,
        /// What they say by it.
        statement: Statement,
        /// The signature, in base64.
        signature: String,
    },
    /// Something did not go by the script.
    Exception {
        /// Its number, from 1.
        number: u32,
        /// What happened.
        what: String,
        /// Who noticed.
        noticed_by: CustodianName,
        /// What it means for the ceremony.
        effect: String,
    },
    /// It was decided what follows from an exception. The administrator and the witness sign it.
    Decided {
        /// The exception's number.
        number: u32,
        /// What is done.
        decision: Decision,
        /// Why.
        reason: String,
    },
    /// People leave the room; the ceremony goes on later.
    Paused {
        /// Why.
        why: String,
    },
    /// The ceremony ends without its purpose, before anything was done with a token.
    Postponed {
        /// Why.
        why: String,
    },
    /// The ceremony ends without its purpose.
    Aborted {
        /// Why.
        why: String,
        /// What may remain of what it made. Nothing is the rule.
        residue: Vec<String>,
        /// The steps whose objects were destroyed and looked for again, in vain.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        swept: Vec<Name>,
        /// Files in the bundle's `artefacts` by which people can deal with what remains.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        artefacts: BTreeMap<String, FileHash>,
    },
    /// Every step was done.
    Closed {},
}

/// How a ceremony began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Its id.
    pub ceremony: Uuid,
    /// Which ceremony it is.
    pub kind: Kind,
    /// Whether it counts.
    pub class: Class,
    /// The hash of `script.toml`.
    pub script: FileHash,
    /// The hash of `env.toml`.
    pub environment: FileHash,
    /// The hash of the program.
    pub tool: FileHash,
    /// The program's version.
    pub version: String,
    /// Where answers come from.
    pub front: FrontKind,
    /// The rehearsal of the same script.
    pub rehearsal: Option<RehearsalLink>,
    /// The people.
    pub participants: Vec<Participant>,
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participant {
    /// What they are called.
    pub name: CustodianName,
    /// Their seats.
    pub seats: Vec<Name>,
    /// Their key.
    pub key: PublicKey,
}

/// A rehearsal, and how long its steps took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearsalLink {
    /// The id of the rehearsal.
    pub ceremony: Uuid,
    /// The last hash of its transcript.
    pub head: Head,
    /// Milliseconds from the intent of each step to its result.
    pub durations: BTreeMap<Name, u64>,
}

/// Where the answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontKind {
    /// People at a terminal.
    Terminal,
    /// A program, by a descriptor.
    Descriptor,
}

/// What follows from an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The step is done again.
    Repeat,
    /// The ceremony goes on as it stands.
    GoOn,
    /// The ceremony is aborted.
    Abort,
}

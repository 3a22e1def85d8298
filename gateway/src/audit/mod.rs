//! The audit log: an entry per decision and outcome, written before the reply, chained by hash.
//!
//! Entries of key use are written before the reply and synced within [`SYNC_INTERVAL`]; entries of changes are synced before
//! the reply. If an entry cannot be written, the caller gets no result: the gateway does not work unseen.
//!
//! - `chain`: numbers and hashes, and their check over the files of a log.
//! - `files`: the log's files as they lie beside each other, compressed or not.
//! - `file`: one file: its end, its place, its lock.
//! - `log`: the writer and the change from one file to the next.
//! - `head`: the note of the chain's end beside the database.
//! - `details`: what changes did.

mod chain;
mod details;
mod file;
pub mod files;
mod head;
mod log;

pub use chain::{ChainError, ChainHead, ChainSummary, ChainVerifier, verify};
pub use details::{Details, MadeKey};
pub use log::{AuditError, AuditLog, LONGEST_ENTRY, LOOK_INTERVAL, SYNC_INTERVAL};

use serde::Serialize;
use std::collections::BTreeMap;

/// Where in a request's life an entry was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A change is decided and about to be made.
    Intent,
    /// The request ended.
    Outcome,
    /// The gateway itself: it started, stopped, or repaired the log.
    Gateway,
}

/// One entry. Holds names and outcomes; never a payload, a key or a PIN.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Where in the request's life it was written.
    pub phase: Phase,
    /// The request's id, as errors name it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the entries of one batch or stream have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// How the caller proved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Where the caller is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What was asked for.
    pub action: &'static str,
    /// On which resource; the version that was used, once it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// What the caller said instead of that: the alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// The rule that allowed or forbade it; absent where none did, so that it was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What else the call needed to be allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Permission>,
    /// The mechanism.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<&'static str>,
    /// The caller's encryption context, which is public by definition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// What a change did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// The caller's id for the change, by which a repetition is recognised: it changes nothing again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether the caller wanted to know only whether it would be done (`validate_only`, `dry_run`).
    #[serde(skip_serializing_if = "is_false")]
    pub only_checked: bool,
    /// Why, where somebody said so: of a change of state, or of the use of a compromised key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The member that did the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// `OK`, or the stable reason of the error.
    pub outcome: String,
}

/// A second permission that a call needed.
#[derive(Debug, Clone, Serialize)]
pub struct Permission {
    /// What for.
    pub action: &'static str,
    /// On which resource.
    pub resource: String,
    /// The encryption context that goes with this one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// The rule that allowed or forbade it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The decision.
    pub allowed: bool,
}

impl Entry {
    /// An entry about the gateway itself.
    pub fn gateway(action: &'static str, outcome: impl Into<String>) -> Self {
        Self {
            phase: Phase::Gateway,
            request: None,
            batch: None,
            principal: None,
            method: None,
            peer: None,
            action,
            resource: String::new(),
            named: None,
            rule: None,
            also: Vec::new(),
            mechanism: None,
            context: BTreeMap::new(),
            details: None,
            request_id: None,
            only_checked: false,
            reason: None,
            member: None,
            outcome: outcome.into(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

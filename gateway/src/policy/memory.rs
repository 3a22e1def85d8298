//! Answers that cannot change while the same policies are loaded.
//!
//! An answer is remembered only if no policy that was asked looks at the time, the encryption context or the caller's address.
//! It is found by a hash under a secret key, and used only if the whole question is the same.

use super::{Action, Circumstances, Decision, KeyFacts, Question, Resource, engine::Candidates};
use crate::{
    identity::{AuthenticationMethod, Principal},
    keys::{
        name::{Id, KeyName},
        purpose::Purpose,
        record::Protection,
    },
};
use moka::sync::Cache;
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};

/// What was found out with the loaded policies.
#[derive(Debug)]
pub(super) struct Memory {
    hashes: RandomState,
    candidates: Cache<u64, Arc<Candidates>>,
    decisions: Cache<u64, Arc<Remembered>>,
}

/// A question, as far as an answer that is remembered can depend on it, and the answer.
#[derive(Debug)]
pub(super) struct Remembered {
    principal: Principal,
    method: AuthenticationMethod,
    action: Action,
    resource: Known,
    mechanism: Option<Mechanism>,
    primary_version: Option<bool>,
    decision: Decision,
}

#[derive(Debug)]
enum Known {
    Gateway,
    KeyRing(Id),
    Key {
        name: KeyName,
        labels: BTreeMap<String, String>,
        purpose: Purpose,
        key_type: KeyType,
        protection: Protection,
        exportable: bool,
    },
}

impl Memory {
    /// With room for so many answers.
    pub(super) fn new(answers: u32) -> Self {
        Self {
            hashes: RandomState::new(),
            candidates: Cache::new(MOST_CANDIDATES),
            decisions: Cache::new(answers.into()),
        }
    }

    /// The answer to a question, if it was asked before and cannot have changed.
    pub(super) fn recall(&self, question: &Question<'_>) -> Option<Decision> {
        let remembered = self.decisions.get(&self.hash_of(&question.into()))?;
        remembered.answers(question).then(|| remembered.decision.clone())
    }

    /// Keeps an answer that cannot change.
    pub(super) fn keep(&self, remembered: Remembered) {
        let hash = self.hash_of(&Asked::from(&remembered));
        self.decisions.insert(hash, Arc::new(remembered));
    }

    /// The policies to ask about a principal and an action, selected once.
    pub(super) fn candidates(
        &self,
        principal: &Principal,
        action: Action,
        select: impl FnOnce() -> Candidates,
    ) -> Arc<Candidates> {
        let hash = self.hashes.hash_one((principal, action));
        match self.candidates.get(&hash) {
            Some(known) if known.principal == *principal && known.action == action => known,
            _ => {
                let selected = Arc::new(select());
                self.candidates.insert(hash, Arc::clone(&selected));
                selected
            }
        }
    }

    fn hash_of(&self, asked: &Asked<'_>) -> u64 {
        self.hashes.hash_one(asked)
    }
}

impl Remembered {
    pub(super) fn new(question: &Question<'_>, decision: Decision) -> Self {
        Self {
            principal: question.peer.principal.clone(),
            method: question.peer.method,
            action: question.action,
            resource: match question.resource {
                Resource::Gateway => Known::Gateway,
                Resource::KeyRing(ring) => Known::KeyRing(ring.clone()),
                Resource::Key(key) => Known::Key {
                    name: key.name.clone(),
                    labels: key.labels.clone(),
                    purpose: key.purpose,
                    key_type: key.key_type,
                    protection: key.protection,
                    exportable: key.exportable,
                },
            },
            mechanism: question.circumstances.mechanism,
            primary_version: question.circumstances.primary_version,
            decision,
        }
    }

    fn answers(&self, question: &Question<'_>) -> bool {
        Asked::from(self) == Asked::from(question)
    }
}

/// What an answer that is remembered can depend on, and nothing else.
#[derive(PartialEq, Eq, Hash)]
struct Asked<'a> {
    principal: &'a Principal,
    method: &'static str,
    action: Action,
    resource: Place<'a>,
    mechanism: Option<Mechanism>,
    primary_version: Option<bool>,
}

#[derive(PartialEq, Eq)]
enum Place<'a> {
    Gateway,
    KeyRing(&'a Id),
    Key(KeyFacts<'a>),
}

impl Hash for Place<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The rest of a key's facts is compared, and seldom differs under one name.
        match self {
            Self::Gateway => state.write_u8(0),
            Self::KeyRing(ring) => ring.hash(state),
            Self::Key(key) => key.name.hash(state),
        }
    }
}

impl<'a> From<&Question<'a>> for Asked<'a> {
    fn from(question: &Question<'a>) -> Self {
        let Circumstances {
            mechanism,
            // What depends on it is not remembered.
            encryption_context: _,
            primary_version,
        } = question.circumstances;
        Self {
            principal: &question.peer.principal,
            method: question.peer.method.name(),
            action: question.action,
            resource: match question.resource {
                Resource::Gateway => Place::Gateway,
                Resource::KeyRing(ring) => Place::KeyRing(ring),
                Resource::Key(key) => Place::Key(key),
            },
            mechanism,
            primary_version,
        }
    }
}

impl<'a> From<&'a Remembered> for Asked<'a> {
    fn from(remembered: &'a Remembered) -> Self {
        Self {
            principal: &remembered.principal,
            method: remembered.method.name(),
            action: remembered.action,
            resource: match &remembered.resource {
                Known::Gateway => Place::Gateway,
                Known::KeyRing(ring) => Place::KeyRing(ring),
                Known::Key {
                    name,
                    labels,
                    purpose,
                    key_type,
                    protection,
                    exportable,
                } => Place::Key(KeyFacts {
                    name,
                    labels,
                    purpose: *purpose,
                    key_type: *key_type,
                    protection: *protection,
                    exportable: *exportable,
                }),
            },
            mechanism: remembered.mechanism,
            primary_version: remembered.primary_version,
        }
    }
}

const MOST_CANDIDATES: u64 = 20_000;

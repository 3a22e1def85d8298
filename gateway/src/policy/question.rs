//! What a policy is asked.

use super::Action;
use crate::{
    identity::Peer,
    keys::{
        name::{Id, KeyName},
        purpose::Purpose,
        record::Protection,
    },
};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use std::{collections::BTreeMap, fmt};

/// What is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub peer: &'a Peer,
    /// What for.
    pub action: Action,
    /// On what.
    pub resource: Resource<'a>,
    /// Under which circumstances.
    pub circumstances: Circumstances<'a>,
}

/// What something is done to.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// The gateway itself: its members, its random numbers, its audit log.
    Gateway,
    /// A key ring, which need not exist.
    KeyRing(&'a Id),
    /// A key.
    Key(KeyFacts<'a>),
}

/// What a policy may know of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFacts<'a> {
    /// Its name.
    pub name: &'a KeyName,
    /// The labels that its administrators gave it.
    pub labels: &'a BTreeMap<String, String>,
    /// Why it exists.
    pub purpose: Purpose,
    /// What it is.
    pub key_type: KeyType,
    /// How it is kept.
    pub protection: Protection,
    /// Whether it may be exported under another HSM key.
    pub exportable: bool,
}

impl<'a> KeyFacts<'a> {
    /// Of a key of which nothing but its name is known.
    pub fn unknown(name: &'a KeyName) -> Self {
        static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
        Self {
            name,
            labels: &NO_LABELS,
            purpose: Purpose::Custom,
            key_type: KeyType::Aes256,
            protection: Protection::Wrapped,
            exportable: false,
        }
    }
}

/// What else a policy may know of a request. Has no default: who asks says what is known.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The mechanism that is to be used.
    pub mechanism: Option<Mechanism>,
    /// The encryption context that the caller gave.
    pub encryption_context: Option<&'a BTreeMap<String, String>>,
    /// Whether the key's primary version is used.
    pub primary_version: Option<bool>,
}

impl Circumstances<'static> {
    /// Of a request that uses no key and names no version.
    pub const NONE: Self = Self {
        mechanism: None,
        encryption_context: None,
        primary_version: None,
    };

    /// Of a request about a version: whether that is the primary one.
    pub fn about_version(primary: bool) -> Self {
        Self {
            primary_version: Some(primary),
            ..Self::NONE
        }
    }

    /// Of a request that moves key material: how that is wrapped on its way, if it is.
    pub fn moving_by(mechanism: Option<Mechanism>) -> Self {
        Self {
            mechanism,
            ..Self::NONE
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => formatter.write_str("the gateway"),
            Self::KeyRing(ring) => write!(formatter, "keyRings/{ring}"),
            Self::Key(key) => key.name.fmt(formatter),
        }
    }
}

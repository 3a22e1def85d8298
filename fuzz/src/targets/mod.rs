//! The targets, by what they read.
//!
//! - `tokens`, `ciphertexts`, `sealed`, `documents`: the formats of `docs/formats.md` that are handed out or stored as bytes.
//! - `rows`: the columns of the database.
//! - `audit`, `backup`: the files that `portcullisd audit verify` and `portcullisd backup` read.
//! - `names`: names, principals and filters in requests.
//! - `keys`, `certificates`: public and private keys, signatures, certificates, trust files.
//! - `frames`: the messages between the gateway and its workers.
//! - `requests`: requests, as callers send them.
//! - `pkcs11`: what callers of the PKCS#11 module give it, and its configuration.
//! - `configuration`: the configuration, policies and PINs.
//! - `ceremonies`: scripts, environments, keys, transcripts and manifests of ceremonies.

mod audit;
mod backup;
mod ceremonies;
mod certificates;
mod ciphertexts;
mod configuration;
mod documents;
mod frames;
mod keys;
mod names;
mod pkcs11;
mod requests;
mod rows;
mod sealed;
mod tokens;

pub use requests::become_worker_if_asked;

use crate::Target;

/// Every target.
pub const TARGETS: &[Target] = &[
    tokens::KEY_TOKENS,
    tokens::EPHEMERAL_TOKENS,
    ciphertexts::CIPHERTEXTS,
    sealed::SEALED_HEADERS,
    documents::DOCUMENTS,
    rows::ROWS,
    audit::AUDIT_LOG,
    audit::AUDIT_FILES,
    backup::BACKUPS,
    names::NAMES,
    names::FILTERS,
    keys::PUBLIC_KEYS,
    keys::PRIVATE_KEYS,
    keys::SIGNATURES,
    certificates::CERTIFICATES,
    certificates::TRUST,
    frames::WORKER_REQUESTS,
    frames::WORKER_REPLIES,
    configuration::SETTINGS,
    configuration::POLICIES,
    configuration::PINS,
    pkcs11::TEMPLATES,
    pkcs11::MECHANISMS,
    pkcs11::SETTINGS,
    ceremonies::SCRIPTS,
    ceremonies::ENVIRONMENTS,
    ceremonies::TRANSCRIPTS,
    ceremonies::MANIFESTS,
    ceremonies::KEYS,
    requests::MESSAGES,
    requests::REQUESTS,
];

/// A sample of `samples/`.
macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/", $name)).as_slice()
    };
}
use sample;

/// The test vectors of the formats.
fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../docs/vectors.json")).expect("docs/vectors.json is JSON")
}

/// Bytes in the vectors.
fn bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hexadecimal text")).expect("hexadecimal text")
}

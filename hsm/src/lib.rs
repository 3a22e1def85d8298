//! All that speaks to an HSM.
//!
//! From the C library upwards:
//!
//! - [`pkcs11`]: the only `unsafe` code. Loads a module and gives safe, blocking calls on it, one C call each.
//! - [`return_code`]: what every PKCS#11 return code means for the caller, in one table.
//! - [`algorithm`]: key types, operations and mechanisms with their permanent numbers, and the uses a key may have.
//! - [`template`]: complete attribute templates; nothing is left to a module's defaults.
//! - [`public_key`]: public keys between PKCS#11 attributes and SubjectPublicKeyInfo.
//! - [`private_key`]: private keys in clear, as an import brings them; `proof`: that a private key has its public key.
//! - [`capability`]: what a token can really do, found by asking and trying; [`sealing`]: whether it can hold a sealing domain.
//! - [`domain`]: the seal, portable and mac keys that all members of a cluster share, or a mac key alone: creation, cloning,
//!   fingerprint, and the operations that must fail on them.
//! - [`key_token`]: the authenticated, wrapped form in which a key is stored outside the HSM.
//! - [`ephemeral_token`]: the same for a key that is not stored and belongs to one caller for a while.
//! - [`record`]: messages that the domain's mac key authenticates: key tokens, stored rows, probes.
//! - [`loaded`]: key tokens loaded into a member: a bounded, pinned LRU behind the keeper session.
//! - [`resident`]: keys that live on a member as token objects.
//! - [`token`]: tokens found by label or serial number, and initialised.
//! - [`member`]: an open token: login, guard and keeper sessions, and each operation on keys.
//! - [`offline_token`]: a token in a ceremony's own program, logged in for one deed at a time; [`object_id`]: what a ceremony made, found
//!   again; [`root_key`]: keys that sign only when custodians give the PIN; `refusal`: what a token refused, and what only failed.
//! - [`worker`]: the process that wraps a member: its framed protocol, its threads, its hardening.
//!
//! Everything here is synchronous. The gateway speaks to [`worker`] processes over a socket; a ceremony may use
//! [`member`] and [`domain`] in its own process.

#![deny(unsafe_code)]

pub mod algorithm;
pub mod capability;
pub mod domain;
pub mod ephemeral_token;
pub mod error;
pub mod key_token;
pub mod loaded;
pub mod member;
pub mod object_id;
pub mod offline_token;
pub mod pkcs11;
pub mod private_key;
mod proof;
pub mod public_key;
pub mod record;
mod refusal;
pub mod resident;
pub mod return_code;
pub mod root_key;
pub mod sealing;
pub mod template;
pub mod token;
pub mod worker;

pub use error::Error;

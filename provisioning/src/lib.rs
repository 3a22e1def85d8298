//! What custodians sign, and when a signature of theirs counts.
//!
//! - [`custodian`]: who a custodian is: a name, a key to sign with, a recipient for shares.
//! - [`signing_key`]: Ed25519 and P-256 keys of custodians, public and private.
//! - [`quorum`]: how many of them are needed, and the roster that says who they are.
//! - [`document`]: a text with signatures over its exact bytes, and the check that a quorum signed it.
//! - [`record`]: the provisioning record: domain, members and custodians of a cluster.
//! - [`chain`]: the records of a cluster from the first to the last, each signed by the quorum of the one before.
//! - [`join_request`]: what a member says of itself before a domain is cloned to it.
//!
//! Nothing here speaks to an HSM or a network, reads a clock or a file. The gateway starts on a record, a ceremony makes it, and
//! an auditor checks it with this crate alone. The formats are in `docs/formats.md`, with test vectors.

#![forbid(unsafe_code)]

pub mod chain;
pub mod custodian;
pub mod document;
pub mod error;
pub mod join_request;
pub mod quorum;
pub mod record;
pub mod signing_key;
mod text;

pub use error::Error;
pub use text::Moment;

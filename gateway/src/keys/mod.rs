//! What keys are.
//!
//! - [`name`]: resource names.
//! - [`purpose`]: from a purpose to permitted uses.
//! - [`state`]: the life of a version, what each state permits, and where it can go.
//! - [`record`]: rings, keys and versions as they are stored, and the canonical form that the mac key authenticates.
//! - [`directory`]: verified records in memory, so that no request waits for the database or for a check twice.
//! - [`document`]: small things that belong to a ring and are authenticated like keys; [`alias`] is one.
//! - [`material`]: key material made on a member and committed, or not there at all.
//! - [`creation`]: how rings, keys and new versions come to be.
//! - [`change`]: how they are changed; [`life`]: the verbs of the state machine; [`destruction`]: the end.
//! - [`import_job`], [`import`], [`import_expiry`]: key material from outside. [`recipient`]: those to whom keys may be exported.
//! - [`ephemeral`]: keys that are not stored; [`revocation`]: their end. [`object`]: certificates and data objects.
//! - [`use_count`]: how often versions are used.
//! - [`filter`]: what lists leave out. [`jwk`]: public keys as JSON web keys.
//! - [`locks`]: one change after another.

pub mod alias;
pub mod change;
pub mod creation;
pub mod destruction;
pub mod directory;
pub mod document;
pub mod ephemeral;
pub mod filter;
pub mod import;
pub mod import_expiry;
pub mod import_job;
pub mod jwk;
pub mod life;
pub mod locks;
pub mod material;
pub mod name;
pub mod object;
pub mod purpose;
pub mod recipient;
pub mod record;
pub mod revocation;
pub mod state;
pub mod use_count;

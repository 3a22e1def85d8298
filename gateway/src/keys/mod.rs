//! What keys are.
//!
//! - [`name`]: resource names.
//! - [`purpose`]: from a purpose to permitted uses.
//! - [`state`]: the life of a version and what each state permits.
//! - [`record`]: rings, keys and versions as they are stored, and the canonical form that the mac key authenticates.
//! - [`directory`]: verified records in memory, so that no request waits for the database or for a check twice.
//! - [`creation`]: how keys and rings come to be.

pub mod creation;
pub mod directory;
pub mod name;
pub mod purpose;
pub mod record;
pub mod state;

//! The transcript: one line for everything that happened, in order, each chained to the line before it.
//!
//! - [`Entry`] and [`Event`]: what a line says.
//! - [`Lines`] reads them: the chain is over the raw bytes of the lines, so that nothing has to be written in a canonical form.
//! - [`Journal`] appends them, to two media, and returns when both have them on disk.
//! - [`signed_bytes`]: what a participant signs.
//!
//! What the entries add up to is [`crate::progress`].

mod entry;
mod journal;
mod lines;
mod statement;

pub use entry::{Decision, Entry, Event, FrontKind, Opened, Participant, RehearsalLink};
pub use journal::{Journal, JournalError};
pub use lines::{Line, LineFault, Lines};
pub use statement::{Envelope, Signing, Statement, envelope, signed_bytes};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// What a line continues: the hash of the line before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Head([u8; 32]);

impl Head {
    /// Before the first line.
    pub const START: Self = Self([0; 32]);

    /// After a line, given without its line feed.
    pub fn after(line: &[u8]) -> Self {
        Self(Sha256::new().chain_update(DOMAIN).chain_update(line).finalize().into())
    }

    /// From 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (hex::encode(bytes) == text).then_some(Self(bytes))
    }
}

impl TryFrom<String> for Head {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected 64 hexadecimal digits in lower case")
    }
}

impl From<Head> for String {
    fn from(head: Head) -> Self {
        head.to_string()
    }
}

impl fmt::Display for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Keeps hashes of lines apart from all other hashes.
const DOMAIN: &[u8] = b"portcullis ceremony transcript v1\0";

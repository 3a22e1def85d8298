//! How entries are chained: each line names the hash of the line before it.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead};

/// The end of a chain: what the next line continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of the next line, from 1.
    pub next: u64,
    /// The hash of the line before it; zero for the first.
    pub hash: [u8; 32],
}

impl ChainHead {
    /// Before the first line.
    pub const START: Self = Self { next: 1, hash: [0; 32] };

    /// The head after a line (without its newline).
    pub fn after(self, line: &[u8]) -> Self {
        Self {
            next: self.next + 1,
            hash: hash(line),
        }
    }

    /// Reads the head from the last line of a log.
    pub fn of_last_line(line: &[u8]) -> Result<Self, ChainError> {
        let links = Links::read(line, 0)?;
        Ok(Self {
            next: links.seq + 1,
            hash: hash(line),
        })
    }
}

/// What a whole log adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainSummary {
    /// How many lines it has.
    pub lines: u64,
    /// The hash of the last line.
    pub head: [u8; 32],
}

/// Where a chain breaks.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The log cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is not an entry.
    #[error("audit line {line} is not an entry: {reason}")]
    Malformed {
        /// The line, from 1; 0 for the last one of a log being opened.
        line: u64,
        /// Why not.
        reason: String,
    },
    /// A line does not continue the one before it.
    #[error("audit line {line} does not continue the line before it: a line was changed, removed or inserted")]
    Broken {
        /// The line, from 1.
        line: u64,
    },
}

/// Checks a whole log.
pub fn verify(log: impl BufRead) -> Result<ChainSummary, ChainError> {
    let mut head = ChainHead::START;
    for line in log.split(b'\n') {
        let line = line?;
        let links = Links::read(&line, head.next)?;
        if links.seq != head.next || links.prev != hex::encode(head.hash) {
            return Err(ChainError::Broken { line: head.next });
        }
        head = head.after(&line);
    }
    Ok(ChainSummary {
        lines: head.next - 1,
        head: head.hash,
    })
}

#[derive(Deserialize)]
struct Links {
    seq: u64,
    prev: String,
}

impl Links {
    fn read(line: &[u8], number: u64) -> Result<Self, ChainError> {
        serde_json::from_slice(line).map_err(|error| ChainError::Malformed {
            line: number,
            reason: error.to_string(),
        })
    }
}

fn hash(line: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(b"portcullis audit v1\0")
        .chain_update(line)
        .finalize()
        .into()
}

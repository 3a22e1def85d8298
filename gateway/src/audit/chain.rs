//! How entries are chained: each line names the hash of the line before it.

use super::files::whole_line;
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

/// A hash as it stands in a line.
pub(super) struct HashText([u8; 64]);

impl HashText {
    /// In lower-case hexadecimal digits.
    pub(super) fn of(hash: &[u8; 32]) -> Self {
        let mut digits = [b'0'; 64];
        // Fails only where the lengths do not fit.
        let _ = hex::encode_to_slice(hash, &mut digits);
        Self(digits)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What a log adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainSummary {
    /// The number of its first entry; entries before it are in files that were not given.
    pub first: u64,
    /// How many lines it has.
    pub lines: u64,
    /// The hash of the last line.
    pub head: [u8; 32],
}

/// Where a chain breaks. Lines are counted from 1 in each file.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The log cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is not an entry.
    #[error("line {line} is not an entry: {reason}")]
    Malformed {
        /// The line; 0 for the last one of a log being opened.
        line: u64,
        /// Why not.
        reason: String,
    },
    /// A line does not continue the one before it.
    #[error(
        "line {line} is entry {found}, expected entry {expected}: lines between them are missing, or were changed in order"
    )]
    Misnumbered {
        /// The line.
        line: u64,
        /// The number that continues the chain.
        expected: u64,
        /// The number in the line.
        found: u64,
    },
    /// A line does not continue the one before it.
    #[error("line {line} (entry {number}) does not continue the entry before it: one of the two was changed")]
    Broken {
        /// The line.
        line: u64,
        /// Its entry's number.
        number: u64,
    },
    /// An entry is not the one that the gateway noted as its last.
    #[error("entry {number} is not the one that the gateway wrote")]
    Replaced {
        /// The entry's number.
        number: u64,
    },
    /// The log ends before what the gateway noted as its last.
    #[error("the log ends with entry {last}; the gateway wrote up to entry {noted}")]
    Incomplete {
        /// The last entry that is there.
        last: u64,
        /// The last that was written.
        noted: u64,
    },
}

/// Checks a log that is spread over files, in their order.
#[derive(Debug)]
pub struct ChainVerifier {
    first: Option<u64>,
    head: ChainHead,
    noted: Option<ChainHead>,
    noted_seen: bool,
}

impl ChainVerifier {
    /// Nothing was read. `noted` is what the gateway noted as the chain's end before the files are read.
    pub fn new(noted: Option<ChainHead>) -> Self {
        Self {
            first: None,
            head: ChainHead::START,
            noted,
            noted_seen: false,
        }
    }

    /// Reads the next file. Returns how many bytes at its end are no whole line: what a crash left.
    pub fn read(&mut self, mut file: impl BufRead) -> Result<usize, ChainError> {
        let mut line = Vec::new();
        for number in 1.. {
            match whole_line(&mut file, &mut line)? {
                Some(whole) => self.line(whole, number)?,
                None => return Ok(line.len()),
            }
        }
        Ok(0)
    }

    /// What all files add up to.
    pub fn finish(self) -> Result<ChainSummary, ChainError> {
        if let Some(noted) = self.noted
            && !self.noted_seen
            && noted != ChainHead::START
        {
            let (last, noted) = (self.head.next - 1, noted.next - 1);
            return Err(match last < noted {
                true => ChainError::Incomplete { last, noted },
                false => ChainError::Replaced { number: noted },
            });
        }
        let first = self.first.unwrap_or(1);
        Ok(ChainSummary {
            first,
            lines: self.head.next - first,
            head: self.head.hash,
        })
    }

    fn line(&mut self, line: &[u8], number: u64) -> Result<(), ChainError> {
        let links = Links::read(line, number)?;
        if self.first.is_none() && links.seq > 1 {
            // The files before are not here: the chain is checked from this entry on.
            let hash = hex::decode(&links.prev).ok().and_then(|hash| hash.try_into().ok());
            self.head = ChainHead {
                next: links.seq,
                hash: hash.ok_or_else(|| ChainError::Malformed {
                    line: number,
                    reason: "prev is no hash".to_owned(),
                })?,
            };
            // What was noted may be in a file that is not here.
            self.noted_seen = self.noted.is_some_and(|noted| noted.next <= links.seq);
        }
        if links.seq != self.head.next {
            return Err(ChainError::Misnumbered {
                line: number,
                expected: self.head.next,
                found: links.seq,
            });
        }
        if links.prev != hex::encode(self.head.hash) {
            return Err(ChainError::Broken {
                line: number,
                number: links.seq,
            });
        }
        self.first.get_or_insert(links.seq);
        self.head = self.head.after(line);
        self.noted_seen |= self.noted == Some(self.head);
        Ok(())
    }
}

/// Checks a whole log in one file.
pub fn verify(log: impl BufRead) -> Result<ChainSummary, ChainError> {
    let mut verifier = ChainVerifier::new(None);
    verifier.read(log)?;
    verifier.finish()
}

/// What chains a line to the one before it.
#[derive(Deserialize)]
pub(super) struct Links {
    pub(super) seq: u64,
    pub(super) prev: String,
}

impl Links {
    pub(super) fn read(line: &[u8], number: u64) -> Result<Self, ChainError> {
        let malformed = |reason: String| ChainError::Malformed { line: number, reason };
        let links: Self = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        if links.seq == u64::MAX {
            return Err(malformed(format!("no entry can follow number {}", links.seq)));
        }
        Ok(links)
    }
}

fn hash(line: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(b"portcullis audit v1\0")
        .chain_update(line)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found when its fuzz target was made: the number after it was counted, and there is none.
    #[test]
    fn the_last_number_of_all_is_no_entry() {
        let line = format!(r#"{{"seq":{},"prev":"{}"}}"#, u64::MAX, "00".repeat(32));
        let refused = [
            ChainHead::of_last_line(line.as_bytes()).err(),
            verify(format!("{line}\n").as_bytes()).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(ChainError::Malformed { .. })), "{error:?}");
        }
    }
}

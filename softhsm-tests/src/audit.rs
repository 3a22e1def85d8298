//! The gateway's audit log, read by someone who trusts nothing in it.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

/// A whole log whose chain was checked.
pub struct AuditLog {
    /// The entries in order.
    pub entries: Vec<Value>,
}

impl AuditLog {
    /// Reads a log and checks its chain.
    ///
    /// # Panics
    ///
    /// When it breaks anywhere.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&bytes).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
    }

    /// Reads a log that was rotated and checks its chain over all its files, the oldest first.
    ///
    /// # Panics
    ///
    /// When it breaks anywhere.
    #[track_caller]
    pub fn read_all<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Self {
        let mut bytes = Vec::new();
        for file in files {
            let file = file.as_ref();
            bytes.extend(fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        }
        Self::parse(&bytes).unwrap_or_else(|problem| panic!("over all files: {problem}"))
    }

    /// Checks a log's chain, from first principles and not by the gateway's code.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut entries = Vec::new();
        let mut previous = hex::encode([0; 32]);
        let Some(lines) = bytes.strip_suffix(b"\n") else {
            return if bytes.is_empty() {
                Ok(Self { entries })
            } else {
                Err("the last line has no end".to_owned())
            };
        };
        for (number, line) in (1u64..).zip(lines.split(|byte| *byte == b'\n')) {
            let entry: Value = serde_json::from_slice(line).map_err(|error| format!("line {number}: {error}"))?;
            if entry["seq"].as_u64() != Some(number) {
                return Err(format!("line {number} has seq {}", entry["seq"]));
            }
            if entry["prev"].as_str() != Some(previous.as_str()) {
                return Err(format!("line {number} does not continue the one before it"));
            }
            previous = hex::encode(
                Sha256::new_with_prefix(b"portcullis audit v1\0")
                    .chain_update(line)
                    .finalize(),
            );
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// The entries about the outcome of requests.
    pub fn outcomes(&self) -> impl Iterator<Item = &Value> {
        self.entries.iter().filter(|entry| entry["phase"] == "outcome")
    }
}

//! Reading a transcript: lines, their chain, and entries.

use super::{Entry, Head};

/// A line that continues the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub entry: Entry,
    /// The head after it.
    pub head: Head,
}

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineFault {
    /// Which, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

/// The lines of a transcript.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    next: u64,
    head: Head,
}

impl<'a> Lines<'a> {
    /// Of a whole file.
    pub fn new(file: &'a [u8]) -> Self {
        Self {
            rest: file,
            next: 1,
            head: Head::START,
        }
    }

    /// The part of a file that was written whole: without a last line that has no line feed, which nothing was based on.
    pub fn whole(file: &[u8]) -> &[u8] {
        let end = file
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |place| place + 1);
        &file[..end]
    }

    fn read(&self, line: &[u8]) -> Result<Line, String> {
        let entry: Entry = serde_json::from_slice(line).map_err(|error| format!("it is no entry: {error}"))?;
        if entry.seq != self.next {
            return Err(format!(
                "it is entry {}, expected entry {}: lines are missing, or were changed in order",
                entry.seq, self.next
            ));
        }
        if entry.prev != self.head {
            return Err("it does not continue the line before it: one of the two was changed".to_owned());
        }
        // One entry has one form, so that no byte can be changed without a change of what it says.
        if serde_json::to_vec(&entry).map_err(|error| error.to_string())? != line {
            return Err("it is not written in the form of an entry".to_owned());
        }
        Ok(Line {
            entry,
            head: Head::after(line),
        })
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, LineFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let fault = |what| LineFault { line: self.next, what };
        let read = match self.rest.iter().position(|byte| *byte == b'\n') {
            None => Err(fault("it is cut off: there is no end of the line".to_owned())),
            Some(end) => {
                let line = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                self.read(line).map_err(fault)
            }
        };
        match &read {
            Ok(line) => {
                self.next += 1;
                self.head = line.head;
            }
            // Nothing behind it can be trusted.
            Err(_) => self.rest = &[],
        }
        Some(read)
    }
}

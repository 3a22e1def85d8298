//! The end of the chain, noted in a file of its own: an audit file that was rotated away while the gateway was down, or cut
//! short, is then continued with the right number, or found out.

use super::{ChainHead, chain::HashText};
use std::{
    fmt::Write,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// An open note of the chain's end.
///
/// It is written with each entry and not synced, so it is exact after a crash of the gateway and may be old after a crash of the
/// machine. It is a hint: what the audit files themselves say comes first.
#[derive(Debug)]
pub(super) struct HeadNote {
    path: PathBuf,
    file: File,
    failed: bool,
}

impl HeadNote {
    /// Opens or creates the note; returns what it says, if it says something.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<ChainHead>)> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let mut text = String::new();
        let noted = match (&mut file).take(2 * RECORD as u64).read_to_string(&mut text) {
            Ok(0) => None,
            Ok(_) => parse(&text),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Err(error) => return Err(error),
        };
        if noted.is_none() && !text.is_empty() {
            tracing::warn!(path = %path.display(), "the note of the audit log's end is damaged and is written anew");
        }
        let note = Self {
            path: path.to_owned(),
            file,
            failed: false,
        };
        Ok((note, noted))
    }

    /// Notes the chain's end. A failure is logged once and takes nothing from the audit log itself.
    pub(super) fn write(&mut self, head: ChainHead) {
        let outcome = self.file.write_all_at(record(head).as_bytes(), 0);
        if let Err(error) = &outcome
            && !self.failed
        {
            tracing::warn!(path = %self.path.display(), %error, "the end of the audit log cannot be noted");
        }
        self.failed = outcome.is_err();
    }

    /// Syncs the note.
    pub(super) fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(path = %self.path.display(), %error, "the note of the audit log's end cannot be synced");
        }
    }

    /// What a note says, without opening it for writing.
    pub(super) fn read(path: &Path) -> io::Result<Option<ChainHead>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(parse)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Always as long as any other, so that a new one covers the one before.
fn record(head: ChainHead) -> String {
    let mut record = String::with_capacity(RECORD);
    // Writing to a string does not fail.
    let _ = write!(record, "{START}{:020} ", head.next);
    record.push_str(HashText::of(&head.hash).as_str());
    let check = crc32c::crc32c(record.as_bytes());
    let _ = writeln!(record, " {check:08x}");
    record
}

fn parse(text: &str) -> Option<ChainHead> {
    let (content, check) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    if u32::from_str_radix(check, 16).ok()? != crc32c::crc32c(content.as_bytes()) {
        return None;
    }
    let (next, hash) = content.strip_prefix(START)?.split_once(' ')?;
    Some(ChainHead {
        next: next.parse().ok().filter(|next| (1..u64::MAX).contains(next))?,
        hash: hex::decode(hash).ok()?.try_into().ok()?,
    })
}

const START: &str = "portcullis audit head v1 ";
const RECORD: usize = START.len() + 20 + 1 + 64 + 1 + 8 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_written_last_and_nothing_once_it_is_damaged() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.head");
        let (mut note, nothing) = HeadNote::open(&path).expect("a new note");
        assert_eq!(nothing, None);
        let last = ChainHead {
            next: 1_000_000,
            hash: [7; 32],
        };
        note.write(ChainHead { next: 2, hash: [1; 32] });
        note.write(last);
        assert_eq!(HeadNote::open(&path).expect("the note").1, Some(last));
        assert_eq!(HeadNote::read(&path).expect("the note"), Some(last));
        let mut bytes = std::fs::read(&path).expect("the note's bytes");
        assert_eq!(bytes.len(), RECORD);
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).expect("a damaged note");
            assert_eq!(HeadNote::read(&path).expect("readable"), None, "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_note_of_a_number_after_which_there_is_none_says_nothing() {
        let head = |next| ChainHead { next, hash: [7; 32] };
        assert_eq!(parse(&record(head(u64::MAX - 1))), Some(head(u64::MAX - 1)));
        for next in [0, u64::MAX] {
            assert_eq!(parse(&record(head(next))), None);
        }
    }
}

//! Writing a transcript, to two media.

use super::{Entry, Event, Head, Lines};
use portcullis_provisioning::Moment;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A transcript that is being written. Every line is on both media before the next thing is done, and no other program has it:
/// the copy on the first medium is locked (flock(2)) for as long as this lives.
#[derive(Debug)]
pub struct Journal {
    media: [Medium; 2],
    next: u64,
    head: Head,
}

#[derive(Debug)]
struct Medium {
    path: PathBuf,
    file: File,
}

/// Why a transcript cannot be written or taken up again.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A medium fails.
    #[error("cannot write the transcript to {}: {source}. Nothing more is done without it", path.display())]
    Medium {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another program writes it.
    #[error(
        "another program holds this ceremony: it has {} open. Go on there, or end that program first",
        path.display()
    )]
    Held {
        /// The copy that is locked.
        path: PathBuf,
    },
    /// The two copies say different things.
    #[error(
        "{} and {} differ in what they both have: one of them was changed, and nothing is written to either",
        first.display(),
        second.display()
    )]
    Differ {
        /// One copy.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

impl Journal {
    /// Begins a transcript. Neither file may exist.
    pub fn create(paths: [&Path; 2]) -> Result<Self, JournalError> {
        let [first, second] = paths;
        let open = |path| Medium::open(path, OpenOptions::new().append(true).create_new(true));
        let first = open(first)?;
        first.lock()?;
        Ok(Self {
            media: [first, open(second)?],
            next: 1,
            head: Head::START,
        })
    }

    /// Takes up a transcript that a run of the program left behind, and returns it as it stands.
    ///
    /// A line that was cut off is taken away: nothing was done on its ground. A copy that lacks the last line gets it.
    pub fn reopen(paths: [&Path; 2]) -> Result<(Self, Vec<u8>), JournalError> {
        // One that is not there was to be made when the program ended.
        let open = |path| Medium::open(path, OpenOptions::new().read(true).append(true).create(true));
        let [first, second] = paths;
        let first = open(first)?;
        // Before anything is read: what another program writes at this moment is not what this one would go on from.
        first.lock()?;
        let media = [first, open(second)?];
        let [first, second] = media.each_ref().map(Medium::read);
        let (first, second) = (first?, second?);
        let (one, other) = (Lines::whole(&first), Lines::whole(&second));
        if !one.starts_with(other) && !other.starts_with(one) {
            let [first, second] = paths.map(Path::to_owned);
            return Err(JournalError::Differ { first, second });
        }
        let whole = if one.len() >= other.len() { one } else { other };
        for (medium, present) in media.iter().zip([&first, &second]) {
            let kept = Lines::whole(present).len();
            medium.perform(|mut file| {
                if kept < present.len() {
                    file.set_len(kept as u64)?;
                }
                file.write_all(&whole[kept..])?;
                file.sync_all()
            })?;
        }
        let last = whole.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        let lines = whole.iter().filter(|byte| **byte == b'\n').count() as u64;
        let journal = Self {
            media,
            next: lines + 1,
            head: last.map_or(Head::START, Head::after),
        };
        Ok((journal, whole.to_vec()))
    }

    /// The entry that says this next.
    pub fn entry(&self, at: Moment, ms: u64, event: Event) -> Entry {
        Entry {
            seq: self.next,
            prev: self.head,
            at,
            ms,
            event,
        }
    }

    /// Writes an entry that [`Self::entry`] made; returns when both media have it.
    pub fn append(&mut self, entry: &Entry) -> Result<Head, JournalError> {
        // Invariant: texts and numbers, which JSON can hold.
        let mut line = serde_json::to_vec(entry).expect("an entry is JSON");
        let head = Head::after(&line);
        line.push(b'\n');
        for medium in &self.media {
            medium.perform(|mut file| {
                file.write_all(&line)?;
                file.sync_data()
            })?;
        }
        self.next += 1;
        self.head = head;
        Ok(head)
    }

    /// The hash of the last line.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.next
    }
}

impl Medium {
    fn open(path: &Path, options: &mut OpenOptions) -> Result<Self, JournalError> {
        let file = options
            .mode(0o600)
            .open(path)
            .map_err(|source| medium_error(path, source))?;
        let medium = Self {
            path: path.to_owned(),
            file,
        };
        // The file's name too must be on the medium.
        let directory = path.parent().unwrap_or(Path::new("."));
        medium.perform(|_| File::open(directory)?.sync_all())?;
        Ok(medium)
    }

    /// Keeps other programs out, until the file is closed.
    fn lock(&self) -> Result<(), JournalError> {
        self.file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::Held {
                path: self.path.clone(),
            },
            TryLockError::Error(source) => medium_error(&self.path, source),
        })
    }

    /// Everything that it has now.
    fn read(&self) -> Result<Vec<u8>, JournalError> {
        let mut content = Vec::new();
        self.perform(|file| {
            let length = file.metadata()?.len();
            file.take(length).read_to_end(&mut content).map(drop)
        })?;
        Ok(content)
    }

    fn perform(&self, what: impl FnOnce(&File) -> io::Result<()>) -> Result<(), JournalError> {
        what(&self.file).map_err(|source| medium_error(&self.path, source))
    }
}

fn medium_error(path: &Path, source: io::Error) -> JournalError {
    JournalError::Medium {
        path: path.to_owned(),
        source,
    }
}

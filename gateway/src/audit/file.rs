//! The file that entries are written to: where it ends, whether it is still in its place, and what a crash left in it.

use super::{ChainError, ChainHead};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// An open audit file, locked for this process.
#[derive(Debug)]
pub(super) struct LogFile {
    /// The file.
    pub(super) file: Arc<File>,
    /// Where its last whole line ends.
    pub(super) length: u64,
    // How long it was when it was last seen in its place, and the chain's end then.
    seen: (u64, ChainHead),
}

/// Where an open file is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it was opened.
    Same,
    /// Under another name, or under none that is known, but it is still there.
    Moved,
    /// Nowhere: it goes when it is closed.
    Removed,
    /// Where it was opened, but shorter than what was written.
    Shortened,
}

impl LogFile {
    /// Opens or creates a file, takes it for this process alone, and looks at its end.
    pub(super) fn open(path: &Path) -> Result<(Self, Tail), String> {
        let text = |error: io::Error| error.to_string();
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(text)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(text)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| "another process has it open".to_owned())?;
        // A file that was just made is not lost with the power.
        sync_directory_of(path).map_err(text)?;
        let tail = Tail::read(&mut file).map_err(text)?;
        let log = Self {
            file: Arc::new(file),
            length: tail.length,
            seen: (tail.length, ChainHead::START),
        };
        Ok((log, tail))
    }

    /// Where the file is now.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let own = self.file.metadata()?;
        let named = match fs::metadata(path) {
            Ok(named) => Some((named.dev(), named.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(if own.nlink() == 0 {
            Place::Removed
        } else if named != Some((own.dev(), own.ino())) {
            Place::Moved
        } else if own.len() < self.length {
            Place::Shortened
        } else {
            Place::Same
        })
    }

    /// Notes that the file was in its place when the chain ended so.
    pub(super) fn seen_with(&mut self, head: ChainHead) {
        self.seen = (self.length, head);
    }

    /// The lines that were written since the file was last seen in its place, each with the end of the chain before it.
    pub(super) fn since_seen(&self) -> io::Result<Vec<(ChainHead, Vec<u8>)>> {
        let (from, mut head) = self.seen;
        let mut bytes = vec![0; self.length.saturating_sub(from) as usize];
        self.file.read_exact_at(&mut bytes, from)?;
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let before = head;
            head = head.after(line.strip_suffix(b"\n").unwrap_or(line));
            lines.push((before, line.to_vec()));
        }
        Ok(lines)
    }

    /// Writes whole lines with one call, or nothing.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), WriteFailure> {
        if let Err(error) = (&*self.file).write_all(lines) {
            // Part of a line may be in the file: take it out, so that the next line starts clean.
            let cleaned = self
                .file
                .metadata()
                .and_then(|metadata| match metadata.len() > self.length {
                    true => self.file.set_len(self.length),
                    false => Ok(()),
                });
            return Err(WriteFailure {
                error,
                torn: cleaned.err(),
            });
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Moves what a crash left of a line to a file beside the log. `next` is the number that the line would have had.
    pub(super) fn set_aside(&mut self, torn: &[u8], path: &Path, next: u64) -> Result<PathBuf, String> {
        let aside = free_name(path, next, torn);
        write_whole(torn, &aside)
            .and_then(|()| self.file.set_len(self.length))
            .map_err(|error| {
                format!(
                    "its last line is torn and cannot be moved to {}: {error}",
                    aside.display()
                )
            })?;
        Ok(aside)
    }
}

/// Why lines are not in the file.
#[derive(Debug)]
pub(super) struct WriteFailure {
    /// Why they were not written.
    pub(super) error: io::Error,
    /// Why what was written of them could not be taken out; then the file can no longer be used.
    pub(super) torn: Option<io::Error>,
}

/// The end of the chain in the newest of the files that were rotated away from beside `path`, if there is one.
pub(super) fn newest_rotated(path: &Path) -> Option<ChainHead> {
    let name = path.file_name()?.to_str()?;
    let entries = fs::read_dir(path.parent()?).ok()?;
    let rotated = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let other = entry.file_name().into_string().ok()?;
        (other != name && other.starts_with(name) && entry.file_type().ok()?.is_file()).then(|| entry.path())
    });
    rotated
        // What cannot be read as a log, such as a compressed one, is none.
        .filter_map(|path| Tail::read(&mut File::open(path).ok()?).ok()?.head().ok()?)
        .max_by_key(|head| head.next)
}

/// The end of an existing file.
pub(super) struct Tail {
    last_line: Option<Vec<u8>>,
    /// What follows the last whole line.
    pub(super) torn: Vec<u8>,
    length: u64,
}

impl Tail {
    /// The end of the chain in it; `None` if it has no whole line.
    pub(super) fn head(&self) -> Result<Option<ChainHead>, ChainError> {
        self.last_line.as_deref().map(ChainHead::of_last_line).transpose()
    }

    fn read(file: &mut File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        let mut window = TAIL_WINDOW;
        loop {
            let start = size.saturating_sub(window);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let line_start = match whole {
                0 => None,
                whole => bytes[..whole - 1]
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map(|at| at + 1),
            };
            if start > 0 && line_start.is_none() {
                window *= 2;
                continue;
            }
            let last_line = (whole > 0).then(|| bytes[line_start.unwrap_or(0)..whole - 1].to_vec());
            return Ok(Self {
                last_line,
                torn: bytes[whole..].to_vec(),
                length: start + whole as u64,
            });
        }
    }
}

/// A name for torn bytes: one that is free, or that holds these very bytes because a repair was interrupted.
fn free_name(path: &Path, next: u64, torn: &[u8]) -> PathBuf {
    let names = (0u64..).map(|more| match more {
        0 => path.with_extension(format!("torn-{next}")),
        more => path.with_extension(format!("torn-{next}-{more}")),
    });
    let free = |name: &PathBuf| match fs::read(name) {
        Ok(bytes) => bytes == torn,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    // Invariant: no directory has 2^64 files.
    names.into_iter().find(free).expect("a free name")
}

/// Writes bytes to a file, whole or not at all.
fn write_whole(bytes: &[u8], to: &Path) -> io::Result<()> {
    let temporary = to.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, to)?;
    sync_directory_of(to)
}

pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

const TAIL_WINDOW: u64 = 64 * 1024;

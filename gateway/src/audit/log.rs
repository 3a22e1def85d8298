//! The audit file: one writer at a time under a lock, and a thread that syncs.

use super::{ChainError, ChainHead, Entry};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

/// How long an entry of key use may stay unsynced.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Why an entry is not in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened or continued.
    #[error("cannot open the audit log {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An entry could not be written.
    #[error("cannot write the audit log {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// An open audit log.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    synced: watch::Receiver<SyncState>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    file: File,
    head: ChainHead,
    // Where the last whole line ends.
    length: u64,
    unsynced_since: Option<Instant>,
    sync_now: bool,
    closing: bool,
    // Set once: after a failed sync nobody knows what the disk holds.
    sync_failed: Option<String>,
    // Whether the last write failed, so that each change is logged once.
    write_failed: bool,
}

/// How far the file is on disk.
#[derive(Debug, Clone, Default)]
struct SyncState {
    next: u64,
    failed: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: String,
    #[serde(flatten)]
    entry: &'a Entry,
    prev: String,
}

impl AuditLog {
    /// Opens or creates the log, continues its chain, and takes it for this process alone.
    ///
    /// A last line that a crash left half-written is moved to a file beside the log, and the repair is itself an entry.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let failed = |reason: String| AuditError::Open {
            path: path.to_owned(),
            reason,
        };
        let io_failed = |error: io::Error| failed(error.to_string());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(io_failed)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(io_failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| failed("another process has it open".to_owned()))?;
        let tail = Tail::read(&mut file).map_err(io_failed)?;
        let head = match &tail.last_line {
            None => ChainHead::START,
            Some(line) => ChainHead::of_last_line(line).map_err(|error: ChainError| failed(error.to_string()))?,
        };
        if !tail.torn.is_empty() {
            let aside = path.with_extension(format!("torn-{}", head.next));
            move_aside(&tail.torn, &aside)
                .and_then(|()| file.set_len(tail.length))
                .map_err(|error| {
                    failed(format!(
                        "its last line is torn and cannot be moved to {}: {error}",
                        aside.display()
                    ))
                })?;
        }
        let for_sync = file.try_clone().map_err(io_failed)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            state: Mutex::new(State {
                file,
                head,
                length: tail.length,
                unsynced_since: None,
                sync_now: false,
                closing: false,
                sync_failed: None,
                write_failed: false,
            }),
            wake: Condvar::new(),
        });
        let (sender, synced) = watch::channel(SyncState {
            next: head.next,
            failed: None,
        });
        let syncer = thread::Builder::new()
            .name("audit-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.keep_synced(&for_sync, &sender)
            })
            .map_err(io_failed)?;
        let log = Self {
            shared,
            synced,
            syncer: Mutex::new(Some(syncer)),
        };
        if !tail.torn.is_empty() {
            log.append(&Entry::gateway(
                "audit.repaired",
                format!("{} torn bytes moved aside", tail.torn.len()),
            ))?;
        }
        Ok(log)
    }

    /// Writes an entry. When this returns the entry is in the file, to be synced within [`SYNC_INTERVAL`].
    ///
    /// Does not wait for the disk, so it may be called from asynchronous code.
    pub fn append(&self, entry: &Entry) -> Result<(), AuditError> {
        self.write(entry, false).map(|_| ())
    }

    /// Writes an entry and waits until it is on disk.
    pub async fn append_synced(&self, entry: &Entry) -> Result<(), AuditError> {
        let next = self.write(entry, true)?;
        let mut synced = self.synced.clone();
        let state = synced
            .wait_for(|state| state.next >= next || state.failed.is_some())
            .await;
        match state.map(|state| state.failed.clone()) {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(self.write_error(reason)),
            Err(_) => Err(self.write_error("the log was closed".to_owned())),
        }
    }

    /// Syncs what is written and ends the syncing thread.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(syncer) = self.syncer.lock().unwrap_or_else(|lock| lock.into_inner()).take() {
            let _ = syncer.join();
        }
    }

    /// Writes one line with one call; returns the number after it.
    fn write(&self, entry: &Entry, sync_now: bool) -> Result<u64, AuditError> {
        let mut state = self.shared.lock();
        if let Some(reason) = &state.sync_failed {
            return Err(self.write_error(format!("an earlier sync failed ({reason}); restart the gateway")));
        }
        let time = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .map_err(|error| self.write_error(error.to_string()))?;
        let line = Line {
            seq: state.head.next,
            time,
            entry,
            prev: hex::encode(state.head.hash),
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| self.write_error(error.to_string()))?;
        let head = state.head.after(&bytes);
        bytes.push(b'\n');
        if let Err(error) = state.file.write_all(&bytes) {
            // Part of the line may be in the file: take it out, so that the next line starts clean.
            let length = state.length;
            let repaired = state.file.set_len(length);
            if !state.write_failed {
                tracing::error!(path = %self.shared.path.display(), %error, "the audit log cannot be written: work is refused");
            }
            state.write_failed = true;
            if let Err(error) = repaired {
                state.sync_failed = Some(format!("a torn line could not be removed: {error}"));
            }
            return Err(self.write_error(error.to_string()));
        }
        if state.write_failed {
            tracing::info!(path = %self.shared.path.display(), "the audit log can be written again");
        }
        state.write_failed = false;
        state.head = head;
        state.length += bytes.len() as u64;
        let first_unsynced = state.unsynced_since.is_none();
        state.unsynced_since.get_or_insert_with(Instant::now);
        if sync_now || first_unsynced {
            state.sync_now |= sync_now;
            self.shared.wake.notify_one();
        }
        Ok(head.next)
    }

    fn write_error(&self, reason: String) -> AuditError {
        AuditError::Write {
            path: self.shared.path.clone(),
            reason,
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    /// Syncs at once when somebody waits for it, else [`SYNC_INTERVAL`] after the first unsynced entry.
    fn keep_synced(&self, file: &File, synced: &watch::Sender<SyncState>) {
        loop {
            let (next, closing) = {
                let mut state = self.lock();
                loop {
                    let wait = match state.unsynced_since {
                        None if state.closing => return,
                        None => None,
                        Some(since) if state.sync_now || state.closing || since.elapsed() >= SYNC_INTERVAL => break,
                        Some(since) => Some(SYNC_INTERVAL.saturating_sub(since.elapsed())),
                    };
                    state = match wait {
                        None => self.wake.wait(state).unwrap_or_else(|lock| lock.into_inner()),
                        Some(wait) => {
                            self.wake
                                .wait_timeout(state, wait)
                                .unwrap_or_else(|lock| lock.into_inner())
                                .0
                        }
                    };
                }
                state.unsynced_since = None;
                state.sync_now = false;
                (state.head.next, state.closing)
            };
            // A file that somebody removed would take entries that nobody can read.
            let outcome = file.sync_data().and_then(|()| match file.metadata()?.nlink() {
                0 => Err(io::Error::other("the file was removed")),
                _ => Ok(()),
            });
            if let Err(error) = &outcome {
                tracing::error!(path = %self.path.display(), %error, "the audit log could not be synced: work is refused");
                self.lock().sync_failed = Some(error.to_string());
            }
            synced.send_replace(SyncState {
                next,
                failed: outcome.err().map(|error| error.to_string()),
            });
            if closing {
                return;
            }
        }
    }
}

/// Writes torn bytes beside the log, whole or not at all, so that a crash here can be repaired by the next start.
fn move_aside(torn: &[u8], aside: &Path) -> io::Result<()> {
    let temporary = aside.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(torn)?;
    file.sync_all()?;
    fs::rename(&temporary, aside)?;
    File::open(aside.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The end of an existing file.
struct Tail {
    last_line: Option<Vec<u8>>,
    torn: Vec<u8>,
    // Where the last whole line ends.
    length: u64,
}

impl Tail {
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

const TAIL_WINDOW: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify;
    use std::io::BufReader;

    fn entry(outcome: &str) -> Entry {
        Entry::gateway("test", outcome)
    }

    fn lines(path: &Path) -> u64 {
        verify(BufReader::new(File::open(path).expect("the log")))
            .expect("a whole chain")
            .lines
    }

    #[tokio::test]
    async fn the_chain_continues_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log/audit.jsonl");
        for round in 1..=3u64 {
            let log = AuditLog::open(&path).expect("an open log");
            log.append(&entry("first")).expect("written");
            log.append_synced(&entry("second")).await.expect("synced");
            drop(log);
            assert_eq!(lines(&path), 2 * round);
        }
    }

    #[test]
    fn a_torn_last_line_is_moved_aside_and_the_repair_is_logged() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        drop(AuditLog::open(&path).and_then(|log| log.append(&entry("whole"))));
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"seq\":2,"))
            .expect("torn");
        let log = AuditLog::open(&path).expect("a repaired log");
        log.append(&entry("after")).expect("written");
        drop(log);
        assert_eq!(lines(&path), 3);
        assert_eq!(
            fs::read(directory.path().join("audit.torn-2")).expect("the torn bytes"),
            b"{\"seq\":2,"
        );
    }

    #[test]
    fn a_repair_that_was_interrupted_is_made_again() {
        // By the crash the torn bytes were beside the log already, whole or in part, and not out of it yet.
        for (aside, left) in [("audit.torn-2", &b"{\"seq\":2,"[..]), ("audit.new", b"{\"se")] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("audit.jsonl");
            drop(AuditLog::open(&path).and_then(|log| log.append(&entry("whole"))));
            OpenOptions::new()
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(b"{\"seq\":2,"))
                .expect("torn");
            fs::write(directory.path().join(aside), left).expect("what an interrupted repair left");
            drop(AuditLog::open(&path).unwrap_or_else(|error| panic!("with {aside}: {error}")));
            assert_eq!(lines(&path), 2, "with {aside}");
            assert_eq!(
                fs::read(directory.path().join("audit.torn-2")).expect("the torn bytes"),
                b"{\"seq\":2,",
                "with {aside}"
            );
        }
    }

    #[test]
    fn a_changed_removed_or_swapped_line_breaks_the_chain() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        let log = AuditLog::open(&path).expect("an open log");
        for outcome in ["one", "two", "three"] {
            log.append(&entry(outcome)).expect("written");
        }
        drop(log);
        let text = fs::read_to_string(&path).expect("the log");
        let all: Vec<&str> = text.lines().collect();
        for broken in [
            text.replace("one", "0ne"),
            format!("{}\n{}\n", all[0], all[2]),
            format!("{}\n{}\n{}\n", all[0], all[2], all[1]),
        ] {
            assert!(verify(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_log_has_one_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        let _log = AuditLog::open(&path).expect("an open log");
        assert!(AuditLog::open(&path).is_err_and(|error| error.to_string().contains("another process")));
    }
}

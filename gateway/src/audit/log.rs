//! The audit log: one writer at a time under a lock, a thread that syncs, and the change from one file to the next.

use super::{
    ChainHead, Entry,
    chain::HashText,
    file::{LogFile, Place, Tail, newest_rotated, sync_directory_of},
    head::HeadNote,
};
use crate::telemetry::{AuditStage, Telemetry};
use serde::Serialize;
use std::{
    io,
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
    /// An entry is longer than any should be.
    #[error("an entry of {length} bytes for the audit log; at most {LONGEST_ENTRY} were expected")]
    TooLong {
        /// Its length in bytes.
        length: usize,
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
///
/// The file may be renamed at any time, as `logrotate` does. The log goes on in a new file of the old name, with the next number
/// and the hash of the old file's last line: at once when it is told to ([`AuditLog::reopen`]), else with the first entry after
/// [`LOOK_INTERVAL`]. Lines that were written meanwhile are in the renamed file, and on disk before the new one is begun.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    synced: watch::Receiver<SyncState>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    telemetry: Arc<Telemetry>,
    state: Mutex<State>,
    wake: Condvar,
    synced: watch::Sender<SyncState>,
}

#[derive(Debug)]
struct State {
    log: LogFile,
    head: ChainHead,
    note: HeadNote,
    // When the file was last seen in its place.
    looked: Instant,
    unsynced_since: Option<Instant>,
    sync_now: bool,
    closing: bool,
    // Set once: after a failed sync nobody knows what the disk holds.
    sync_failed: Option<String>,
    // Whether the last write failed, so that each change is logged once.
    write_failed: bool,
}

/// How far the log is on disk.
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
    prev: &'a str,
}

impl AuditLog {
    /// Opens or creates the log, continues its chain, and takes it for this process alone. `note` is the file in which the
    /// chain's end is noted; it belongs beside the database.
    ///
    /// A last line that a crash left half-written is moved to a file beside the log, and the repair is itself an entry. So is
    /// what an empty file continues, and what is missing of what was noted.
    pub fn open(path: &Path, note: &Path) -> Result<Self, AuditError> {
        Self::open_watched(path, note, &Telemetry::off())
    }

    /// The same, and tells how long writing and syncing take.
    pub fn open_watched(path: &Path, note: &Path, telemetry: &Arc<Telemetry>) -> Result<Self, AuditError> {
        let failed = |reason: String| AuditError::Open {
            path: path.to_owned(),
            reason,
        };
        let io_failed = |error: io::Error| failed(error.to_string());
        let (mut log, tail) = LogFile::open(path).map_err(failed)?;
        let (note, noted) = HeadNote::open(note).map_err(|error| failed(format!("{}: {error}", note.display())))?;
        let (head, mut news) = resume(path, &tail, noted).map_err(failed)?;
        if !tail.torn.is_empty() {
            log.set_aside(&tail.torn, path, head.next).map_err(failed)?;
            news.push(Entry::gateway(
                "audit.repaired",
                format!("{} torn bytes moved aside", tail.torn.len()),
            ));
        }
        log.seen_with(head);
        let (sender, synced) = watch::channel(SyncState {
            next: head.next,
            failed: None,
        });
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            telemetry: Arc::clone(telemetry),
            state: Mutex::new(State {
                log,
                head,
                note,
                looked: Instant::now(),
                unsynced_since: None,
                sync_now: false,
                closing: false,
                sync_failed: None,
                write_failed: false,
            }),
            wake: Condvar::new(),
            synced: sender,
        });
        let syncer = thread::Builder::new()
            .name("audit-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.keep_synced()
            })
            .map_err(io_failed)?;
        let log = Self {
            shared,
            synced,
            syncer: Mutex::new(Some(syncer)),
        };
        for entry in &news {
            log.append(entry)?;
        }
        Ok(log)
    }

    /// Writes an entry. When this returns the entry is in the file, to be synced within [`SYNC_INTERVAL`].
    ///
    /// Does not wait for the disk, except where the file was rotated, so it may be called from asynchronous code.
    pub fn append(&self, entry: &Entry) -> Result<(), AuditError> {
        self.shared.append(entry, false).map(|_| ())
    }

    /// Writes an entry and waits until it is on disk.
    pub async fn append_synced(&self, entry: &Entry) -> Result<(), AuditError> {
        let next = self.shared.append(entry, true)?;
        let mut synced = self.synced.clone();
        let state = synced
            .wait_for(|state| state.next >= next || state.failed.is_some())
            .await;
        match state.map(|state| (state.next >= next, state.failed.clone())) {
            Ok((true, _)) => Ok(()),
            Ok((false, reason)) => Err(self.shared.write_error(reason.unwrap_or_default())),
            Err(_) => Err(self.shared.write_error("the log was closed".to_owned())),
        }
    }

    /// Goes on in a new file if the old one is no longer in its place. Says whether it did.
    ///
    /// Waits for the disk.
    pub fn reopen(&self) -> Result<bool, AuditError> {
        self.shared.look(&mut self.shared.lock())
    }

    /// Returns once the log is free to be written. Never, if a writer is stuck.
    pub fn pulse(&self) {
        drop(self.shared.lock());
    }

    /// The number of the next entry.
    pub fn sequence(&self) -> u64 {
        self.shared.lock().head.next
    }

    /// Syncs what is written and ends the syncing thread.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(syncer) = self.syncer.lock().unwrap_or_else(|lock| lock.into_inner()).take() {
            let _ = syncer.join();
            self.shared.lock().note.sync();
        }
    }

    /// The end of the chain as a note says it; `None` if there is no note. The log may be open in another process.
    pub fn noted_end(note: &Path) -> io::Result<Option<ChainHead>> {
        HeadNote::read(note)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where a log goes on, and what there is to tell about that.
fn resume(path: &Path, tail: &Tail, noted: Option<ChainHead>) -> Result<(ChainHead, Vec<Entry>), String> {
    let mut news = Vec::new();
    let Some(head) = tail.head().map_err(|error| error.to_string())? else {
        // Rotated, and nothing written since; or the first file.
        let head = [noted, newest_rotated(path)]
            .into_iter()
            .flatten()
            .max_by_key(|head| head.next);
        let head = head.unwrap_or(ChainHead::START);
        if head != ChainHead::START {
            news.push(continued(head, "the file was rotated while the gateway was down"));
        }
        return Ok((head, news));
    };
    let Some(noted) = noted else { return Ok((head, news)) };
    let last = |head: ChainHead| head.next - 1;
    let missing = match noted.next {
        next if next > head.next => Some(format!("entries {} to {} are missing", head.next, last(noted))),
        next if next == head.next && noted.hash != head.hash => {
            Some(format!("entry {} is not the one that was written", last(head)))
        }
        _ => None,
    };
    if let Some(missing) = missing {
        tracing::error!(path = %path.display(), "the audit log is not as it was left: {missing}; a crash of the machine may lose the last {SYNC_INTERVAL:?}, or the file was changed");
        news.push(Entry::gateway(
            "audit.incomplete",
            format!(
                "{missing}; the hash of entry {} was {}",
                last(noted),
                hex::encode(noted.hash)
            ),
        ));
    }
    Ok((head, news))
}

fn continued(head: ChainHead, why: &str) -> Entry {
    Entry::gateway(
        "audit.continued",
        format!("after entry {} of an earlier file: {why}", head.next - 1),
    )
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    /// Writes one line with one call; returns the number after it.
    fn append(&self, entry: &Entry, sync_now: bool) -> Result<u64, AuditError> {
        let mut state = self.lock();
        if let Some(reason) = &state.sync_failed {
            return Err(self.write_error(format!("an earlier sync failed ({reason}); restart the gateway")));
        }
        let begun = Instant::now();
        let written = match state.looked.elapsed() >= LOOK_INTERVAL {
            true => self.look(&mut state).map(|_| ()),
            false => Ok(()),
        };
        let written = written.and_then(|()| self.write(&mut state, entry));
        self.telemetry.metrics().appended(begun.elapsed());
        if let Err(error) = &written
            && !state.write_failed
        {
            tracing::error!(%error, "the audit log cannot be written: work is refused");
        }
        if written.is_ok() && state.write_failed {
            tracing::info!(path = %self.path.display(), "the audit log can be written again");
        }
        state.write_failed = written.is_err();
        written?;
        let first_unsynced = state.unsynced_since.is_none();
        state.unsynced_since.get_or_insert_with(Instant::now);
        if sync_now || first_unsynced {
            state.sync_now |= sync_now;
            self.wake.notify_one();
        }
        Ok(state.head.next)
    }

    fn write(&self, state: &mut State, entry: &Entry) -> Result<(), AuditError> {
        let (line, head) = self.line(state.head, entry)?;
        if let Err(failure) = state.log.write(&line) {
            if let Some(error) = failure.torn {
                state.sync_failed = Some(format!("a torn line could not be removed: {error}"));
            }
            return Err(self.write_error(failure.error.to_string()));
        }
        state.head = head;
        state.note.write(head);
        Ok(())
    }

    /// A line with its newline, and the chain's end after it.
    fn line(&self, head: ChainHead, entry: &Entry) -> Result<(Vec<u8>, ChainHead), AuditError> {
        let time = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .map_err(|error| self.write_error(error.to_string()))?;
        let prev = HashText::of(&head.hash);
        let line = Line {
            seq: head.next,
            time,
            entry,
            prev: prev.as_str(),
        };
        let mut bytes = Vec::with_capacity(USUAL_ENTRY);
        serde_json::to_writer(&mut bytes, &line).map_err(|error| self.write_error(error.to_string()))?;
        if bytes.len() > LONGEST_ENTRY {
            self.telemetry.metrics().audit_failed(AuditStage::Append);
            return Err(AuditError::TooLong { length: bytes.len() });
        }
        let after = head.after(&bytes);
        bytes.push(b'\n');
        Ok((bytes, after))
    }

    /// Looks whether the file is in its place, and goes on in a new one if it is not. Says whether it did.
    fn look(&self, state: &mut State) -> Result<bool, AuditError> {
        let failed = |error: io::Error| self.write_error(error.to_string());
        let place = state.log.place(&self.path).map_err(failed)?;
        match place {
            Place::Same => {}
            Place::Shortened => {
                // The next line continues the chain after lines that are gone. Going on as if nothing had happened would hide it.
                state.log.length = state.log.file.metadata().map_err(failed)?.len();
                tracing::error!(path = %self.path.display(), "the audit file was cut short under the gateway: entries are lost; rotate by renaming, never by copying and truncating");
                let entry = Entry::gateway(
                    "audit.incomplete",
                    "the file was cut short: entries before this one are lost",
                );
                self.write(state, &entry)?;
            }
            Place::Moved | Place::Removed => self.go_on(state, place)?,
        }
        let head = state.head;
        state.log.seen_with(head);
        state.looked = Instant::now();
        Ok(matches!(place, Place::Moved | Place::Removed))
    }

    /// Begins the next file, after the old one is on disk as far as it is written.
    fn go_on(&self, state: &mut State, place: Place) -> Result<(), AuditError> {
        let failed = |error: io::Error| self.write_error(error.to_string());
        let (lines, why) = match place {
            // Who removes a file wants its entries gone, but not those that were written to it afterwards.
            Place::Removed => (state.log.since_seen().map_err(failed)?, "that file was removed"),
            _ => {
                if let Err(error) = state.log.file.sync_data() {
                    state.sync_failed = Some(error.to_string());
                    return Err(failed(error));
                }
                (Vec::new(), "that file was rotated")
            }
        };
        let (mut next, tail) = LogFile::open(&self.path).map_err(|reason| self.write_error(reason))?;
        // The new file is empty, or a copy of the old one as it was a moment ago.
        let found = tail.head().ok().flatten();
        let missing = match found {
            None => Some(0),
            Some(head) if head == state.head => Some(lines.len()),
            Some(head) => lines.iter().position(|(before, _)| *before == head),
        };
        let (Some(missing), true) = (missing, tail.torn.is_empty()) else {
            return Err(self.write_error(format!(
                "the file was replaced by one that does not end with entry {}; move that away, and the log goes on in a new file",
                state.head.next - 1
            )));
        };
        let mut bytes: Vec<u8> = lines[missing..].iter().flat_map(|(_, line)| line.clone()).collect();
        let (line, head) = self.line(state.head, &continued(state.head, why))?;
        bytes.extend(line);
        next.write(&bytes).map_err(|failure| failed(failure.error))?;
        if let Err(error) = next.file.sync_data().and_then(|()| sync_directory_of(&self.path)) {
            state.sync_failed = Some(error.to_string());
            return Err(failed(error));
        }
        tracing::info!(path = %self.path.display(), entry = head.next - 1, "the audit log goes on in a new file: {why}");
        state.log = next;
        state.head = head;
        state.note.write(head);
        state.note.sync();
        state.unsynced_since = None;
        state.sync_now = false;
        self.publish(head.next, None);
        Ok(())
    }

    /// Tells those who wait how far the log is on disk.
    fn publish(&self, next: u64, failed: Option<String>) {
        self.synced.send_modify(|state| {
            if failed.is_none() {
                state.next = state.next.max(next);
            }
            state.failed = failed;
        });
    }

    /// Syncs at once when somebody waits for it, else [`SYNC_INTERVAL`] after the first unsynced entry.
    fn keep_synced(&self) {
        loop {
            let (file, next, closing) = {
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
                (Arc::clone(&state.log.file), state.head.next, state.closing)
            };
            let begun = Instant::now();
            let synced = file.sync_data();
            self.telemetry.metrics().synced(begun.elapsed());
            match synced {
                Ok(()) => {
                    // What is in a file that somebody removed can be read by nobody: it is written again before it is confirmed.
                    let mut state = self.lock();
                    let settled = match state.log.place(&self.path) {
                        Ok(Place::Removed) => self.look(&mut state).map(|_| ()).map_err(|error| error.to_string()),
                        _ => Ok(()),
                    };
                    if settled.is_err() {
                        // The next entry tries again.
                        state.looked = state.looked.checked_sub(LOOK_INTERVAL).unwrap_or(state.looked);
                    }
                    drop(state);
                    self.publish(next, settled.err());
                }
                Err(error) => {
                    self.telemetry.metrics().audit_failed(AuditStage::Sync);
                    tracing::error!(path = %self.path.display(), %error, "the audit log could not be synced: work is refused");
                    self.lock().sync_failed = Some(error.to_string());
                    self.publish(next, Some(error.to_string()));
                }
            }
            if closing {
                return;
            }
        }
    }

    fn write_error(&self, reason: String) -> AuditError {
        self.telemetry.metrics().audit_failed(AuditStage::Append);
        AuditError::Write {
            path: self.path.clone(),
            reason,
        }
    }
}

/// The most bytes of a line. What callers can put into an entry has bounds of its own, well below; this one is for what nobody
/// thought of, and refuses the request.
pub const LONGEST_ENTRY: usize = 192 * 1024;
/// Lines of this length are not moved while they are made.
const USUAL_ENTRY: usize = 1024;
/// How often an entry looks whether the file is still in its place.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

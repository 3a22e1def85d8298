//! The log: its chain, its repairs, its rotation.

use super::*;
use crate::audit::{ChainError, ChainSummary, ChainVerifier, verify};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Write},
};

fn open(path: &Path) -> Result<AuditLog, AuditError> {
    AuditLog::open(path, &note(path))
}

fn note(path: &Path) -> PathBuf {
    let directory = path.parent().expect("a directory");
    fs::create_dir_all(directory).expect("the directory");
    directory.join("note")
}

/// Checks files as one log.
fn verify_all<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<ChainSummary, ChainError> {
    let mut verifier = ChainVerifier::new(None);
    for file in files {
        let file = BufReader::new(File::open(file).expect("a file of the log"));
        assert_eq!(verifier.read(file)?, 0);
    }
    verifier.finish()
}

fn actions(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("the log");
    let action = |line: &str| -> String {
        let entry: serde_json::Value = serde_json::from_str(line).expect("an entry");
        entry["action"].as_str().expect("an action").to_owned()
    };
    text.lines().map(action).collect()
}

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
        let log = open(&path).expect("an open log");
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
    drop(open(&path).and_then(|log| log.append(&entry("whole"))));
    OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"{\"seq\":2,"))
        .expect("torn");
    let log = open(&path).expect("a repaired log");
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
        drop(open(&path).and_then(|log| log.append(&entry("whole"))));
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"seq\":2,"))
            .expect("torn");
        fs::write(directory.path().join(aside), left).expect("what an interrupted repair left");
        drop(open(&path).unwrap_or_else(|error| panic!("with {aside}: {error}")));
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
    let log = open(&path).expect("an open log");
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
    let _log = open(&path).expect("an open log");
    assert!(open(&path).is_err_and(|error| error.to_string().contains("another process")));
}

#[test]
fn a_second_repair_keeps_what_the_first_set_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    drop(open(&path).and_then(|log| log.append(&entry("whole"))));
    for torn in ["{\"seq\":2,", "{\"seq\":2,\"action\":\"audit.rep"] {
        // The second crash comes while the first repair is being told.
        let text = fs::read_to_string(&path).expect("the log");
        let first = text.lines().next().expect("the whole line");
        fs::write(&path, format!("{first}\n{torn}")).expect("torn");
        drop(open(&path).expect("a repaired log"));
    }
    let aside = |name: &str| fs::read_to_string(directory.path().join(name)).expect("torn bytes");
    assert_eq!(aside("audit.torn-2"), "{\"seq\":2,");
    assert_eq!(aside("audit.torn-2-1"), "{\"seq\":2,\"action\":\"audit.rep");
}

#[tokio::test]
async fn a_renamed_file_is_followed_by_a_new_one_that_continues_its_chain() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    let log = open(&path).expect("an open log");
    let mut files = Vec::new();
    for round in 0..3 {
        log.append(&entry("before")).expect("written");
        let rotated = directory.path().join(format!("audit.jsonl.{round}"));
        fs::rename(&path, &rotated).expect("rotated");
        files.push(rotated);
        if round == 1 {
            // Nobody tells the log; it looks by itself after a while.
            log.shared.lock().looked = Instant::now().checked_sub(LOOK_INTERVAL).expect("a time");
            log.append_synced(&entry("after")).await.expect("written");
        } else {
            assert!(log.reopen().expect("reopened"));
            assert!(!log.reopen().expect("nothing to do"));
        }
        assert_eq!(actions(&path)[0], "audit.continued");
    }
    files.push(path);
    drop(log);
    assert_eq!(verify_all(&files).expect("a whole chain").lines, 3 + 3 + 1);
    assert_eq!(verify_all(&files[1..]).expect("a whole chain").first, 2);
    assert!(matches!(
        verify_all([&files[0], &files[2]]),
        Err(ChainError::Misnumbered {
            line: 1,
            expected: 2,
            ..
        })
    ));
}

#[tokio::test]
async fn entries_that_were_written_to_a_removed_file_are_written_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    let log = open(&path).expect("an open log");
    log.append(&entry("gone with the file")).expect("written");
    log.reopen().expect("looked");
    fs::remove_file(&path).expect("removed");
    for _ in 0..3 {
        log.append_synced(&entry("kept")).await.expect("written");
    }
    drop(log);
    let summary = verify_all([&path]).expect("a whole chain");
    assert_eq!((summary.first, summary.lines), (2, 4));
    assert_eq!(actions(&path).iter().filter(|action| *action == "test").count(), 3);
}

#[test]
fn a_log_is_continued_whatever_became_of_its_files_while_it_was_closed() {
    for with_note in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.jsonl");
        drop(open(&path).and_then(|log| log.append(&entry("first"))));
        let rotated = directory.path().join("audit.jsonl.1");
        fs::rename(&path, &rotated).expect("rotated");
        if !with_note {
            fs::remove_file(note(&path)).expect("the note is lost");
        }
        drop(open(&path).and_then(|log| log.append(&entry("second"))));
        assert_eq!(verify_all([&rotated, &path]).expect("a whole chain").lines, 3);
        // Also where the files were moved far away.
        if with_note {
            fs::remove_file(&rotated).expect("moved away");
            fs::remove_file(&path).expect("moved away");
            drop(open(&path).and_then(|log| log.append(&entry("third"))));
            assert_eq!(verify_all([&path]).expect("a whole chain").first, 4);
        }
    }
}

#[test]
fn a_log_that_was_cut_short_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    let log = open(&path).expect("an open log");
    for _ in 0..3 {
        log.append(&entry("one of three")).expect("written");
    }
    drop(log);
    let noted = AuditLog::noted_end(&note(&path)).expect("a note");
    let text = fs::read_to_string(&path).expect("the log");
    let first = text.lines().next().expect("a line");
    fs::write(&path, format!("{first}\n")).expect("cut short");
    let mut verifier = ChainVerifier::new(noted);
    verifier
        .read(BufReader::new(File::open(&path).expect("the log")))
        .expect("a chain");
    assert!(matches!(
        verifier.finish(),
        Err(ChainError::Incomplete { last: 1, noted: 3 })
    ));
    let log = open(&path).expect("an open log");
    assert!(
        fs::read_to_string(&path)
            .expect("the log")
            .contains("entries 2 to 3 are missing")
    );
    // Under the open log too.
    fs::write(&path, "").expect("truncated");
    log.reopen().expect("looked");
    log.append(&entry("after")).expect("written");
    assert_eq!(actions(&path), ["audit.incomplete", "test"]);
}

#[test]
fn a_file_that_is_not_the_logs_own_is_not_written_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    let log = open(&path).expect("an open log");
    log.append(&entry("first")).expect("written");
    fs::rename(&path, directory.path().join("audit.jsonl.1")).expect("rotated");
    fs::write(&path, "{\"seq\":1,\"prev\":\"\"}\n").expect("a stranger");
    assert!(log.reopen().is_err_and(|error| error.to_string().contains("entry 1")));
    fs::remove_file(&path).expect("moved away");
    assert!(log.reopen().expect("reopened"));
}

#[test]
fn no_entry_is_lost_or_doubled_by_rotation_under_load() {
    const CALLERS: usize = 4;
    const ENTRIES: usize = 500;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    let log = open(&path).expect("an open log");
    let mut files = Vec::new();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let log = &log;
                scope.spawn(move || {
                    for number in 0..ENTRIES {
                        log.append(&entry(&format!("{caller}/{number}"))).expect("written");
                    }
                })
            })
            .collect();
        while !callers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let rotated = directory.path().join(format!("audit.jsonl.{:06}", files.len()));
            fs::rename(&path, &rotated).expect("rotated");
            files.push(rotated);
            log.reopen().expect("reopened");
        }
    });
    files.push(path);
    drop(log);
    let summary = verify_all(&files).expect("a whole chain");
    assert_eq!(summary.lines as usize, CALLERS * ENTRIES + files.len() - 1);
    let all: String = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a file"))
        .collect();
    for caller in 0..CALLERS {
        for number in 0..ENTRIES {
            assert_eq!(all.matches(&format!("\"outcome\":\"{caller}/{number}\"")).count(), 1);
        }
    }
}

#[tokio::test]
async fn an_entry_beyond_the_longest_is_refused_and_the_chain_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.jsonl");
    let log = open(&path).expect("an open log");
    log.append(&entry("first")).expect("written");
    // A control character has six bytes in JSON.
    let refused = log.append_synced(&entry(&"\u{1}".repeat(LONGEST_ENTRY / 6))).await;
    assert!(matches!(refused, Err(AuditError::TooLong { .. })), "{refused:?}");
    log.append(&entry(&"x".repeat(LONGEST_ENTRY / 2))).expect("written");
    drop(log);
    assert_eq!(lines(&path), 2);
}

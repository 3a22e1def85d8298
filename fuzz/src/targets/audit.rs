//! The audit log, as `portcullisd audit verify` reads it, and as a gateway finds it when it starts.

use super::vectors;
use crate::{Memory, Pure, Subject, Target, Verdict};
use portcullis_gateway::audit::{AuditLog, ChainHead, ChainVerifier, Entry, verify};
use sha2::{Digest, Sha256};
use std::fs;
use tempfile::TempDir;

/// A whole log.
pub(super) const AUDIT_LOG: Target = Target {
    name: "audit_log",
    prepare: || {
        Box::new(Pure {
            samples: || vec![log(2), log(1)],
            judge: judge_log,
            memory: Memory::USUAL,
        })
    },
};

/// A log, 0xff, and the note of its end.
pub(super) const AUDIT_FILES: Target = Target {
    name: "audit_files",
    prepare: || Box::new(Files(tempfile::tempdir().expect("a directory"))),
};

fn judge_log(log: &[u8]) -> Verdict {
    let read = verify(log);
    if let Ok(summary) = &read {
        let lines: Vec<&[u8]> = log
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .collect();
        assert_eq!(summary.lines, lines.len() as u64);
        for pair in lines.windows(2) {
            let named = hash(&pair[0][..pair[0].len() - 1]);
            let continues = pair[1].windows(64).any(|part| part == named.as_bytes());
            assert!(continues, "a line that was changed is found out by the line after it");
        }
        if let Some(last) = lines.last() {
            assert_eq!(hex::encode(summary.head), hash(&last[..last.len() - 1]));
        }
    }
    for line in log.split(|byte| *byte == b'\n') {
        if let Ok(head) = ChainHead::of_last_line(line) {
            assert!(head.next > 0);
        }
    }
    // In two files, and with an end that was noted.
    let (first, second) = log.split_at(log.len() / 2);
    let mut verifier = ChainVerifier::new(read.as_ref().ok().map(|summary| ChainHead {
        next: summary.first + summary.lines,
        hash: summary.head,
    }));
    drop(verifier.read(first).and_then(|_| verifier.read(second)));
    drop(verifier.finish());
    Verdict::of(&read)
}

struct Files(TempDir);

impl Subject for Files {
    fn samples(&self) -> Vec<Vec<u8>> {
        let note = |lines: usize| {
            let file = self.0.path().join("sample");
            let head = self.0.path().join("sample.head");
            drop(fs::remove_file(&head));
            fs::write(&file, log(lines)).expect("a log");
            AuditLog::open(&file, &head).expect("a log that opens").close();
            fs::read(head).expect("a note")
        };
        vec![
            [log(2), vec![0xff], note(2)].concat(),
            [log(1), vec![0xff], note(2)].concat(),
            [Vec::new(), vec![0xff], note(2)].concat(),
        ]
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let mut parts = input.splitn(2, |byte| *byte == 0xff);
        let (file, head) = (self.0.path().join("audit.jsonl"), self.0.path().join("audit.head"));
        fs::write(&file, parts.next().unwrap_or_default()).expect("a log");
        match parts.next() {
            Some(note) => fs::write(&head, note).expect("a note"),
            None => drop(fs::remove_file(&head)),
        }
        let noted = AuditLog::noted_end(&head).expect("a note that can be read");
        let before = ChainVerifier::new(noted).and_read(&file);
        let opened = AuditLog::open(&file, &head);
        if let Ok(log) = &opened {
            log.append(&Entry::gateway("gateway.start", "OK")).expect("an entry");
            log.close();
            // What was whole before is whole after, however it was noted.
            let after = ChainVerifier::new(None).and_read(&file);
            assert!(!before || after, "an entry was appended that does not continue the log");
        }
        Verdict::of(&opened)
    }

    fn memory(&self) -> Memory {
        Memory {
            fixed: 2 * 1024 * 1024,
            per_byte: 32,
        }
    }
}

/// Whether a file is a whole chain.
trait AndRead {
    fn and_read(self, file: &std::path::Path) -> bool;
}

impl AndRead for ChainVerifier {
    fn and_read(mut self, file: &std::path::Path) -> bool {
        let bytes = fs::read(file).expect("the log");
        self.read(bytes.as_slice()).is_ok() && self.finish().is_ok()
    }
}

/// The first lines of the vectors' log.
fn log(lines: usize) -> Vec<u8> {
    let vectors = vectors();
    let all = vectors["audit"]["lines"].as_array().expect("lines");
    let text: String = all[..lines]
        .iter()
        .map(|line| format!("{}\n", line.as_str().expect("text")))
        .collect();
    text.into_bytes()
}

fn hash(line: &[u8]) -> String {
    hex::encode(
        Sha256::new()
            .chain_update(b"portcullis audit v1\0")
            .chain_update(line)
            .finalize(),
    )
}

//! Backups, as `portcullisd backup verify` and `restore` read them.

use crate::{Memory, Subject, Target, Verdict};
use portcullis_gateway::{
    backup::verify::Verified,
    store::{SqliteStore, Store, inspect},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{fs, path::PathBuf};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A byte that says how the rest is to be sealed, and a backup: as it is, or with length and digests that fit what is in it, as
/// somebody who makes a backup up would write them.
pub(super) const BACKUPS: Target = Target {
    name: "backups",
    prepare: || Box::new(Backups::new()),
};

struct Backups {
    directory: TempDir,
    runtime: Runtime,
    content: Vec<u8>,
    schema: i64,
}

impl Backups {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = Runtime::new().expect("a runtime");
        let state = directory.path().join("state");
        let store = SqliteStore::open(&state).expect("a store");
        runtime.block_on(store.close());
        drop(store);
        let copy = directory.path().join("copy");
        portcullis_gateway::store::copy_database(&state, &copy).expect("a copy");
        Self {
            schema: inspect(&copy).expect("a whole database").schema,
            content: fs::read(copy).expect("the copy"),
            directory,
            runtime,
        }
    }

    fn manifest(&self, content: &[u8]) -> Vec<u8> {
        let manifest = json!({
            "program": "0.1.0",
            "created": "2026-01-02T03:04:05Z",
            "schema": self.schema,
            "domain": { "epoch": 1, "fingerprint": "00".repeat(32) },
            "rings": 0,
            "keys": 0,
            "versions": 0,
            "audit": { "sequence": 1, "hash": "00".repeat(32) },
            "content": { "length": content.len(), "sha256": hex::encode(Sha256::digest(content)) },
        });
        manifest.to_string().into_bytes()
    }
}

impl Subject for Backups {
    fn samples(&self) -> Vec<Vec<u8>> {
        let whole = sealed(&self.manifest(&self.content), &self.content);
        vec![
            [&[AS_IT_IS], whole.as_slice()].concat(),
            [&[MANIFEST], self.manifest(&self.content).as_slice()].concat(),
            [&[CONTENT], self.content.as_slice()].concat(),
        ]
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let file: PathBuf = self.directory.path().join("backup");
        let backup = match input.split_first() {
            Some((&AS_IT_IS, backup)) => backup.to_vec(),
            Some((&MANIFEST, manifest)) => sealed(manifest, &self.content),
            Some((&CONTENT, content)) => sealed(&self.manifest(content), content),
            _ => return Verdict::Refused,
        };
        fs::write(&file, &backup).expect("a file");
        let read = self.runtime.block_on(async {
            let verified = Verified::read(&file).await?;
            verified.close().await;
            Ok::<_, portcullis_gateway::backup::BackupError>(())
        });
        match &read {
            Ok(()) if input[0] == AS_IT_IS => {
                let (body, digest) = backup.split_at(backup.len() - 32);
                assert_eq!(
                    Sha256::digest(body).as_slice(),
                    digest,
                    "a backup that was changed is not accepted"
                );
            }
            Ok(()) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        Verdict::of(&read)
    }

    fn memory(&self) -> Memory {
        Memory {
            fixed: 4 * 1024 * 1024,
            per_byte: 32,
        }
    }
}

fn sealed(manifest: &[u8], content: &[u8]) -> Vec<u8> {
    let mut backup = b"PORTCULLISBACKUP\x01".to_vec();
    backup.extend((manifest.len() as u32).to_be_bytes());
    backup.extend([manifest, content].concat());
    let digest = Sha256::digest(&backup);
    backup.extend(digest);
    backup
}

const AS_IT_IS: u8 = 0;
const MANIFEST: u8 = 1;
const CONTENT: u8 = 2;

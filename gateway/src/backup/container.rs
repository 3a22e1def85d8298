//! The layout of a backup's file: a manifest, the database, and a digest over both.

use super::{BackupError, at};
use crate::audit::ChainHead;
use portcullis_hsm::domain::Fingerprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the program that made it.
    pub program: String,
    /// When it was made (RFC 3339).
    pub created: String,
    /// The version of the database's schema.
    pub schema: i64,
    /// The domain whose HSMs can use it.
    pub domain: DomainOfBackup,
    /// How many key rings are in it.
    pub rings: u64,
    /// How many keys.
    pub keys: u64,
    /// How many key versions.
    pub versions: u64,
    /// The audit log's end just before the database was copied: every change up to there is in it.
    pub audit: Option<AuditPosition>,
    /// The database.
    pub content: ContentOfBackup,
}

/// A domain by its number and fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainOfBackup {
    /// Its epoch.
    pub epoch: u32,
    /// Its fingerprint, hexadecimal.
    pub fingerprint: String,
}

/// A place in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditPosition {
    /// The number of the last entry.
    pub sequence: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

/// The database in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentOfBackup {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

impl DomainOfBackup {
    /// A domain.
    pub fn new(epoch: u32, fingerprint: &Fingerprint) -> Self {
        Self {
            epoch,
            fingerprint: fingerprint.to_string(),
        }
    }
}

impl AuditPosition {
    /// The last entry before a chain's end; `None` before the first.
    pub fn before(head: ChainHead) -> Option<Self> {
        (head != ChainHead::START).then(|| Self {
            sequence: head.next - 1,
            hash: hex::encode(head.hash),
        })
    }
}

/// Writes a backup's file: everything but its name.
pub(super) fn write(manifest: &Manifest, content: &mut File, to: &mut File) -> io::Result<()> {
    let mut sealed = Hashing::new(to);
    let text = serde_json::to_vec(manifest)?;
    sealed.write_all(MAGIC)?;
    sealed.write_all(&[FORMAT])?;
    sealed.write_all(&(text.len() as u32).to_be_bytes())?;
    sealed.write_all(&text)?;
    if io::copy(content, &mut sealed)? != manifest.content.length {
        return Err(io::Error::other("the copy of the database changed while it was read"));
    }
    let Hashing { inner: to, hash } = sealed;
    to.write_all(&hash.finalize())?;
    to.sync_all()
}

/// A backup whose manifest was read and whose content was not.
pub(super) struct Reader {
    path: PathBuf,
    /// What it says of itself; to be believed once the content was extracted.
    pub(super) manifest: Manifest,
    file: Hashing<BufReader<File>>,
}

impl Reader {
    /// Opens a backup.
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let damaged = |reason: String| BackupError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let short = |_| damaged("it ends too early".to_owned());
        let file = File::open(path).map_err(at(path))?;
        let mut file = Hashing::new(BufReader::new(file));
        let mut head = [0; MAGIC.len() + 1];
        file.read_exact(&mut head).map_err(short)?;
        if head[..MAGIC.len()] != *MAGIC {
            return Err(damaged("it does not begin as a backup does".to_owned()));
        }
        if head[MAGIC.len()] != FORMAT {
            let found = head[MAGIC.len()];
            return Err(damaged(format!(
                "its format is {found}; this program knows format {FORMAT}: use a newer portcullisd"
            )));
        }
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(short)?;
        let length = u32::from_be_bytes(length);
        if length > LONGEST_MANIFEST {
            return Err(damaged(format!("its manifest would have {length} bytes")));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(short)?;
        let manifest =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("its manifest cannot be read: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            file,
        })
    }

    /// Writes the database to a file; fails when the backup is not what was sealed.
    pub(super) fn extract(mut self, name: &Path, to: &mut File) -> Result<Manifest, BackupError> {
        let damaged = |reason: &str| BackupError::Damaged {
            path: self.path.clone(),
            reason: reason.to_owned(),
        };
        let length = self.manifest.content.length;
        let mut content = Hashing::new(to);
        let copied = io::copy(&mut (&mut self.file).take(length), &mut content).map_err(at(name))?;
        if copied != length {
            return Err(damaged("it ends too early"));
        }
        let sealed = self.file.hash.clone().finalize();
        let mut digest = Vec::new();
        // One byte more than there may be.
        (&mut self.file)
            .take(DIGEST as u64 + 1)
            .read_to_end(&mut digest)
            .map_err(at(&self.path))?;
        if digest.len() < DIGEST {
            return Err(damaged("it ends too early"));
        }
        if digest.len() > DIGEST {
            return Err(damaged("something follows its end"));
        }
        if digest != sealed.as_slice() || hex::encode(content.hash.finalize()) != self.manifest.content.sha256 {
            return Err(damaged("its digest is another: a byte in it was changed"));
        }
        Ok(self.manifest)
    }
}

/// Reads or writes, and hashes what passes.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hash.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const MAGIC: &[u8; 16] = b"PORTCULLISBACKUP";
const FORMAT: u8 = 1;
const LONGEST_MANIFEST: u32 = 64 * 1024;
const DIGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_backup_is_read_as_it_was_written_and_no_changed_byte_passes() {
        let directory = tempfile::tempdir().expect("a directory");
        let (source, backup) = (directory.path().join("source"), directory.path().join("backup"));
        let content = vec![7; 500];
        fs::write(&source, &content).expect("content");
        let manifest = Manifest {
            program: "1.2.3".to_owned(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            schema: 1,
            domain: DomainOfBackup {
                epoch: 1,
                fingerprint: "00".repeat(32),
            },
            rings: 1,
            keys: 2,
            versions: 3,
            audit: AuditPosition::before(ChainHead { next: 9, hash: [1; 32] }),
            content: ContentOfBackup {
                length: content.len() as u64,
                sha256: hex::encode(Sha256::digest(&content)),
            },
        };
        write(
            &manifest,
            &mut File::open(&source).expect("the content"),
            &mut File::create(&backup).expect("a file"),
        )
        .expect("written");
        let read = |bytes: &[u8]| -> Result<(Manifest, Vec<u8>), BackupError> {
            let (path, to) = (directory.path().join("changed"), directory.path().join("extracted"));
            fs::write(&path, bytes).expect("a backup");
            let manifest = Reader::open(&path)?.extract(&to, &mut File::create(&to).expect("a file"))?;
            Ok((manifest, fs::read(&to).expect("the content")))
        };
        let good = fs::read(&backup).expect("the backup");
        assert_eq!(read(&good).expect("a good backup"), (manifest, content));
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at} was changed");
            assert!(read(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&[&good[..], b"."].concat()).is_err());
    }
}

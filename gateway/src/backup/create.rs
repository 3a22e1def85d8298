//! Making a backup, also beside a running gateway.

use super::{
    BackupError, at,
    container::{self, AuditPosition, ContentOfBackup, DomainOfBackup, Manifest},
};
use crate::{audit::AuditLog, config::Settings, store};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io,
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What to do where a file of the name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fail.
    Keep,
    /// Replace it, once the new one is whole.
    Replace,
}

/// Copies the database as it is at one moment into a new file, for its owner alone, whole or not at all.
///
/// Everything that the gateway confirmed before this was called is in it. A database that is not intact is not backed up.
pub fn create(settings: &Settings, output: &Path, existing: Existing) -> Result<Manifest, BackupError> {
    if existing == Existing::Keep && output.exists() {
        return Err(BackupError::Exists(output.to_owned()));
    }
    // Read first: what the log says up to here is in what is copied afterwards.
    let note = settings.audit_head();
    let noted = AuditLog::noted_end(&note).map_err(at(&note))?;
    let directory = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // On the same disk as the output, for its owner alone, and gone when this ends.
    let work = tempfile::Builder::new()
        .prefix(".portcullis-backup-")
        .tempdir_in(directory)
        .map_err(at(directory))?;
    let copy = work.path().join("database");
    store::copy_database(&settings.state_directory, &copy)?;
    let content = store::inspect(&copy)?;
    let mut database = File::open(&copy).map_err(at(&copy))?;
    let length = database.metadata().map_err(at(&copy))?.len();
    let manifest = Manifest {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        created: OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .map_err(|error| at(output)(io::Error::other(error)))?,
        schema: content.schema,
        domain: DomainOfBackup::new(settings.domain.epoch, &settings.domain.fingerprint),
        rings: content.rings,
        keys: content.keys,
        versions: content.versions,
        audit: noted.and_then(AuditPosition::before),
        content: ContentOfBackup {
            length,
            sha256: digest(&copy).map_err(at(&copy))?,
        },
    };
    let mut finished = tempfile::NamedTempFile::new_in(work.path()).map_err(at(output))?;
    container::write(&manifest, &mut database, finished.as_file_mut()).map_err(at(output))?;
    let placed = match existing {
        Existing::Keep => finished.persist_noclobber(output),
        Existing::Replace => finished.persist(output),
    };
    placed.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(output.to_owned()),
        _ => at(output)(error.error),
    })?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at(directory))?;
    Ok(manifest)
}

fn digest(file: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut fs::File::open(file)?, &mut HashWriter(&mut hash))?;
    Ok(hex::encode(hash.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

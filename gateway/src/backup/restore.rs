//! Restoring a backup onto a gateway that has no database.

use super::{
    BackupError,
    aftermath::Aftermath,
    at,
    container::{DomainOfBackup, Manifest, Reader},
    verify::Verified,
};
use crate::{
    audit::{AuditLog, Entry},
    config::Settings,
    store::{self, Precautions, StateLock, Taken},
};
use std::{collections::BTreeMap, fs, io, path::Path};

/// What a restore came to.
#[derive(Debug)]
pub struct Restored {
    /// What the backup said of itself.
    pub manifest: Manifest,
    /// The audit log's last entry before the restore.
    pub last_entry: Option<u64>,
    /// Changes that were confirmed after the backup, as far as the audit files tell: action and resource. Those that were made while
    /// the backup was may be in it.
    pub lost: Vec<String>,
    /// What was taken away from what is restored, because the time after the backup took it away, or may have.
    pub taken: Vec<String>,
    /// How many AES-GCM encryptions each version made after the backup, as far as the audit files tell. They are counted again.
    pub encryptions: BTreeMap<String, u64>,
    /// Why it is not known what happened after the backup; empty where it is.
    pub unknown: Vec<String>,
}

/// Checks a backup and puts its database in place, whole or not at all. Refuses to take the place of a database, and a backup of
/// another domain. What the time after the backup took away is taken away again.
pub async fn restore(settings: &Settings, file: &Path) -> Result<Restored, BackupError> {
    let state = &settings.state_directory;
    // Also keeps a gateway from starting meanwhile.
    let _lock = StateLock::take(state)?;
    let database = store::database_path(state);
    for existing in [database.clone(), database.with_extension("sqlite-wal")] {
        if existing.exists() {
            return Err(BackupError::Refused(format!(
                "{} exists: a backup is restored only where there is no database. Move all of portcullis.sqlite* away \
                 first, and keep it until the restored gateway has been looked at",
                existing.display()
            )));
        }
    }
    let verified = Verified::read(file).await?;
    let manifest = verified.manifest.clone();
    verified.close().await;
    let configured = DomainOfBackup::new(settings.domain.epoch, &settings.domain.fingerprint);
    if manifest.domain != configured {
        return Err(BackupError::Refused(format!(
            "the backup is of domain epoch {} with fingerprint {}, the configuration names epoch {} with fingerprint {}: \
             its keys cannot be used here",
            manifest.domain.epoch, manifest.domain.fingerprint, configured.epoch, configured.fingerprint
        )));
    }
    let noted = AuditLog::noted_end(&settings.audit_head()).map_err(at(&settings.audit_head()))?;
    let aftermath =
        Aftermath::read(&settings.audit_file, manifest.audit.as_ref(), noted).map_err(at(&settings.audit_file))?;

    let audit = AuditLog::open(&settings.audit_file, &settings.audit_head())?;
    let mut entry = Entry::gateway("store.restore", "INTENT");
    entry.resource = match &manifest.audit {
        Some(audit) => format!("backup of {} after audit entry {}", manifest.created, audit.sequence),
        None => format!("backup of {}", manifest.created),
    };
    audit.append_synced(&entry).await?;
    let placed = place(file, &manifest, &aftermath.precautions, &database);
    let encryptions = aftermath.precautions.encryptions;
    let mut told = Vec::new();
    if !encryptions.is_empty() {
        let count: u64 = encryptions.values().sum();
        told.push(format!(
            "{count} AES-GCM encryptions by {} versions were made after the backup; they are counted again",
            encryptions.len()
        ));
    }
    match placed.as_ref().map(|taken| taken.held) {
        Ok(held) if held > 0 => told.push(format!(
            "{held} destructions are stopped until somebody schedules them again"
        )),
        _ => {}
    }
    entry.reason = (!told.is_empty()).then(|| told.join("; "));
    entry.outcome = if placed.is_ok() { "OK" } else { "FAILED" }.to_owned();
    audit.append_synced(&entry).await?;
    Ok(Restored {
        manifest,
        last_entry: noted.map(|head| head.next - 1),
        lost: aftermath.changes,
        taken: placed?.told,
        unknown: aftermath.unknown,
        encryptions,
    })
}

/// Extracts the database beside its place, takes precautions in it and gives it its name. Says what was taken away.
fn place(file: &Path, expected: &Manifest, precautions: &Precautions, database: &Path) -> Result<Taken, BackupError> {
    let temporary = database.with_extension("sqlite.restoring");
    for leftover in ["", "-wal", "-shm"].map(|suffix| store::beside(&temporary, suffix)) {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&leftover)(error)),
            _ => {}
        }
    }
    let mut extracted = store::create_private(&temporary).map_err(at(&temporary))?;
    let manifest = Reader::open(file)?.extract(&temporary, &mut extracted)?;
    if manifest != *expected {
        return Err(BackupError::Refused(format!(
            "{} changed while it was restored",
            file.display()
        )));
    }
    drop(extracted);
    let taken = store::take_precautions(&temporary, precautions)?;
    store::put_in_place(&temporary, database).map_err(at(database))?;
    Ok(taken)
}

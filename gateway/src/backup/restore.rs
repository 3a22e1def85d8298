//! Restoring a backup onto a gateway that has no database.

use super::{
    BackupError, at,
    container::{DomainOfBackup, Manifest, Reader},
    verify::Verified,
};
use crate::{
    audit::{AuditLog, Entry},
    config::Settings,
    policy::Action,
    store::{self, StateLock},
};
use portcullis_hsm::algorithm::Mechanism;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

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
    /// How many AES-GCM encryptions each version made after the backup, as far as the audit files tell. The restored counts do not
    /// have them.
    pub uncounted: BTreeMap<String, u64>,
}

/// Checks a backup and puts its database in place, whole or not at all. Refuses to take the place of a database, and a backup of
/// another domain.
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
    let last_entry = AuditLog::noted_end(&settings.audit_head())
        .map_err(at(&settings.audit_head()))?
        .map(|head| head.next - 1);
    let backed_up = manifest.audit.as_ref().map_or(0, |audit| audit.sequence);
    let Since { changes, encryptions } =
        Since::entry(backed_up, &settings.audit_file).map_err(at(&settings.audit_file))?;

    let audit = AuditLog::open(&settings.audit_file, &settings.audit_head())?;
    let mut entry = Entry::gateway("store.restore", "INTENT");
    entry.resource = match &manifest.audit {
        Some(audit) => format!("backup of {} after audit entry {}", manifest.created, audit.sequence),
        None => format!("backup of {}", manifest.created),
    };
    audit.append_synced(&entry).await?;
    let placed = place(file, &manifest, &database);
    if !encryptions.is_empty() {
        let count: u64 = encryptions.values().sum();
        entry.reason = Some(format!(
            "{count} AES-GCM encryptions by {} versions were made after the backup and are not counted",
            encryptions.len()
        ));
    }
    entry.outcome = if placed.is_ok() { "OK" } else { "FAILED" }.to_owned();
    audit.append_synced(&entry).await?;
    placed?;
    Ok(Restored {
        manifest,
        last_entry,
        lost: changes,
        uncounted: encryptions,
    })
}

/// Extracts the database beside its place and gives it its name.
fn place(file: &Path, expected: &Manifest, database: &Path) -> Result<(), BackupError> {
    let temporary = database.with_extension("sqlite.restoring");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&temporary)(error)),
        _ => {}
    }
    let mut extracted = store::create_private(&temporary).map_err(at(&temporary))?;
    let manifest = Reader::open(file)?.extract(&temporary, &mut extracted)?;
    if manifest != *expected {
        return Err(BackupError::Refused(format!(
            "{} changed while it was restored",
            file.display()
        )));
    }
    store::put_in_place(&temporary, database).map_err(at(database))
}

#[derive(Deserialize)]
struct Line {
    seq: u64,
    phase: String,
    #[serde(default)]
    request: String,
    action: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    also: Vec<Also>,
    #[serde(default)]
    mechanism: String,
    outcome: String,
}

/// A second permission of a call.
#[derive(Deserialize)]
struct Also {
    action: String,
    #[serde(default)]
    resource: String,
}

/// What succeeded after an entry, by what the audit file and the files rotated away from beside it say.
#[derive(Default)]
struct Since {
    /// Action and resource of what had an intent.
    changes: Vec<String>,
    /// How often each version encrypted by AES-GCM.
    encryptions: BTreeMap<String, u64>,
}

impl Since {
    fn entry(entry: u64, audit_file: &Path) -> io::Result<Self> {
        let mut since = Self::default();
        let mut intents: HashMap<String, u64> = HashMap::new();
        let mut outcomes: BTreeMap<u64, (String, String)> = BTreeMap::new();
        for file in audit_files(audit_file)? {
            for line in BufReader::new(File::open(file)?).split(b'\n') {
                // What is no entry is found by `portcullisd audit verify`.
                let Ok(line) = serde_json::from_slice::<Line>(&line?) else {
                    continue;
                };
                match line.phase.as_str() {
                    _ if line.request.is_empty() => {}
                    "intent" => drop(intents.insert(line.request, line.seq)),
                    "outcome" if line.seq > entry && line.outcome == "OK" => {
                        if let Some(version) = line.encrypted_with() {
                            *since.encryptions.entry(version.to_owned()).or_default() += 1;
                        }
                        outcomes.insert(line.seq, (line.request, format!("{} {}", line.action, line.resource)));
                    }
                    _ => {}
                }
            }
        }
        let changes = outcomes.into_values();
        since.changes = changes
            .filter(|(request, _)| intents.contains_key(request))
            .map(|(_, change)| change)
            .collect();
        Ok(since)
    }
}

impl Line {
    /// The version under which something was encrypted by AES-GCM, if that is what was done.
    fn encrypted_with(&self) -> Option<&str> {
        let action = Action::ALL.iter().find(|action| action.name() == self.action)?;
        match action {
            Action::Encrypt if self.mechanism == Mechanism::AesGcm.name() => Some(&self.resource),
            Action::GenerateDataKey | Action::GenerateSealedDataKey => Some(&self.resource),
            Action::ReEncryptFrom => {
                let to = self.also.iter().find(|also| also.action == Action::ReEncryptTo.name());
                to.map(|to| to.resource.as_str())
            }
            _ => None,
        }
    }
}

/// The audit file and what begins with its name and is not compressed.
fn audit_files(audit_file: &Path) -> io::Result<Vec<PathBuf>> {
    let name = audit_file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let directory = audit_file.parent().unwrap_or(Path::new("."));
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for found in fs::read_dir(directory)? {
        let found = found?;
        let other = found.file_name().to_string_lossy().into_owned();
        if other.starts_with(&name) && !other.ends_with(".gz") && found.file_type()?.is_file() {
            files.push(found.path());
        }
    }
    Ok(files)
}

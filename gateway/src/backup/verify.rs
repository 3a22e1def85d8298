//! Checking a backup: the file, the database in it, and each row; with an HSM also each tag.

use super::{
    BackupError, at,
    container::{Manifest, Reader},
};
use crate::{
    cluster::{Cluster, operation::Claim},
    config::Settings,
    keys::{
        directory::KeyDirectory,
        name::Id,
        record::{Protection, Row, StoredKey, Tagged, VersionRow},
        state::VersionState,
        use_count::UseCounts,
    },
    store::{self, AuthenticForm, ResidentIntent, SqliteStore, Store},
    telemetry::Telemetry,
};
use portcullis_hsm::{key_token::Storage, record::RecordKind};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::timeout;

/// A backup whose file, database and rows are as they should be. Nothing says yet that the rows are authentic.
#[derive(Debug)]
pub struct Verified {
    /// What it says of itself, which was checked.
    pub manifest: Manifest,
    file: PathBuf,
    store: Arc<dyn Store>,
    // The database, extracted; removed with this.
    work: TempDir,
}

/// What was checked with HSM members.
#[derive(Debug)]
pub struct TagReport {
    /// The members that were ready.
    pub members: Vec<String>,
    /// How many rows and tokens had their tags checked.
    pub checked: u64,
}

impl Verified {
    /// Checks everything that needs no HSM: format, digest, SQLite's own integrity, schema, counts, and the structure of each row and
    /// each key token.
    pub async fn read(file: &Path) -> Result<Self, BackupError> {
        let damaged = |reason: String| BackupError::Damaged {
            path: file.to_owned(),
            reason,
        };
        let work = tempfile::Builder::new()
            .prefix("portcullis-verify-")
            .tempdir()
            .map_err(at(&std::env::temp_dir()))?;
        let database = store::database_path(work.path());
        let manifest = {
            let mut extracted = File::create_new(&database).map_err(at(&database))?;
            Reader::open(file)?.extract(&database, &mut extracted)?
        };
        let content = store::inspect(&database).map_err(|error| damaged(error.to_string()))?;
        let counted = [
            ("schema", i128::from(manifest.schema), i128::from(content.schema)),
            ("key rings", manifest.rings.into(), content.rings.into()),
            ("keys", manifest.keys.into(), content.keys.into()),
            ("key versions", manifest.versions.into(), content.versions.into()),
        ];
        for (what, expected, found) in counted {
            if expected != found {
                return Err(damaged(format!(
                    "its manifest says {what}: {expected}, its database has {found}"
                )));
            }
        }
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(work.path()).map_err(|error| damaged(error.to_string()))?);
        let verified = Self {
            manifest,
            file: file.to_owned(),
            store,
            work,
        };
        let rows = verified.malformed().await?;
        if rows.is_empty() {
            Ok(verified)
        } else {
            verified.close().await;
            Err(BackupError::Rows {
                path: file.to_owned(),
                rows,
            })
        }
    }

    /// Checks every tag with the members of a configuration, which need not be all ready. Their workers run only for this.
    pub async fn check_tags(&self, settings: &Settings) -> Result<TagReport, BackupError> {
        let cluster = Cluster::start(
            settings.members.clone(),
            settings.cluster,
            settings.domain,
            &Telemetry::off(),
        );
        let checked = self.check_tags_with(&cluster, settings).await;
        cluster.stop().await;
        checked
    }

    /// Ends the check.
    pub async fn close(self) {
        self.store.close().await;
    }

    async fn check_tags_with(&self, cluster: &Arc<Cluster>, settings: &Settings) -> Result<TagReport, BackupError> {
        let mut readiness = cluster.readiness();
        let limit = settings.cluster.manager.start_deadline + SLOW_START;
        let _ = timeout(limit, readiness.wait_for(|now| now.ready > 0 || now.settled)).await;
        let members = cluster.members();
        if readiness.borrow().ready == 0 {
            let reasons: Vec<_> = members
                .iter()
                .map(|member| format!("{} is {:?} ({})", member.name, member.state, member.reason))
                .collect();
            return Err(BackupError::NoMember(reasons.join("; ")));
        }
        let uses = Arc::new(UseCounts::new(Arc::clone(&self.store), Arc::clone(cluster)));
        let directory = KeyDirectory::new(Arc::clone(&self.store), Arc::clone(cluster), uses, CACHED);
        let mut wrong = Vec::new();
        let mut checked = 0;
        for ring in self.rings().await? {
            let deadline = Instant::now() + CHECK_LIMIT;
            if directory.ring(&ring, deadline).await.is_err() {
                wrong.push(format!("the row of keyRings/{ring} is not authentic"));
                continue;
            }
            checked += 1;
            let mut after: Option<Vec<u8>> = None;
            loop {
                let deadline = Instant::now() + CHECK_LIMIT;
                let page = directory.keys(&ring, after.as_deref(), PAGE, deadline).await?;
                checked += page
                    .found
                    .iter()
                    .map(|key| 1 + 2 * key.versions.len() as u64)
                    .sum::<u64>();
                wrong.extend(page.unauthentic.iter().map(|name| format!("{name} is not authentic")));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        // What could be read once can be read again.
        let dependent: Vec<_> = self.dependent_rows()?.into_iter().flatten().collect();
        for part in dependent.chunks(PAGE as usize) {
            let claims: Vec<_> = part.iter().map(dependent_claim).collect();
            let verdicts = cluster.check(&claims, Instant::now() + CHECK_LIMIT).await?;
            checked += part.len() as u64;
            let forged = part.iter().zip(verdicts).filter(|(_, authentic)| !authentic);
            wrong.extend(forged.map(|(row, _)| format!("{} is not authentic", row.name)));
        }
        let mut notes = Vec::new();
        for note in self.store.resident_intents().await? {
            match note {
                Ok(note) => notes.push(note),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        let claims: Vec<_> = notes.iter().map(intent_claim).collect();
        for (note, authentic) in notes
            .iter()
            .zip(cluster.check(&claims, Instant::now() + CHECK_LIMIT).await?)
        {
            checked += 1;
            if !authentic {
                wrong.push(format!(
                    "the note of the interrupted create of {} is not authentic",
                    note.row.uid
                ));
            }
        }
        if !wrong.is_empty() {
            return Err(BackupError::Rows {
                path: self.file.clone(),
                rows: wrong,
            });
        }
        let ready = members.into_iter().filter(|member| member.fingerprint.is_some());
        Ok(TagReport {
            members: ready.map(|member| member.name).collect(),
            checked,
        })
    }

    /// The ids of all rings, all of which can be read.
    async fn rings(&self) -> Result<Vec<Id>, BackupError> {
        let mut rings = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.rings(after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(rings) };
            after = Some(last.id.clone());
            for listed in page {
                rings.push(listed.row?.row.id);
            }
        }
    }

    /// What is wrong with rows and tokens that can be seen without an HSM.
    async fn malformed(&self) -> Result<Vec<String>, BackupError> {
        let mut wrong = Vec::new();
        let mut keys = 0;
        let mut ring_after: Option<Vec<u8>> = None;
        loop {
            let rings = self.store.rings(ring_after.as_deref(), PAGE).await?;
            let Some(last) = rings.last() else { break };
            ring_after = Some(last.id.clone());
            for ring in rings {
                let ring = match ring.row {
                    Ok(ring) => ring.row.id,
                    Err(error) => {
                        wrong.push(error.to_string());
                        continue;
                    }
                };
                let mut key_after: Option<Vec<u8>> = None;
                loop {
                    let page = self.store.keys(&ring, key_after.as_deref(), PAGE).await?;
                    let Some(last) = page.last() else { break };
                    key_after = Some(last.id.clone());
                    for listed in page {
                        keys += 1;
                        match listed.row {
                            Ok(key) => wrong.extend(self.disagreement(&key)),
                            Err(error) => wrong.push(error.to_string()),
                        }
                    }
                }
            }
        }
        let unreadable = self.dependent_rows()?.into_iter().filter_map(Result::err);
        wrong.extend(unreadable.map(|name| format!("{name} is malformed")));
        if wrong.is_empty() && keys != self.manifest.keys {
            wrong.push(format!(
                "{} keys can be reached, and there are {}",
                keys, self.manifest.keys
            ));
        }
        Ok(wrong)
    }

    fn dependent_rows(&self) -> Result<Vec<Result<AuthenticForm, String>>, BackupError> {
        Ok(store::dependent_rows(&store::database_path(self.work.path()))?)
    }

    /// Where a key's row, its versions' rows and their tokens do not agree.
    fn disagreement(&self, StoredKey { key, versions, .. }: &StoredKey) -> Option<String> {
        let key = &key.row;
        if !versions.iter().any(|version| version.row.number == key.primary_version) {
            return Some(format!("{} has no primary version", key.name));
        }
        versions.iter().find_map(|Tagged { row, .. }| {
            let name = key.name.version(row.number);
            if row.key_uid != key.uid {
                return Some(format!("{name} belongs to another key"));
            }
            let token = match row.parse_token() {
                Ok(Some(token)) => token,
                Ok(None) if tokenless(row) => return None,
                Ok(None) => return Some(format!("{name}: it has no key token")),
                Err(error) => return Some(format!("{name}: {error}")),
            };
            let resident = token.storage == Storage::Resident;
            let agrees = token.uid == key.uid
                && token.version == row.number
                && token.epoch <= self.manifest.domain.epoch
                && resident == (key.protection == Protection::Resident)
                && resident != row.members.is_empty();
            (!agrees).then(|| format!("{name}: the row and the key token do not agree"))
        })
    }
}

/// Whether a version may have no token.
fn tokenless(row: &VersionRow) -> bool {
    match row.state {
        VersionState::PendingImport | VersionState::Destroyed => true,
        // A version that was given up before its key material came.
        VersionState::DestroyScheduled | VersionState::Destroying => row.history.activated.is_none(),
        _ => false,
    }
}

fn dependent_claim(row: &AuthenticForm) -> Claim {
    Claim {
        kind: RecordKind::Row,
        message: row.canonical.clone(),
        tag: row.tag.clone(),
    }
}

fn intent_claim(intent: &Tagged<ResidentIntent>) -> Claim {
    Claim {
        kind: RecordKind::Row,
        message: intent.row.canonical(),
        tag: intent.tag.clone(),
    }
}

const PAGE: u32 = 500;
const CACHED: u32 = 1000;
const CHECK_LIMIT: Duration = Duration::from_secs(60);
const SLOW_START: Duration = Duration::from_secs(5);

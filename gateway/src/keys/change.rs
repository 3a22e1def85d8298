//! Changes of keys and rings: all or nothing, once for each request id, one after another for each key.

use super::{
    directory::{DirectoryError, KeyDirectory, KeyRecord, VersionRecord},
    name::{Id, KeyName},
    record::{KeyProfile, KeyRow, Layout, RingRow, Row, StoredKey, Tagged, VersionRow},
    use_count::UseError,
};
use crate::{
    audit::AuditError,
    cluster::{
        Cluster, ClusterError,
        core::{Errand, Principal},
    },
    store::{Created, Earlier, Idempotency, KeyChange, Store, StoreError},
};
use portcullis_hsm::record::Tag;
use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HSMs refused.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A record could not be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The audit log could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A use count could not be read or written.
    #[error(transparent)]
    Uses(#[from] UseError),
    /// It changed since the caller read it.
    #[error("{0} has changed since: read it again for its etag")]
    Stale(String),
    /// The key has no such version.
    #[error("{0} does not exist")]
    NoVersion(String),
    /// The version's state does not allow it.
    #[error("{name} is {state}; this needs {required}")]
    State {
        /// The version.
        name: String,
        /// Its state.
        state: &'static str,
        /// The states in which it is possible.
        required: &'static str,
    },
    /// The labels are beyond their limits.
    #[error("labels: {0}")]
    Labels(String),
    /// A time is shorter or longer than it may be.
    #[error("a destruction window of {wanted} is not within {least} and {most}")]
    Window {
        /// What was asked for.
        wanted: String,
        /// The ring's least.
        least: String,
        /// The most.
        most: String,
    },
}

/// Whether a change is made, or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is made.
    Make,
    /// All that can be checked is checked; the answer is what would be.
    Check,
}

/// What accompanies every change.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The revision that the caller knows, if it says so.
    pub expected: Option<u64>,
    /// The caller's promise to recognise a repetition.
    pub once: Option<Idempotency>,
    /// Whether it is made.
    pub mode: Mode,
    /// On whose behalf.
    pub principal: Principal,
    /// When the caller no longer waits.
    pub deadline: Instant,
}

impl Terms {
    /// The change as the session manager knows it.
    pub fn errand(&self) -> Errand {
        Errand {
            principal: self.principal,
            deadline: self.deadline,
        }
    }
}

/// New rows of a key.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The key's own, if that changes.
    pub(super) key: Option<KeyRow>,
    /// Those of versions.
    pub(super) versions: Vec<VersionRow>,
}

/// Changes keys and rings.
#[derive(Debug)]
pub struct Changes {
    pub(super) store: Arc<dyn Store>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) directory: Arc<KeyDirectory>,
}

impl Changes {
    /// Works on these.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>, directory: Arc<KeyDirectory>) -> Self {
        Self {
            store,
            cluster,
            directory,
        }
    }

    /// Replaces a ring's labels by what `change` makes of them.
    pub async fn update_ring(
        &self,
        id: &Id,
        terms: Terms,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), String>,
    ) -> Result<Arc<RingRow>, ChangeError> {
        let _lock = self.directory.lock_ring(id, terms.deadline).await?;
        let row = self.directory.ring_under_lock(id, terms.deadline).await?;
        if self.is_repetition(terms.once.as_ref(), terms.deadline).await? {
            return Ok(row);
        }
        require_revision(terms.expected, row.revision, || format!("keyRings/{id}"))?;
        let mut next = RingRow {
            revision: row.revision + 1,
            layout: Layout::Two,
            ..RingRow::clone(&row)
        };
        change(&mut next.labels).map_err(ChangeError::Labels)?;
        if terms.mode == Mode::Check {
            return Ok(Arc::new(next));
        }
        let [tag] = self.tags([&next as &dyn Row], terms.deadline).await?;
        let _changing = self.directory.changing(id);
        let store = self.store.by(terms.deadline);
        if let Err(error) = store.update_ring(Tagged::new(next.clone(), tag), terms.once).await {
            // What is stored now is not known for sure.
            self.directory.forget_ring(id).await;
            return Err(error.into());
        }
        Ok(self.directory.remember_ring(next).await)
    }

    /// Changes a key's labels and destruction window.
    pub async fn update_key(
        &self,
        name: &KeyName,
        terms: Terms,
        windows: Windows,
        change: impl FnOnce(&mut BTreeMap<String, String>, &mut Duration) -> Result<(), String>,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let ring = self.directory.ring(&name.ring, terms.deadline).await?;
        self.change(name, terms, |record, _| {
            let (mut labels, mut profile) = (record.key.labels.clone(), record.profile.clone());
            change(&mut labels, &mut profile.destroy_window).map_err(ChangeError::Labels)?;
            if profile.destroy_window != record.profile.destroy_window {
                windows.check(profile.destroy_window, ring.least_destroy_window)?;
            }
            Ok(Plan {
                key: Some(KeyRow {
                    labels,
                    ..next_key(record, profile)
                }),
                versions: Vec::new(),
            })
        })
        .await
    }

    /// Chooses the version that operations use when they name only the key. It must be active.
    pub async fn set_primary(&self, name: &KeyName, number: u32, terms: Terms) -> Result<Arc<KeyRecord>, ChangeError> {
        self.change(name, terms, |record, _| {
            let version = find_version(record, number)?;
            if version.state() != super::state::VersionState::Active {
                return Err(ChangeError::State {
                    name: name.version(number),
                    state: version.state().name(),
                    required: "ACTIVE",
                });
            }
            Ok(Plan {
                key: Some(KeyRow {
                    primary_version: number,
                    ..next_key(record, record.profile.clone())
                }),
                versions: Vec::new(),
            })
        })
        .await
    }

    /// Makes a change of a key under its lock, unless the same request made it before.
    pub(super) async fn change(
        &self,
        name: &KeyName,
        terms: Terms,
        plan: impl FnOnce(&KeyRecord, Instant) -> Result<Plan, ChangeError>,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let _lock = self.directory.locks.lock(name, terms.deadline).await?;
        let record = self.directory.key_under_lock(name, terms.deadline).await?;
        if self.is_repetition(terms.once.as_ref(), terms.deadline).await? {
            return Ok(record);
        }
        require_revision(terms.expected, record.key.revision, || name.to_string())?;
        let plan = plan(&record, terms.deadline)?;
        match terms.mode {
            Mode::Make => self.commit(&record, plan, terms.once, terms.deadline).await,
            Mode::Check => Ok(self.directory.assemble(planned(&record, &plan))?),
        }
    }

    /// Authenticates and stores new rows of a key whose lock is held, and keeps the new record.
    pub(super) async fn commit(
        &self,
        record: &KeyRecord,
        plan: Plan,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let authentic = self.authenticate(record, plan, deadline).await?;
        self.keep(record, authentic, once, deadline).await
    }

    /// Lets an HSM authenticate new rows of a key.
    pub(super) async fn authenticate(
        &self,
        record: &KeyRecord,
        mut plan: Plan,
        deadline: Instant,
    ) -> Result<Authentic, ChangeError> {
        if plan.key.is_none() && record.key.profile.is_none() {
            // A key of the first layout learns what it is before its only token may go.
            plan.key = Some(next_key(record, record.profile.clone()));
        }
        let mut rows: Vec<&dyn Row> = plan.key.iter().map(|row| row as &dyn Row).collect();
        rows.extend(plan.versions.iter().map(|row| row as &dyn Row));
        let canonical = rows.iter().map(|row| row.canonical()).collect();
        let mut tags = self.cluster.authenticate_rows(canonical, deadline).await?.into_iter();
        let mut tagged = || tags.next().ok_or(ClusterError::Protocol);
        let change = KeyChange {
            name: record.key.name.clone(),
            key: match &plan.key {
                Some(row) => Some(Tagged::new(row.clone(), tagged()?)),
                None => None,
            },
            versions: plan
                .versions
                .iter()
                .map(|row| Ok(Tagged::new(row.clone(), tagged()?)))
                .collect::<Result<_, ClusterError>>()?,
        };
        Ok(Authentic { plan, change })
    }

    /// Stores new rows of a key whose lock is held, and keeps the new record.
    pub(super) async fn keep(
        &self,
        record: &KeyRecord,
        Authentic { plan, change }: Authentic,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let _changing = self.directory.changing(&record.key.name.ring);
        match self.store.by(deadline).change_key(change, once).await {
            Ok(Created::New) => {
                let record = self.directory.assemble(planned(record, &plan))?;
                self.directory.remember(&record).await;
                Ok(record)
            }
            Ok(Created::Before) => Ok(self.directory.key_under_lock(&record.key.name, deadline).await?),
            Err(error) => {
                // What is stored now is not known for sure.
                self.directory.forget(&record.key.name).await;
                Err(error.into())
            }
        }
    }

    /// Whether the same request made its change before.
    pub(super) async fn is_repetition(
        &self,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<bool, ChangeError> {
        Ok(self.earlier(once, deadline).await?.is_some())
    }

    /// What is known of the same request, if it made its change before.
    pub(super) async fn earlier(
        &self,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<Option<Earlier>, ChangeError> {
        match once {
            Some(once) => Ok(self.store.by(deadline).earlier(once).await?),
            None => Ok(None),
        }
    }

    /// The tags of rows.
    pub(super) async fn tags<const N: usize>(
        &self,
        rows: [&dyn Row; N],
        deadline: Instant,
    ) -> Result<[Tag; N], ChangeError> {
        let tags = self
            .cluster
            .authenticate_rows(rows.map(Row::canonical).to_vec(), deadline)
            .await?;
        Ok(tags.try_into().map_err(|_| ClusterError::Protocol)?)
    }
}

/// New rows of a key with their tags.
pub(super) struct Authentic {
    plan: Plan,
    change: KeyChange,
}

/// How long a destruction may wait.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    /// The least in any ring.
    pub least: Duration,
    /// What a key has when nobody says.
    pub usual: Duration,
    /// The most.
    pub most: Duration,
}

impl Windows {
    /// Whether a window is within the limits of the gateway and of a ring.
    pub fn check(&self, wanted: Duration, least_of_ring: Duration) -> Result<(), ChangeError> {
        let least = self.least.max(least_of_ring);
        if (least..=self.most).contains(&wanted) {
            return Ok(());
        }
        let shown = |duration| humantime::format_duration(duration).to_string();
        Err(ChangeError::Window {
            wanted: shown(wanted),
            least: shown(least),
            most: shown(self.most),
        })
    }
}

/// The next form of a key's row, with what its versions are.
pub(super) fn next_key(record: &KeyRecord, profile: KeyProfile) -> KeyRow {
    KeyRow {
        revision: record.key.revision + 1,
        profile: Some(profile),
        ..record.key.clone()
    }
}

pub(super) fn find_version(record: &KeyRecord, number: u32) -> Result<&VersionRecord, ChangeError> {
    record
        .version(number)
        .ok_or_else(|| ChangeError::NoVersion(record.key.name.version(number)))
}

pub(super) fn require_revision(
    expected: Option<u64>,
    found: u64,
    name: impl FnOnce() -> String,
) -> Result<(), ChangeError> {
    match expected {
        Some(expected) if expected != found => Err(ChangeError::Stale(name())),
        _ => Ok(()),
    }
}

/// A key's rows as they are after a change. Their tags are not needed any more.
pub(super) fn planned(record: &KeyRecord, plan: &Plan) -> StoredKey {
    let untagged = |row: &VersionRow| Tagged {
        row: row.clone(),
        tag: Vec::new(),
    };
    let changed = |number: u32| plan.versions.iter().find(|row| row.number == number);
    let mut versions: Vec<_> = record
        .versions
        .iter()
        .map(|version| untagged(changed(version.row.number).unwrap_or(&version.row)))
        .collect();
    let added = plan.versions.iter().filter(|row| record.version(row.number).is_none());
    versions.extend(added.map(untagged));
    let unchanged = || {
        let versions = record.versions.iter();
        versions.filter(|version| changed(version.row.number).is_none())
    };
    StoredKey {
        key: Tagged {
            row: plan.key.as_ref().unwrap_or(&record.key).clone(),
            tag: Vec::new(),
        },
        versions,
        restrictions: unchanged().filter_map(|version| version.restriction.clone()).collect(),
        holds: unchanged().filter_map(|version| version.hold.clone()).collect(),
        presumed_last_version: record.profile.last_version,
    }
}

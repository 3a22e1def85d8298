//! Key records in memory: read once, checked once, then used without the database and without a check.
//!
//! What the database holds is believed only after the domain's mac key confirmed the tags of the key's row, of each
//! version's row and of each key token, and after the three agree with each other.

mod key_record;
mod published;
mod rings;

pub use key_record::{KeyRecord, Material, VersionRecord};
pub use published::{Completeness, SigningKeys};

use super::{
    locks::{ChangesByRing, Changing, Locks},
    name::{Id, KeyName},
    record::{DEFAULT_DESTROY_WINDOW, KeyProfile, Protection, Restriction, RingRow, Row, StoredKey, Tagged},
    state::VersionState,
    use_count::UseCounts,
};
use crate::{
    cluster::{Cluster, ClusterError, Key, operation::Claim},
    store::{Listed, Store, StoreError},
    telemetry,
};
use moka::future::Cache;
use portcullis_hsm::{
    key_token::{KeyToken, Storage},
    record::RecordKind,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The ring does not exist.
    #[error("{0} does not exist")]
    NoRing(String),
    /// The key does not exist.
    #[error("{0} does not exist")]
    NoKey(String),
    /// The stored record was changed, swapped, or made under another domain.
    #[error("the stored record of {name} is not authentic ({what}): the gateway refuses to use it")]
    NotAuthentic {
        /// The resource.
        name: String,
        /// Which part of it.
        what: String,
    },
    /// The store did not answer before the deadline.
    #[error("{}", StoreError::Late)]
    Late,
    /// The store failed.
    #[error("{0}")]
    Store(String),
    /// The check could not be made.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page<T> {
    /// What was found and checked, by id.
    pub found: Vec<T>,
    /// Names whose records are not authentic.
    pub unauthentic: Vec<String>,
    /// The bytes of the id to go on after; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl<T> Page<T> {
    /// An empty page for at most `limit` of the stored rows: one more than that tells that another page follows.
    pub(super) fn cut<R>(mut stored: Vec<Listed<R>>, limit: u32) -> (Vec<Listed<R>>, Self) {
        let more = stored.len() > limit as usize;
        stored.truncate(limit as usize);
        let next = stored.last().filter(|_| more).map(|last| last.id.clone());
        let page = Self {
            found: Vec::new(),
            unauthentic: Vec::new(),
            next,
        };
        (stored, page)
    }
}

/// The directory.
#[derive(Debug)]
pub struct KeyDirectory {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    records: Cache<KeyName, Arc<KeyRecord>>,
    rings: Cache<Id, Arc<RingRow>>,
    signing_keys: Cache<Id, Arc<SigningKeys>>,
    /// Whoever changes a key, or reads it for the first time, holds its lock until the record is kept.
    pub(super) locks: Locks,
    /// The same for rings. Whoever holds a key's lock may take that of its ring, and never the other way round.
    ring_locks: Locks,
    // Whoever reads all keys of a ring to know which sign.
    walks: Locks,
    changes: ChangesByRing,
    uses: Arc<UseCounts>,
}

impl KeyDirectory {
    /// A directory that keeps at most `capacity` records.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>, uses: Arc<UseCounts>, capacity: u32) -> Self {
        Self {
            store,
            cluster,
            records: Cache::new(capacity.into()),
            rings: Cache::new(capacity.into()),
            signing_keys: published::cache(),
            locks: Locks::new(),
            ring_locks: Locks::new(),
            walks: Locks::new(),
            changes: ChangesByRing::new(),
            uses,
        }
    }

    /// A key by its name. Only the first use reads the database.
    pub async fn key(&self, name: &KeyName, deadline: Instant) -> Result<Arc<KeyRecord>, DirectoryError> {
        let cached = self.records.get(name).await;
        self.cluster.telemetry().metrics().directory_lookup(cached.is_some());
        if let Some(record) = cached {
            telemetry::note_key(record.key.uid);
            return Ok(record);
        }
        let _lock = self.locks.lock(name, deadline).await?;
        let record = self.key_under_lock(name, deadline).await?;
        telemetry::note_key(record.key.uid);
        Ok(record)
    }

    /// A key whose lock is held.
    pub(super) async fn key_under_lock(
        &self,
        name: &KeyName,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, DirectoryError> {
        if let Some(record) = self.records.get(name).await {
            return Ok(record);
        }
        let stored = self.read(name, deadline).await?;
        // Invariant: there is a result for each key.
        let mut checked = self.check(vec![stored], deadline).await?;
        let record = checked
            .pop()
            .unwrap_or_else(|| Err(DirectoryError::NoKey(name.to_string())))?;
        self.remember(&record).await;
        Ok(record)
    }

    /// A key whose lock is held, as the database has it, without a check: only good for taking something away from it.
    pub(super) async fn key_unchecked(
        &self,
        name: &KeyName,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, DirectoryError> {
        let stored = self.read(name, deadline).await?;
        self.assemble(stored)
    }

    /// A key of which something is to be taken away: checked, unless no HSM can check it or has the time.
    pub async fn key_to_restrict(&self, name: &KeyName, deadline: Instant) -> Result<Arc<KeyRecord>, DirectoryError> {
        match self.key(name, restriction_patience(deadline)).await {
            Err(DirectoryError::Cluster(error)) if error.is_for_want_of_a_member() => {
                let _lock = self.locks.lock(name, Instant::now() + BACKGROUND_DEADLINE).await?;
                self.key_unchecked(name, Instant::now() + BACKGROUND_DEADLINE).await
            }
            record => record,
        }
    }

    async fn read(&self, name: &KeyName, deadline: Instant) -> Result<StoredKey, DirectoryError> {
        let stored = self.store.by(deadline).key(&name.ring, &name.key).await?;
        stored.ok_or_else(|| DirectoryError::NoKey(name.to_string()))
    }

    /// Begins a change of a ring whose lock is held, or of a key of it whose lock is held.
    pub(super) fn changing(&self, ring: &Id) -> Changing<'_> {
        self.changes.begin(ring)
    }

    /// How often versions were used.
    pub fn uses(&self) -> &UseCounts {
        &self.uses
    }

    /// A key's record, if it is in memory. Whatever this gateway changes is there as soon as the change is confirmed.
    pub async fn in_memory(&self, name: &KeyName) -> Option<Arc<KeyRecord>> {
        self.records.get(name).await
    }

    /// About how many records are in memory.
    pub fn size(&self) -> u64 {
        self.records.entry_count()
    }

    /// At most `limit` keys of a ring, after one.
    pub async fn keys(
        &self,
        ring: &Id,
        after: Option<&[u8]>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<Arc<KeyRecord>>, DirectoryError> {
        self.ring(ring, deadline).await?;
        let before = self.changes.of(ring);
        let (stored, mut page) = Page::cut(self.store.by(deadline).keys(ring, after, limit + 1).await?, limit);
        let mut unchecked = Vec::new();
        for Listed { shown: id, row, .. } in stored {
            // An id that is none is in a row that was changed.
            let Ok(key) = Id::parse(&id) else {
                page.unauthentic.push(format!("keyRings/{ring}/keys/{id}"));
                continue;
            };
            let name = KeyName {
                ring: ring.clone(),
                key,
            };
            match (self.records.get(&name).await, row) {
                (Some(record), _) => page.found.push(record),
                (None, Ok(row)) => unchecked.push(row),
                (None, Err(StoreError::Malformed(_))) => page.unauthentic.push(name.to_string()),
                (None, Err(error)) => return Err(error.into()),
            }
        }
        for checked in self.check(unchecked, deadline).await? {
            match checked {
                Ok(record) => {
                    // Kept, unless somebody may have changed it since it was read.
                    if let Some(_lock) = self.locks.try_lock(&record.key.name)
                        && self.changes.none_since(ring, before)
                    {
                        self.remember(&record).await;
                    }
                    page.found.push(record);
                }
                Err(DirectoryError::NotAuthentic { name, .. }) => page.unauthentic.push(name),
                Err(error) => return Err(error),
            }
        }
        page.found.sort_by(|a, b| a.key.name.key.cmp(&b.key.name.key));
        Ok(page)
    }

    /// Forgets a key: the next use reads it again.
    pub(super) async fn forget(&self, name: &KeyName) {
        self.records.invalidate(name).await;
    }

    /// Keeps a record that was just made, or read and checked.
    pub async fn remember(&self, record: &Arc<KeyRecord>) {
        self.records.insert(record.key.name.clone(), Arc::clone(record)).await;
    }

    /// Puts a key together from its rows, without checking tags: the caller made or checked them.
    pub fn assemble(&self, stored: StoredKey) -> Result<Arc<KeyRecord>, DirectoryError> {
        let key = stored.key.row;
        let name = key.name.to_string();
        let wrong = |what: String| DirectoryError::NotAuthentic {
            name: name.clone(),
            what,
        };
        let mut records = Vec::with_capacity(stored.versions.len());
        for Tagged { row, .. } in stored.versions {
            let what = |field: &str| format!("{field} of version {}", row.number);
            let token = row.parse_token().map_err(|_| wrong(what("the key token")))?;
            if row.key_uid != key.uid {
                return Err(wrong(what("the row")));
            }
            let may_be_empty = matches!(
                row.state,
                VersionState::PendingImport
                    | VersionState::DestroyScheduled
                    | VersionState::Destroying
                    | VersionState::Destroyed
            );
            if token.is_none() && !may_be_empty {
                return Err(wrong(what("the key token, which is missing,")));
            }
            if token.as_ref().is_some_and(|token| {
                token.uid != key.uid || token.version != row.number || token.epoch != self.cluster.domain().epoch
            }) {
                return Err(wrong(what("the key token, which belongs to another version,")));
            }
            let material = token.map(|token| {
                let only = (token.storage == Storage::Resident).then(|| {
                    row.members
                        .iter()
                        .filter_map(|member| self.cluster.member(member))
                        .collect()
                });
                Material {
                    handle: Key::new(row.token.clone(), only),
                    token,
                }
            });
            let hold = stored.holds.iter().find(|one| one.number == row.number);
            let hold = hold.filter(|_| row.state.waits_for_destruction()).cloned();
            let held = hold.as_ref().map(|hold| row.held(hold));
            let restriction = stored.restrictions.iter().find(|one| one.number == row.number);
            let restricts = |one: &&Restriction| held.as_ref().unwrap_or(&row).is_restricted_by(one.state);
            records.push(VersionRecord {
                restriction: restriction.filter(restricts).cloned(),
                hold,
                uses: self.uses.counter(key.uid, row.number),
                row,
                material,
            });
        }
        if !records.iter().any(|version| version.row.number == key.primary_version) {
            return Err(wrong("its primary version is missing".to_owned()));
        }
        let mut profile = match (&key.profile, records.as_slice()) {
            (Some(profile), _) => profile.clone(),
            (None, [only]) => profile_of(only).ok_or_else(|| wrong("the key token of its version".to_owned()))?,
            (None, _) => return Err(wrong("it has several versions and no profile".to_owned())),
        };
        // It becomes part of the key's row with the next change of that.
        let presumed = stored.presumed_last_version.min(MOST_PRESUMED_VERSION);
        profile.last_version = profile.last_version.max(presumed);
        for version in &records {
            if version.row.number > profile.last_version || version.row.number == 0 {
                return Err(wrong(format!("the number of version {}", version.row.number)));
            }
            if version.material.as_ref().is_some_and(|material| {
                let token = &material.token;
                token.key_type != profile.key_type
                    || token.uses != profile.uses
                    || (token.storage == Storage::Portable) != profile.exportable
                    || (token.storage == Storage::Resident) != (key.protection == Protection::Resident)
            }) {
                return Err(wrong(format!(
                    "the key token of version {}, which says something else than the key,",
                    version.row.number
                )));
            }
        }
        Ok(Arc::new(KeyRecord {
            key,
            profile,
            versions: records,
        }))
    }

    /// Checks keys with one question to the cluster; a result for each, in order.
    async fn check(
        &self,
        stored: Vec<StoredKey>,
        deadline: Instant,
    ) -> Result<Vec<Result<Arc<KeyRecord>, DirectoryError>>, DirectoryError> {
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let mut claims = Vec::new();
        for StoredKey { key, versions, .. } in &stored {
            claims.push(row_claim(key));
            for version in versions {
                claims.push(row_claim(version));
                if version.row.token.is_empty() {
                    continue;
                }
                // Bytes too short for a tag are left to fail as they are.
                let (body, tag) = KeyToken::split(&version.row.token).unwrap_or((&version.row.token, &[]));
                claims.push(Claim {
                    kind: RecordKind::KeyToken,
                    message: body.to_vec(),
                    tag: tag.to_vec(),
                });
            }
        }
        let mut verdicts = self.cluster.check(&claims, deadline).await?.into_iter();
        let mut checked = Vec::with_capacity(stored.len());
        for key in stored {
            let mut wrong = None;
            // Invariant: there is a verdict for each claim, which `Cluster::check` ensures.
            let mut claim = |what: String| {
                if !verdicts.next().unwrap_or(false) {
                    wrong.get_or_insert(what);
                }
            };
            claim("its row".to_owned());
            for version in &key.versions {
                claim(format!("the row of version {}", version.row.number));
                if !version.row.token.is_empty() {
                    claim(format!("the key token of version {}", version.row.number));
                }
            }
            checked.push(match wrong {
                Some(what) => {
                    let name = key.key.row.name.to_string();
                    tracing::error!(key = name, what, "a stored record is not authentic");
                    Err(DirectoryError::NotAuthentic { name, what })
                }
                None => self.assemble(key),
            });
        }
        Ok(checked)
    }
}

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Malformed(name) => Self::NotAuthentic {
                name,
                what: "a field".to_owned(),
            },
            StoreError::Late => Self::Late,
            error => Self::Store(error.to_string()),
        }
    }
}

/// The profile of a key of layout 1, which has one version and says of itself what its token says.
fn profile_of(only: &VersionRecord) -> Option<KeyProfile> {
    let token = &only.material.as_ref()?.token;
    Some(KeyProfile {
        key_type: token.key_type,
        uses: token.uses.clone(),
        exportable: token.storage == Storage::Portable,
        last_version: token.version,
        destroy_window: DEFAULT_DESTROY_WINDOW,
    })
}

fn row_claim<T: Row>(tagged: &Tagged<T>) -> Claim {
    Claim {
        kind: RecordKind::Row,
        message: tagged.row.canonical(),
        tag: tagged.tag.clone(),
    }
}

/// A presumption has no tag: it may not take so many numbers that none are left.
const MOST_PRESUMED_VERSION: u32 = 1 << 31;
/// Until when something that only takes away waits for an HSM: the rest of its time is for doing it without one.
pub(super) fn restriction_patience(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + (deadline.saturating_duration_since(now) / 2).min(RESTRICTION_PATIENCE)
}

const RESTRICTION_PATIENCE: Duration = Duration::from_secs(2);
/// How long background work on records may take.
pub(super) const BACKGROUND_DEADLINE: Duration = Duration::from_secs(30);

//! Key records in memory: read once, checked once, then used without the database and without a check.
//!
//! What the database holds is believed only after the domain's mac key confirmed the tags of the key's row, of each
//! version's row and of each key token, and after the three agree with each other.

use super::{
    name::{Id, KeyName},
    record::{KeyRow, RingRow, Row, StoredKey, Tagged, VersionRow},
};
use crate::{
    cluster::{Cluster, ClusterError, Key, operation::Claim},
    policy::KeyFacts,
    store::{Listed, Store, StoreError},
};
use moka::future::Cache;
use portcullis_hsm::{
    key_token::{KeyToken, Storage},
    record::RecordKind,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout_at;

/// A checked key.
#[derive(Debug)]
pub struct KeyRecord {
    /// The key.
    pub key: KeyRow,
    /// Its versions, by number.
    pub versions: Vec<VersionRecord>,
}

/// A checked version.
#[derive(Debug)]
pub struct VersionRecord {
    /// The version.
    pub row: VersionRow,
    /// What its token says.
    pub token: KeyToken,
    /// The token, for the cluster.
    pub handle: Key,
}

impl KeyRecord {
    /// What a policy may know of the key.
    pub fn facts(&self) -> KeyFacts<'_> {
        let token = &self.primary().token;
        KeyFacts {
            name: &self.key.name,
            labels: &self.key.labels,
            purpose: self.key.purpose,
            key_type: token.key_type,
            protection: self.key.protection,
            exportable: token.storage == Storage::Portable,
        }
    }

    /// A version by its number.
    pub fn version(&self, number: u32) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.row.number == number)
    }

    /// The primary version.
    pub fn primary(&self) -> &VersionRecord {
        // Invariant: `assemble` accepts only keys whose primary version exists.
        self.version(self.key.primary_version)
            .expect("a checked key has its primary version")
    }
}

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
    fn cut<R>(mut stored: Vec<Listed<R>>, limit: u32) -> (Vec<Listed<R>>, Self) {
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
}

impl KeyDirectory {
    /// A directory that keeps at most `capacity` records.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>, capacity: u32) -> Self {
        Self {
            store,
            cluster,
            records: Cache::new(capacity.into()),
        }
    }

    /// A key by its name. Only the first use reads the database.
    pub async fn key(&self, name: &KeyName, deadline: Instant) -> Result<Arc<KeyRecord>, DirectoryError> {
        if let Some(record) = self.records.get(name).await {
            return Ok(record);
        }
        // Set while this caller's own reading waits for the database.
        let asking = AtomicBool::new(false);
        let read = async {
            asking.store(true, Ordering::Relaxed);
            let stored = self.store.key(&name.ring, &name.key).await;
            asking.store(false, Ordering::Relaxed);
            let stored = stored?;
            let stored = stored.ok_or_else(|| DirectoryError::NoKey(name.to_string()))?;
            // Not the caller's deadline: others wait for this reading too.
            let mut checked = self.check(vec![stored], Instant::now() + BACKGROUND_DEADLINE).await?;
            checked
                .pop()
                .unwrap_or_else(|| Err(DirectoryError::NoKey(name.to_string())))
        };
        match timeout_at(deadline.into(), self.records.try_get_with(name.clone(), read)).await {
            Ok(record) => record.map_err(|error| DirectoryError::clone(&error)),
            Err(_) if asking.load(Ordering::Relaxed) => Err(DirectoryError::Store(format!(
                "the database did not answer in time when {name} was read"
            ))),
            Err(_) => Err(ClusterError::DeadlinePassed.into()),
        }
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
                    self.remember(&record).await;
                    page.found.push(record);
                }
                Err(DirectoryError::NotAuthentic { name, .. }) => page.unauthentic.push(name),
                Err(error) => return Err(error),
            }
        }
        page.found.sort_by(|a, b| a.key.name.key.cmp(&b.key.name.key));
        Ok(page)
    }

    /// A ring by its id, checked.
    pub async fn ring(&self, id: &Id, deadline: Instant) -> Result<RingRow, DirectoryError> {
        let name = || format!("keyRings/{id}");
        let stored = self
            .store
            .by(deadline)
            .ring(id)
            .await?
            .ok_or_else(|| DirectoryError::NoRing(name()))?;
        let mut checked = self.check_rings(vec![stored], deadline).await?;
        checked.pop().flatten().ok_or_else(|| DirectoryError::NotAuthentic {
            name: name(),
            what: "its row".to_owned(),
        })
    }

    /// At most `limit` rings, after one.
    pub async fn rings(
        &self,
        after: Option<&[u8]>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<RingRow>, DirectoryError> {
        let (stored, mut page) = Page::cut(self.store.by(deadline).rings(after, limit + 1).await?, limit);
        let mut readable = Vec::new();
        for Listed { shown: id, row, .. } in stored {
            match row {
                Ok(row) => readable.push(row),
                Err(StoreError::Malformed(_)) => page.unauthentic.push(format!("keyRings/{id}")),
                Err(error) => return Err(error.into()),
            }
        }
        let names: Vec<_> = readable
            .iter()
            .map(|ring| format!("keyRings/{}", ring.row.id))
            .collect();
        for (name, checked) in names.into_iter().zip(self.check_rings(readable, deadline).await?) {
            match checked {
                Some(ring) => page.found.push(ring),
                None => page.unauthentic.push(name),
            }
        }
        Ok(page)
    }

    /// Keeps a record that was just made, or read and checked.
    pub async fn remember(&self, record: &Arc<KeyRecord>) {
        self.records.insert(record.key.name.clone(), Arc::clone(record)).await;
    }

    /// Puts a key together from its rows, without checking tags: the caller made or checked them.
    pub fn assemble(
        &self,
        StoredKey {
            key: Tagged { row: key, .. },
            versions,
        }: StoredKey,
    ) -> Result<Arc<KeyRecord>, DirectoryError> {
        let name = key.name.to_string();
        let wrong = |what: String| DirectoryError::NotAuthentic {
            name: name.clone(),
            what,
        };
        let mut records = Vec::with_capacity(versions.len());
        for Tagged { row, .. } in versions {
            let what = |field: &str| format!("{field} of version {}", row.number);
            let token = row.parse_token().map_err(|_| wrong(what("the key token")))?;
            if row.key_uid != key.uid {
                return Err(wrong(what("the row")));
            }
            if token.uid != key.uid || token.version != row.number || token.epoch != self.cluster.domain().epoch {
                return Err(wrong(what("the key token, which belongs to another version,")));
            }
            let only = (token.storage == Storage::Resident).then(|| {
                row.members
                    .iter()
                    .filter_map(|member| self.cluster.member(member))
                    .collect()
            });
            let handle = Key::new(row.token.clone(), only);
            records.push(VersionRecord { row, token, handle });
        }
        if !records.iter().any(|version| version.row.number == key.primary_version) {
            return Err(wrong("its primary version is missing".to_owned()));
        }
        Ok(Arc::new(KeyRecord { key, versions: records }))
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
        for StoredKey { key, versions } in &stored {
            claims.push(row_claim(key));
            for version in versions {
                claims.push(row_claim(version));
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
                claim(format!("the key token of version {}", version.row.number));
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

    async fn check_rings(
        &self,
        stored: Vec<Tagged<RingRow>>,
        deadline: Instant,
    ) -> Result<Vec<Option<RingRow>>, DirectoryError> {
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let claims: Vec<_> = stored.iter().map(row_claim).collect();
        let verdicts = self.cluster.check(&claims, deadline).await?;
        let judge = |(ring, authentic): (Tagged<RingRow>, bool)| {
            if !authentic {
                tracing::error!(ring = %ring.row.id, "a stored record is not authentic");
            }
            authentic.then_some(ring.row)
        };
        Ok(stored.into_iter().zip(verdicts).map(judge).collect())
    }
}

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Malformed(name) => Self::NotAuthentic {
                name,
                what: "a field".to_owned(),
            },
            error => Self::Store(error.to_string()),
        }
    }
}

fn row_claim<T: Row>(tagged: &Tagged<T>) -> Claim {
    Claim {
        kind: RecordKind::Row,
        message: tagged.row.canonical(),
        tag: tagged.tag.clone(),
    }
}

/// How long background work on records may take.
pub(super) const BACKGROUND_DEADLINE: Duration = Duration::from_secs(30);

//! How often versions are used, and where AES-GCM has to stop.
//!
//! With random 96-bit nonces a key may encrypt 2^32 messages (SP 800-38D section 8.3). Encryptions are counted before they
//! are made: they are reserved in the store in blocks, so that a crash counts too many and never too few. Other uses are
//! noted now and then, and what was not noted at a crash is missing.

use super::record::{Row, Tagged};
use crate::{
    cluster::{Cluster, ClusterError, operation::Claim},
    store::{Store, StoreError},
};
use portcullis_hsm::record::{CanonicalWriter, RecordKind};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use uuid::Uuid;

/// What is stored of a version's uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseCountRow {
    /// The key.
    pub key_uid: Uuid,
    /// The version.
    pub number: u32,
    /// How often its secret half was used.
    pub uses: u64,
    /// How many encryptions were made or reserved.
    pub encryptions: u64,
}

impl Row for UseCountRow {
    fn canonical(&self) -> Vec<u8> {
        CanonicalWriter::new()
            .bytes(b"use_count/1")
            .fixed(self.key_uid.as_bytes())
            .u32(self.number)
            .u64(self.uses)
            .u64(self.encryptions)
            .finish()
    }
}

/// Why a use is not counted, and so not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UseError {
    /// The version has encrypted as often as it may.
    #[error("the version has encrypted as often as AES-GCM with random nonces allows (2^32): rotate the key")]
    Exhausted,
    /// What is stored was changed.
    #[error("the stored use count is not authentic: the gateway refuses to use it")]
    NotAuthentic,
    /// The store did not answer before the deadline.
    #[error("{}", StoreError::Late)]
    Late,
    /// The store failed.
    #[error("{0}")]
    Store(String),
    /// No HSM authenticated the count.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The uses of one version.
#[derive(Debug)]
pub struct UseCounter {
    key_uid: Uuid,
    number: u32,
    // Uses that are not stored yet.
    fresh: AtomicU64,
    // Encryptions that this process made, of those that it may make.
    made: AtomicU64,
    allowed: AtomicU64,
    // What is stored, once it was read.
    stored: Arc<AsyncMutex<Option<Counted>>>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    uses: u64,
    encryptions: u64,
    // How many encryptions to reserve next.
    block: u64,
}

/// The counters of all versions that were used.
#[derive(Debug)]
pub struct UseCounts {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    counters: Mutex<HashMap<(Uuid, u32), Arc<UseCounter>>>,
}

impl UseCounter {
    /// The counter of an ephemeral key. So many encryptions that no gateway makes more in the life of one are not stored; what
    /// goes beyond is reserved in the store as for any key.
    pub fn of_ephemeral(key_uid: Uuid) -> Arc<Self> {
        Arc::new(Self {
            key_uid,
            number: 1,
            fresh: AtomicU64::new(0),
            made: AtomicU64::new(0),
            allowed: AtomicU64::new(EPHEMERAL_ENCRYPTIONS),
            stored: Arc::default(),
        })
    }

    /// Notes a use. The time when it becomes durable is the gateway's choice.
    pub fn note(&self) {
        self.fresh.fetch_add(1, Ordering::Relaxed);
    }
}

impl UseCounts {
    /// Nothing is counted yet.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>) -> Self {
        Self {
            store,
            cluster,
            counters: Mutex::default(),
        }
    }

    /// The counter of a version.
    pub fn counter(&self, key_uid: Uuid, number: u32) -> Arc<UseCounter> {
        let mut counters = self.counters.lock().unwrap_or_else(|lock| lock.into_inner());
        let counter = counters.entry((key_uid, number)).or_insert_with(|| {
            Arc::new(UseCounter {
                key_uid,
                number,
                fresh: AtomicU64::new(0),
                made: AtomicU64::new(0),
                allowed: AtomicU64::new(0),
                stored: Arc::default(),
            })
        });
        Arc::clone(counter)
    }

    /// Counts an AES-GCM encryption with a random nonce before it is made.
    pub async fn admit_encryption(&self, counter: &UseCounter, deadline: Instant) -> Result<(), UseError> {
        if take(counter) {
            return Ok(());
        }
        let mut stored = Arc::clone(&counter.stored).lock_owned().await;
        // Somebody else may have reserved while this one waited.
        while !take(counter) {
            let counted = self.read(counter, &mut stored, deadline).await?;
            let left = MOST_ENCRYPTIONS.saturating_sub(counted.encryptions);
            if left == 0 {
                return Err(UseError::Exhausted);
            }
            let block = counted.block.min(left);
            let fresh = counter.fresh.load(Ordering::Relaxed);
            let next = Counted {
                uses: counted.uses + fresh,
                encryptions: counted.encryptions + block,
                block: (counted.block * 4).min(LARGEST_BLOCK),
            };
            self.write(&[(counter, next)], deadline).await?;
            if counted.encryptions < MANY_ENCRYPTIONS && next.encryptions >= MANY_ENCRYPTIONS {
                let (uid, version) = (counter.key_uid, counter.number);
                tracing::warn!(%uid, version, "a version has made half of the encryptions that AES-GCM allows it: rotate the key");
            }
            *stored = Some(next);
            counter.fresh.fetch_sub(fresh, Ordering::Relaxed);
            counter.allowed.fetch_add(block, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How often a version was used, as far as it is known.
    pub async fn total(&self, counter: &UseCounter, deadline: Instant) -> Result<u64, UseError> {
        let mut stored = Arc::clone(&counter.stored).lock_owned().await;
        let counted = self.read(counter, &mut stored, deadline).await?;
        Ok(counted.uses + counter.fresh.load(Ordering::Relaxed))
    }

    /// Stores what is not stored yet. With `Reserves::GiveBack`, at the end of the process, also encryptions that were
    /// reserved and not made.
    pub async fn flush(&self, reserves: Reserves, deadline: Instant) -> Result<(), UseError> {
        let due: Vec<_> = {
            let mut counters = self.counters.lock().unwrap_or_else(|lock| lock.into_inner());
            // A counter that nobody holds and that says nothing new can be made again when it is needed.
            counters.retain(|_, counter| Arc::strong_count(counter) > 1 || counter.has_news(Reserves::GiveBack));
            let due = counters.values().filter(|counter| counter.has_news(reserves));
            due.cloned().collect()
        };
        for some in due.chunks(AT_ONCE) {
            let mut guards: Vec<OwnedMutexGuard<Option<Counted>>> = Vec::with_capacity(some.len());
            let mut next = Vec::with_capacity(some.len());
            for counter in some {
                let mut stored = Arc::clone(&counter.stored).lock_owned().await;
                let counted = self.read(counter, &mut stored, deadline).await?;
                let fresh = counter.fresh.load(Ordering::Relaxed);
                let unused = match reserves {
                    Reserves::Keep => 0,
                    Reserves::GiveBack => counter.take_back(),
                };
                let counted = Counted {
                    uses: counted.uses + fresh,
                    encryptions: counted.encryptions.saturating_sub(unused),
                    ..counted
                };
                guards.push(stored);
                next.push((counter.as_ref(), counted, fresh));
            }
            let rows: Vec<_> = next.iter().map(|(counter, counted, _)| (*counter, *counted)).collect();
            self.write(&rows, deadline).await?;
            for ((counter, counted, fresh), mut stored) in next.into_iter().zip(guards) {
                *stored = Some(counted);
                counter.fresh.fetch_sub(fresh, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// What is stored of a counter; its lock is held.
    async fn read(
        &self,
        counter: &UseCounter,
        stored: &mut OwnedMutexGuard<Option<Counted>>,
        deadline: Instant,
    ) -> Result<Counted, UseError> {
        if let Some(counted) = **stored {
            return Ok(counted);
        }
        let found = self
            .store
            .by(deadline)
            .use_count(counter.key_uid, counter.number)
            .await?;
        let (uses, encryptions) = match found.counted {
            None => (0, 0),
            Some(Tagged { row, tag }) => {
                let claim = Claim {
                    kind: RecordKind::Row,
                    message: row.canonical(),
                    tag,
                };
                if self.cluster.check(&[claim], deadline).await? != [true] {
                    let (uid, version) = (counter.key_uid, counter.number);
                    tracing::error!(%uid, version, "a stored use count is not authentic");
                    return Err(UseError::NotAuthentic);
                }
                (row.uses, row.encryptions)
            }
        };
        let counted = Counted {
            uses,
            // Never beyond what can be stored: it is more than a version may encrypt in any case.
            encryptions: encryptions.saturating_add(found.presumed).min(2 * MOST_ENCRYPTIONS),
            block: FIRST_BLOCK,
        };
        **stored = Some(counted);
        Ok(counted)
    }

    async fn write(&self, counts: &[(&UseCounter, Counted)], deadline: Instant) -> Result<(), UseError> {
        let rows: Vec<_> = counts
            .iter()
            .map(|(counter, counted)| UseCountRow {
                key_uid: counter.key_uid,
                number: counter.number,
                uses: counted.uses,
                encryptions: counted.encryptions,
            })
            .collect();
        let canonical = rows.iter().map(Row::canonical).collect();
        let tags = self.cluster.authenticate_rows(canonical, deadline).await?;
        let tagged = rows.into_iter().zip(tags).map(|(row, tag)| Tagged::new(row, tag));
        Ok(self.store.by(deadline).put_use_counts(tagged.collect()).await?)
    }
}

/// What becomes of encryptions that are reserved and not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserves {
    /// They will be made.
    Keep,
    /// They will not: the process ends.
    GiveBack,
}

impl UseCounter {
    fn has_news(&self, reserves: Reserves) -> bool {
        let unused = || self.made.load(Ordering::Relaxed) < self.allowed.load(Ordering::Relaxed);
        self.fresh.load(Ordering::Relaxed) > 0 || (reserves == Reserves::GiveBack && unused())
    }

    /// Takes every encryption that is left; nobody makes one after that.
    fn take_back(&self) -> u64 {
        let allowed = self.allowed.load(Ordering::Relaxed);
        allowed.saturating_sub(self.made.fetch_max(allowed, Ordering::Relaxed))
    }
}

/// Takes one of the encryptions that are allowed.
fn take(counter: &UseCounter) -> bool {
    let made = counter.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| {
        (made < counter.allowed.load(Ordering::Relaxed)).then_some(made + 1)
    });
    made.is_ok()
}

impl From<StoreError> for UseError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Malformed(_) => Self::NotAuthentic,
            StoreError::Late => Self::Late,
            error => Self::Store(error.to_string()),
        }
    }
}

/// What an ephemeral key may encrypt before its uses are stored: 2^24, a 256th of what AES-GCM allows.
const EPHEMERAL_ENCRYPTIONS: u64 = 1 << 24;
/// How often uses are stored.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often a version may encrypt with random nonces.
pub(crate) const MOST_ENCRYPTIONS: u64 = 1 << 32;
const MANY_ENCRYPTIONS: u64 = 1 << 31;
const FIRST_BLOCK: u64 = 256;
const LARGEST_BLOCK: u64 = 1 << 16;
const AT_ONCE: usize = 64;

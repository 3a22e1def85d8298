//! How often versions are used, and where AES-GCM has to stop.
//!
//! With random 96-bit nonces a key may encrypt 2^32 messages (SP 800-38D section 8.3). Encryptions are counted before they
//! are made: they are reserved in the store in blocks, so that a crash counts too many and never too few. Other uses are
//! noted now and then, and what was not noted at a crash is missing.
//!
//! An ephemeral key has one counter however many tokens there are of it, found by its identity, which renewals keep. Its
//! encryptions are reserved like those of any key; its other uses are not counted, so that a key that encrypts nothing leaves
//! nothing in the store. What is stored of one is removed when no token of it can be good any more.

use super::{
    ephemeral::LONGEST_LIFE,
    record::{Row, Tagged, micros},
};
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
use time::OffsetDateTime;
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
    kind: Kind,
    // Uses that are not stored yet.
    fresh: AtomicU64,
    // Encryptions that this process made, of those that it may make.
    made: AtomicU64,
    allowed: AtomicU64,
    // What is stored, once it was read.
    stored: Arc<AsyncMutex<Option<Counted>>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Uses and encryptions, of a stored version.
    Stored,
    /// Encryptions, of an ephemeral key.
    Ephemeral,
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
    fn new(key_uid: Uuid, number: u32, kind: Kind) -> Self {
        Self {
            key_uid,
            number,
            kind,
            fresh: AtomicU64::new(0),
            made: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            stored: Arc::default(),
        }
    }

    /// Notes a use. The time when it becomes durable is the gateway's choice.
    pub fn note(&self) {
        if self.kind == Kind::Ephemeral {
            return;
        }
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
        self.counter_of(key_uid, number, Kind::Stored)
    }

    /// The counter of an ephemeral key: one for all its tokens.
    pub fn ephemeral_counter(&self, key_uid: Uuid) -> Arc<UseCounter> {
        self.counter_of(key_uid, ONLY_VERSION, Kind::Ephemeral)
    }

    fn counter_of(&self, key_uid: Uuid, number: u32, kind: Kind) -> Arc<UseCounter> {
        let mut counters = self.counters.lock().unwrap_or_else(|lock| lock.into_inner());
        let counter = counters
            .entry((key_uid, number))
            .or_insert_with(|| Arc::new(UseCounter::new(key_uid, number, kind)));
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
    /// reserved and not made; those of a counter that nobody holds any more are given back in any case.
    pub async fn flush(&self, reserves: Reserves, deadline: Instant) -> Result<(), UseError> {
        let due: Vec<_> = {
            let mut counters = self.counters.lock().unwrap_or_else(|lock| lock.into_inner());
            // A counter that nobody holds and that says nothing new can be made again when it is needed.
            counters.retain(|_, counter| Arc::strong_count(counter) > 1 || counter.has_news(Reserves::GiveBack));
            let due = counters.values().filter_map(|counter| {
                let reserves = match Arc::strong_count(counter) {
                    1 => Reserves::GiveBack,
                    _ => reserves,
                };
                counter.has_news(reserves).then(|| (Arc::clone(counter), reserves))
            });
            due.collect()
        };
        for some in due.chunks(AT_ONCE) {
            let mut guards: Vec<OwnedMutexGuard<Option<Counted>>> = Vec::with_capacity(some.len());
            let mut next = Vec::with_capacity(some.len());
            for (counter, reserves) in some {
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

    /// Removes what is stored of ephemeral keys that are too old for any token of them to be good.
    pub async fn forget_ephemeral(&self, now: OffsetDateTime) -> Result<(), UseError> {
        let oldest = now - LONGEST_LIFE - FORGOTTEN_LATE;
        let mut after = Uuid::nil();
        loop {
            // Identities are made in the order of time.
            let ephemeral = self
                .store
                .ephemeral_use_counts(after, first_at(oldest), FORGOTTEN_AT_ONCE)
                .await?;
            let Some(last) = ephemeral.last() else {
                return Ok(());
            };
            after = *last;
            self.store.remove_use_counts(ephemeral).await?;
        }
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
            None if counter.kind == Kind::Ephemeral => (0, EPHEMERAL_MARGIN),
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

/// The first identity (a UUID of version 7) that can be made at a time.
fn first_at(time: OffsetDateTime) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&(micros(time) / 1000).to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
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

/// What an ephemeral key is taken to have encrypted before: more than a crash of the machine can take from the end of the audit log,
/// by which a restore counts the keys that it has no count of.
const EPHEMERAL_MARGIN: u64 = 1 << 20;
const ONLY_VERSION: u32 = 1;
/// How often uses are stored.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often a version may encrypt with random nonces.
pub(crate) const MOST_ENCRYPTIONS: u64 = 1 << 32;
const MANY_ENCRYPTIONS: u64 = 1 << 31;
const FIRST_BLOCK: u64 = 256;
const LARGEST_BLOCK: u64 = 1 << 16;
const AT_ONCE: usize = 64;
const FORGOTTEN_AT_ONCE: u32 = 1000;
/// How long after the last token of an ephemeral key ended its count may still be there.
const FORGOTTEN_LATE: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_older_than_a_time_exactly_when_they_were_made_before_it() {
        let before = Uuid::now_v7();
        let time = from_uuid(before) + Duration::from_millis(1);
        assert!(before < first_at(time));
        assert!(first_at(time - Duration::from_millis(1)) <= before);
    }

    fn from_uuid(uid: Uuid) -> OffsetDateTime {
        let (seconds, nanos) = uid.get_timestamp().expect("a time").to_unix();
        OffsetDateTime::UNIX_EPOCH + Duration::new(seconds, nanos)
    }
}

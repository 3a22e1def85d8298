//! The keys of a ring that sign, whose public halves are published as a set: found once, and again after a change in the ring.

use super::{DirectoryError, KeyDirectory, KeyRecord};
use crate::keys::{locks::ChangeStamp, name::Id};
use moka::future::Cache;
use portcullis_hsm::algorithm::Operation;
use std::{sync::Arc, time::Instant};

/// The signing keys of a ring.
#[derive(Debug)]
pub struct SigningKeys {
    /// The keys, by id.
    pub keys: Vec<Arc<KeyRecord>>,
    /// Whether these are all.
    pub all: Completeness,
    /// How many keys were looked at to find them.
    pub looked_at: usize,
    /// The changes of the ring's keys up to which this is true.
    stamp: ChangeStamp,
}

/// Whether something is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Nothing is left out.
    Whole,
    /// There is more.
    Partial,
}

impl KeyDirectory {
    /// The signing keys of a ring, by id; at most 20,000. Says also how many keys were looked at for this answer:
    /// none, if nothing changed in the ring since the last one.
    pub async fn signing_keys(
        &self,
        ring: &Id,
        deadline: Instant,
    ) -> Result<(Arc<SigningKeys>, usize), DirectoryError> {
        self.ring(ring, deadline).await?;
        if let Some(known) = self.known_signing_keys(ring).await {
            return Ok((known, 0));
        }
        // One looks, the others wait for what it finds.
        let _walk = self.walks.lock(ring, deadline).await?;
        if let Some(known) = self.known_signing_keys(ring).await {
            return Ok((known, 0));
        }
        let mut found = SigningKeys {
            keys: Vec::new(),
            all: Completeness::Whole,
            looked_at: 0,
            stamp: self.changes.of(ring),
        };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.keys(ring, after.as_deref(), PIECE, deadline).await?;
            found.looked_at += page.found.len() + page.unauthentic.len();
            let signing = page.found.into_iter().filter(|record| {
                record.profile.key_type.is_asymmetric() && record.profile.uses.permit_operation(Operation::Sign)
            });
            found.keys.extend(signing);
            if found.keys.len() > MOST_SIGNING_KEYS {
                found.keys.truncate(MOST_SIGNING_KEYS);
                found.all = Completeness::Partial;
                break;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let found = Arc::new(found);
        if self.changes.none_since(ring, found.stamp) {
            self.signing_keys.insert(ring.clone(), Arc::clone(&found)).await;
        }
        Ok((Arc::clone(&found), found.looked_at))
    }

    async fn known_signing_keys(&self, ring: &Id) -> Option<Arc<SigningKeys>> {
        let known = self.signing_keys.get(ring).await?;
        self.changes.none_since(ring, known.stamp).then_some(known)
    }
}

/// The sets that are kept: of many small rings, or of few large ones.
pub(super) fn cache() -> Cache<Id, Arc<SigningKeys>> {
    Cache::builder()
        .max_capacity(KEPT)
        .weigher(|_, set: &Arc<SigningKeys>| 1 + u32::try_from(set.keys.len()).unwrap_or(u32::MAX))
        .build()
}

/// So many signing keys of one ring are looked for.
const MOST_SIGNING_KEYS: usize = 20_000;
const KEPT: u64 = 200_000;
const PIECE: u32 = 1000;

//! Rings in memory: like keys, read once, checked once, then used without the database.

use super::{DirectoryError, KeyDirectory, Page, row_claim};
use crate::{
    keys::{
        name::Id,
        record::{RingRow, Tagged},
    },
    store::{Listed, StoreError},
};
use std::{sync::Arc, time::Instant};
use tokio::sync::MutexGuard;

impl KeyDirectory {
    /// A ring by its id. Only the first use reads the database.
    pub async fn ring(&self, id: &Id, deadline: Instant) -> Result<Arc<RingRow>, DirectoryError> {
        if let Some(ring) = self.rings.get(id).await {
            return Ok(ring);
        }
        let _lock = self.lock_ring(id, deadline).await?;
        self.ring_under_lock(id, deadline).await
    }

    /// Takes a ring's lock, for a change of the ring.
    pub(in crate::keys) async fn lock_ring(
        &self,
        id: &Id,
        deadline: Instant,
    ) -> Result<MutexGuard<'_, ()>, DirectoryError> {
        Ok(self.ring_locks.lock(id, deadline).await?)
    }

    /// A ring whose lock is held.
    pub(in crate::keys) async fn ring_under_lock(
        &self,
        id: &Id,
        deadline: Instant,
    ) -> Result<Arc<RingRow>, DirectoryError> {
        if let Some(ring) = self.rings.get(id).await {
            return Ok(ring);
        }
        let name = || format!("keyRings/{id}");
        let stored = self
            .store
            .by(deadline)
            .ring(id)
            .await?
            .ok_or_else(|| DirectoryError::NoRing(name()))?;
        let mut checked = self.check_rings(vec![stored], deadline).await?;
        let ring = checked.pop().flatten().ok_or_else(|| DirectoryError::NotAuthentic {
            name: name(),
            what: "its row".to_owned(),
        })?;
        Ok(self.remember_ring(ring).await)
    }

    /// Keeps a ring that was just made or changed, or read and checked; its lock is held.
    pub(in crate::keys) async fn remember_ring(&self, ring: RingRow) -> Arc<RingRow> {
        let ring = Arc::new(ring);
        self.rings.insert(ring.id.clone(), Arc::clone(&ring)).await;
        ring
    }

    /// Forgets a ring: the next use reads it again.
    pub(in crate::keys) async fn forget_ring(&self, id: &Id) {
        self.rings.invalidate(id).await;
    }

    /// At most `limit` rings, after one.
    pub async fn rings(
        &self,
        after: Option<&[u8]>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<Arc<RingRow>>, DirectoryError> {
        let before = self.changes.of_all();
        let (stored, mut page) = Page::cut(self.store.by(deadline).rings(after, limit + 1).await?, limit);
        let mut unchecked = Vec::new();
        for Listed { shown: id, row, .. } in stored {
            let known = match Id::parse(&id) {
                Ok(id) => self.rings.get(&id).await,
                Err(_) => None,
            };
            match (known, row) {
                (Some(ring), _) => page.found.push(ring),
                (None, Ok(row)) => unchecked.push(row),
                (None, Err(StoreError::Malformed(_))) => page.unauthentic.push(format!("keyRings/{id}")),
                (None, Err(error)) => return Err(error.into()),
            }
        }
        let ids: Vec<_> = unchecked.iter().map(|ring| ring.row.id.clone()).collect();
        for (id, checked) in ids.into_iter().zip(self.check_rings(unchecked, deadline).await?) {
            match checked {
                Some(ring) => {
                    let ring = Arc::new(ring);
                    // Kept, unless somebody may have changed it since it was read.
                    if let Some(_lock) = self.ring_locks.try_lock(&id)
                        && before.is_some()
                        && self.changes.of_all() == before
                    {
                        self.rings.insert(id, Arc::clone(&ring)).await;
                    }
                    page.found.push(ring);
                }
                None => page.unauthentic.push(format!("keyRings/{id}")),
            }
        }
        page.found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(page)
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

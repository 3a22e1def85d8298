//! Locks by name: changes to one thing wait for each other, and for those who read it for the first time. And a count of changes, by
//! which those who read many things without their locks know whether one of them may have changed meanwhile.

use super::name::Id;
use crate::cluster::ClusterError;
use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout_at,
};

/// A fixed number of locks over which names are spread. Whoever holds one takes no other of the same set.
#[derive(Debug)]
pub struct Locks {
    hasher: RandomState,
    locks: Vec<Mutex<()>>,
}

impl Locks {
    /// All free.
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            locks: (0..SPREAD).map(|_| Mutex::new(())).collect(),
        }
    }

    /// Waits for the lock of a name, until the deadline.
    pub async fn lock(&self, name: &impl Hash, deadline: Instant) -> Result<MutexGuard<'_, ()>, ClusterError> {
        let lock = timeout_at(deadline.into(), self.of(name).lock()).await;
        lock.map_err(|_| ClusterError::DeadlinePassed)
    }

    /// The lock of a name, if it is free.
    pub fn try_lock(&self, name: &impl Hash) -> Option<MutexGuard<'_, ()>> {
        self.of(name).try_lock().ok()
    }

    fn of(&self, name: &impl Hash) -> &Mutex<()> {
        let index = self.hasher.hash_one(name) % self.locks.len() as u64;
        &self.locks[index as usize]
    }
}

impl Default for Locks {
    fn default() -> Self {
        Self::new()
    }
}

/// How many changes have begun and ended, for each ring and the keys in it. Rings share counts: a change in one may look like a change
/// in another, never the other way round.
#[derive(Debug)]
pub(super) struct ChangesByRing {
    hasher: RandomState,
    counts: Vec<Count>,
}

#[derive(Debug, Default)]
struct Count {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A moment among the changes of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangeStamp {
    begun: u64,
    ended: u64,
}

/// A change under way, until it is dropped.
#[derive(Debug)]
pub struct Changing<'a>(&'a Count);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl ChangesByRing {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            counts: (0..SPREAD).map(|_| Count::default()).collect(),
        }
    }

    /// Begins a change of a ring or of a key in it; the lock of what is changed is held.
    pub(super) fn begin(&self, ring: &Id) -> Changing<'_> {
        let count = self.count(ring);
        count.begun.fetch_add(1, Ordering::SeqCst);
        Changing(count)
    }

    /// Now.
    pub(super) fn of(&self, ring: &Id) -> ChangeStamp {
        let count = self.count(ring);
        ChangeStamp {
            ended: count.ended.load(Ordering::SeqCst),
            begun: count.begun.load(Ordering::SeqCst),
        }
    }

    /// Whether no change was under way then, and none has begun since.
    pub(super) fn none_since(&self, ring: &Id, then: ChangeStamp) -> bool {
        then.begun == then.ended && then.begun == self.count(ring).begun.load(Ordering::SeqCst)
    }

    /// How many changes have begun anywhere; `None` while one is under way.
    pub(super) fn of_all(&self) -> Option<u64> {
        let sum = |number: fn(&Count) -> &AtomicU64| -> u64 {
            self.counts
                .iter()
                .map(|count| number(count).load(Ordering::SeqCst))
                .sum()
        };
        let ended = sum(|count| &count.ended);
        let begun = sum(|count| &count.begun);
        (begun == ended).then_some(begun)
    }

    fn count(&self, ring: &Id) -> &Count {
        let index = self.hasher.hash_one(ring) % self.counts.len() as u64;
        &self.counts[index as usize]
    }
}

const SPREAD: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_beside_a_change_is_told_from_what_is_not() {
        let (changes, ring) = (ChangesByRing::new(), Id::parse("ring").expect("an id"));
        let quiet = changes.of(&ring);
        assert!(changes.none_since(&ring, quiet));
        let change = changes.begin(&ring);
        let during = changes.of(&ring);
        assert!(!changes.none_since(&ring, quiet) && !changes.none_since(&ring, during));
        drop(change);
        assert!(!changes.none_since(&ring, quiet) && !changes.none_since(&ring, during));
        assert!(changes.none_since(&ring, changes.of(&ring)));
    }
}

//! Locks by name: changes to one thing wait for each other, and for those who read it for the first time.

use crate::cluster::ClusterError;
use std::{
    hash::{BuildHasher, Hash, RandomState},
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

const SPREAD: usize = 1024;

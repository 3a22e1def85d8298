//! One place for a worker in a member, and the life that it is at.

use crate::{
    lanes::{Lanes, Ticket},
    message::{Abilities, Epoch, WorkerState, WorkerStatus},
};
use lru::LruCache;
use portcullis_hsm::key_token::TokenDigest;
use std::{num::NonZeroUsize, time::Instant};

/// One of a member's workers.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) state: WorkerState,
    pub(super) epoch: Epoch,
    pub(super) since: Instant,
    pub(super) reason: String,
    pub(super) abilities: Abilities,
    pub(super) lanes: Lanes,
    /// When to act if nothing happens: start again, give up a start, send a probe, or give up a probe.
    pub(super) act_at: Option<Instant>,
    pub(super) probing_since: Option<Instant>,
    /// The work for which it was probed out of its turn, because it took so long.
    pub(super) suspected: Option<Ticket>,
    /// Starts that did not last, for the next pause.
    pub(super) short_lives: u32,
    /// Faults without a success between them, of which nobody knows whose they were.
    pub(super) doubtful_faults: u32,
    /// The life that it is to take the place of, once it serves.
    pub(super) replaces: Option<Epoch>,
    /// Since when another worker stands ready in its place.
    pub(super) relieved: Option<Instant>,
    // The keys that have signed right in this life.
    proven: LruCache<TokenDigest, ()>,
}

impl Worker {
    /// A place whose first worker is to be started.
    pub(super) fn new(now: Instant, keys: u32, replaces: Option<Epoch>) -> Self {
        Self {
            state: WorkerState::Down,
            epoch: Epoch(0),
            since: now,
            reason: String::new(),
            abilities: Abilities::default(),
            lanes: Lanes::default(),
            act_at: Some(now),
            probing_since: None,
            suspected: None,
            short_lives: 0,
            doubtful_faults: 0,
            replaces,
            relieved: None,
            proven: LruCache::new(NonZeroUsize::new(keys as usize).unwrap_or(NonZeroUsize::MIN)),
        }
    }

    /// Begins another life.
    pub(super) fn begin(&mut self, epoch: Epoch, give_up_at: Instant) {
        self.epoch = epoch;
        self.lanes = Lanes::default();
        self.act_at = Some(give_up_at);
        self.probing_since = None;
        self.suspected = None;
        self.relieved = None;
        self.doubtful_faults = 0;
        self.proven.clear();
    }

    /// Whether it opens its token or shows its domain: a token takes one of these at a time, and no kill.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.state, WorkerState::Starting | WorkerState::Probing)
    }

    /// Whether it has a process that serves.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.state, WorkerState::Ready | WorkerState::Retiring)
    }

    /// Whether a key has signed right in this life.
    pub(super) fn is_proven(&mut self, key: &TokenDigest) -> bool {
        self.proven.get(key).is_some()
    }

    pub(super) fn note_proof(&mut self, key: &TokenDigest) {
        self.proven.put(*key, ());
    }

    pub(super) fn forget_proof(&mut self, key: &TokenDigest) {
        self.proven.pop(key);
    }

    pub(super) fn status(&self) -> WorkerStatus {
        WorkerStatus {
            epoch: self.epoch,
            state: self.state,
            reason: self.reason.clone(),
            since: self.since,
            outstanding: self.lanes.total(),
        }
    }
}

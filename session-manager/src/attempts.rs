//! One operation over all its attempts.

use crate::message::{Epoch, MemberIndex, Principal};
use std::time::Instant;

/// What an operation is to the session manager besides what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errand {
    /// On whose behalf it is done.
    pub principal: Principal,
    /// When its caller no longer waits for it.
    pub deadline: Instant,
}

/// A member that failed at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) member: MemberIndex,
    pub(super) epoch: Epoch,
    /// Whether the operation was given to it on trial.
    pub(super) on_trial: bool,
}

/// The attempts that an operation has made.
#[derive(Debug, Clone)]
pub struct Attempts {
    pub(super) errand: Errand,
    tried: Vec<MemberIndex>,
    // Workers that died under it, whatever killed them.
    deaths: u32,
    // Workers that were killed because it hung there.
    hangs: u32,
    suspects: Vec<Suspect>,
}

impl Principal {
    /// The gateway itself. It is not held to a share: what it does is for all.
    pub const GATEWAY: Self = Self(0);
}

impl From<Instant> for Errand {
    /// Of the gateway itself, until a moment.
    fn from(deadline: Instant) -> Self {
        Self {
            principal: Principal::GATEWAY,
            deadline,
        }
    }
}

impl Attempts {
    /// None yet.
    pub fn new(errand: Errand) -> Self {
        Self {
            errand,
            tried: Vec::new(),
            deaths: 0,
            hangs: 0,
            suspects: Vec::new(),
        }
    }

    /// The members that were tried, in order; one that was tried twice comes twice.
    pub fn tried(&self) -> impl Iterator<Item = MemberIndex> + '_ {
        self.tried.iter().copied()
    }

    /// How many different members were tried.
    pub fn distinct(&self) -> usize {
        let mut members = self.tried.clone();
        members.sort_unstable();
        members.dedup();
        members.len()
    }

    /// Whether its caller no longer waits.
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.errand.deadline
    }

    /// Whether another attempt is worth it. What kills or hangs whoever does it is not tried on every member there is.
    pub(super) fn may_go_on(&self, now: Instant) -> bool {
        !self.is_late(now) && self.tried.len() < MAX_ATTEMPTS && self.deaths < MAX_DEATHS && self.hangs < MAX_HANGS
    }

    pub(super) fn has_tried(&self, member: MemberIndex) -> bool {
        self.tried.contains(&member)
    }

    pub(super) fn note(&mut self, member: MemberIndex) {
        self.tried.push(member);
    }

    pub(super) fn note_death(&mut self) {
        self.deaths += 1;
    }

    pub(super) fn note_hang(&mut self) {
        self.hangs += 1;
    }

    #[cfg(test)]
    pub(super) fn hangs(&self) -> u32 {
        self.hangs
    }

    /// Notes that a member failed at it: whether that was the member's fault shows when another does it.
    pub(super) fn suspect(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    pub(super) fn take_suspects(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }
}

/// An operation is tried at most so often.
const MAX_ATTEMPTS: usize = 4;
/// And moves on from so many workers that died under it.
const MAX_DEATHS: u32 = 3;
/// And is the one that hung on at most so many.
const MAX_HANGS: u32 = 2;

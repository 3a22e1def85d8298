//! The books of the simulation: what was granted to whom, who is to be believed, what was told; kept apart from those of the core.

use crate::{process::at, world::SETTINGS};
use portcullis_hsm::worker::lane::Lane;
use portcullis_session_manager::{
    BreakerState, Epoch, Grant, MemberIndex, MemberState, MemberStatus, Tempo, Ticket, WorkerState,
};
use std::{collections::VecDeque, time::Instant};

/// What is written down on the way.
pub(crate) struct Watch {
    pub(crate) broken: Option<String>,
    pub(crate) members: Vec<Watched>,
    pub(crate) lives: Vec<Life>,
    /// Every grant that was not given back, also of lives that are over.
    pub(crate) open: Vec<Grant>,
    /// Work that was at it for too long when its worker was killed, and whether it was killed for that.
    pub(crate) hung: Vec<(Ticket, bool)>,
    /// What was killed since the core was last looked at.
    pub(crate) killed: Vec<(MemberIndex, Epoch)>,
    /// Whether a roll was asked for of whose end nothing was told.
    pub(crate) roll_asked: bool,
}

pub(crate) struct Watched {
    pub(crate) duty: Duty,
    /// What lives up to this one say is not to be believed.
    pub(crate) fenced_through: u64,
    /// The token needs a person.
    pub(crate) lasting: bool,
    /// Whether it came to serve since it was configured.
    pub(crate) has_served: bool,
    /// Since when its token is missing.
    pub(crate) absent_since: Option<Instant>,
    pub(crate) told: MemberState,
    pub(crate) told_breaker: BreakerState,
    pub(crate) on_trial: Vec<(Ticket, Epoch)>,
    pub(crate) starts: VecDeque<Instant>,
    pub(crate) most_starts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Serve,
    Drain,
    Fenced,
    Removed,
}

/// The books of one life of a worker, kept a second time.
pub(crate) struct Life {
    pub(crate) member: MemberIndex,
    pub(crate) epoch: Epoch,
    pub(crate) lanes: [Book; 3],
}

pub(crate) struct Book {
    pub(crate) threads: usize,
    pub(crate) begun: Vec<(Grant, Instant)>,
    pub(crate) waiting: VecDeque<Grant>,
}

impl Watch {
    pub(crate) fn new(members: usize) -> Self {
        Self {
            broken: None,
            members: (0..members).map(|_| Watched::new()).collect(),
            lives: Vec::new(),
            open: Vec::new(),
            hung: Vec::new(),
            killed: Vec::new(),
            roll_asked: false,
        }
    }

    pub(crate) fn add_member(&mut self) {
        self.members.push(Watched::new());
    }

    pub(crate) fn broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(crate) fn verdict(self) -> Result<(), String> {
        self.broken.map_or(Ok(()), Err)
    }

    pub(crate) fn has_open_grants(&self) -> bool {
        !self.open.is_empty()
    }

    /// Writes a grant down.
    pub(crate) fn granted(&mut self, now: Instant, grant: &Grant, threads: usize, status: &[MemberStatus]) {
        self.open.push(*grant);
        if status[grant.member.0].breaker == BreakerState::HalfOpen {
            self.members[grant.member.0].on_trial.push((grant.ticket, grant.epoch));
        }
        let key = (grant.member, grant.epoch);
        let place = self.lives.iter().position(|life| (life.member, life.epoch) == key);
        let place = place.unwrap_or_else(|| {
            self.lives.push(Life::new(grant.member, grant.epoch, threads));
            self.lives.len() - 1
        });
        self.lives[place].lanes[at(grant.lane)].add(now, grant);
    }

    /// Strikes a grant out.
    pub(crate) fn settled(&mut self, now: Instant, grant: &Grant) {
        self.open.retain(|one| one.ticket != grant.ticket);
        self.members[grant.member.0]
            .on_trial
            .retain(|(one, _)| *one != grant.ticket);
        if let Some(life) = self.life(grant.member, grant.epoch) {
            life.lanes[at(grant.lane)].remove(now, grant.ticket);
        }
    }

    /// When the first of what is under way will have been at it for too long.
    pub(crate) fn next_hang(&self, status: &[MemberStatus]) -> Option<Instant> {
        let hangs = |life: &Life| -> Vec<_> {
            let factor = if self.others_serve(status, life.member) {
                1
            } else {
                ALONE
            };
            life.hangs(factor).map(|(at, _)| at).collect()
        };
        self.lives.iter().flat_map(hangs).min()
    }

    /// Whether a member is not the only one that serves.
    pub(crate) fn others_serve(&self, status: &[MemberStatus], member: MemberIndex) -> bool {
        status.iter().enumerate().any(|(at, other)| {
            let lives = |epoch| !self.killed.contains(&(MemberIndex(at), epoch));
            let serves = |state| matches!(state, WorkerState::Ready | WorkerState::Retiring);
            let mut workers = other.workers.iter();
            at != member.0 && workers.any(|worker| serves(worker.state) && lives(worker.epoch))
        })
    }

    /// Whether work was at it for too long when its worker was killed, and for sure killed for that.
    pub(crate) fn forget_hang(&mut self, grant: &Grant) -> Option<bool> {
        let at = self.hung.iter().position(|(ticket, _)| *ticket == grant.ticket)?;
        Some(self.hung.swap_remove(at).1)
    }

    pub(crate) fn life(&mut self, member: MemberIndex, epoch: Epoch) -> Option<&mut Life> {
        self.lives
            .iter_mut()
            .find(|life| (life.member, life.epoch) == (member, epoch))
    }

    pub(crate) fn fence(&mut self, member: MemberIndex, begun: u64) {
        let watched = &mut self.members[member.0];
        watched.fenced_through = begun;
        if watched.duty != Duty::Removed {
            watched.duty = Duty::Fenced;
        }
    }

    pub(crate) fn len(&self, member: MemberIndex, epoch: Epoch, lane: Lane) -> usize {
        let its = |life: &&Life| (life.member, life.epoch) == (member, epoch);
        self.lives.iter().find(its).map_or(0, |life| life.lanes[at(lane)].len())
    }

    pub(crate) fn under_way(&self, lane: Lane) -> impl Iterator<Item = &Grant> {
        self.lives.iter().flat_map(move |life| life.lanes[at(lane)].all())
    }
}

impl Watched {
    /// A person has seen to it.
    pub(crate) fn forgive(&mut self) {
        (self.lasting, self.absent_since) = (false, None);
    }

    /// Its token is not there.
    pub(crate) fn miss_token(&mut self, now: Instant) {
        let since = *self.absent_since.get_or_insert(now);
        self.lasting |= !self.has_served || now.saturating_duration_since(since) >= SETTINGS.token_grace;
    }

    pub(crate) fn new() -> Self {
        Self {
            duty: Duty::Serve,
            fenced_through: 0,
            lasting: false,
            has_served: false,
            absent_since: None,
            told: MemberState::Down,
            told_breaker: BreakerState::Closed,
            on_trial: Vec::new(),
            starts: VecDeque::new(),
            most_starts: 30,
        }
    }
}

impl Life {
    pub(crate) fn new(member: MemberIndex, epoch: Epoch, threads: usize) -> Self {
        let book = |threads| Book {
            threads,
            begun: Vec::new(),
            waiting: VecDeque::new(),
        };
        Self {
            member,
            epoch,
            lanes: [book(threads), book(1), book(1)],
        }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.lanes.iter().map(Book::len).sum()
    }

    /// What has been at it for so many times as long as it may.
    pub(crate) fn overdue(&self, now: Instant, factor: u32) -> impl Iterator<Item = Ticket> + '_ {
        let overdue = self.hangs(factor).filter(move |(at, _)| *at <= now);
        overdue.map(|(_, ticket)| ticket)
    }

    /// From when on what is under way is at it for too long.
    fn hangs(&self, factor: u32) -> impl Iterator<Item = (Instant, Ticket)> + '_ {
        let begun = self.lanes.iter().flat_map(|book| &book.begun);
        begun.map(move |(grant, since)| {
            let patience = match grant.tempo {
                Tempo::Quick => SETTINGS.hang_after,
                Tempo::Slow => SETTINGS.generation_hang_after,
            };
            (*since + patience * factor, grant.ticket)
        })
    }
}

impl Book {
    pub(crate) fn add(&mut self, now: Instant, grant: &Grant) {
        if self.begun.len() < self.threads {
            self.begun.push((*grant, now));
        } else {
            self.waiting.push_back(*grant);
        }
    }

    pub(crate) fn remove(&mut self, now: Instant, ticket: Ticket) {
        self.waiting.retain(|grant| grant.ticket != ticket);
        if let Some(at) = self.begun.iter().position(|(grant, _)| grant.ticket == ticket) {
            self.begun.swap_remove(at);
            if let Some(next) = self.waiting.pop_front() {
                self.begun.push((next, now));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.begun.len() + self.waiting.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Grant> {
        self.begun.iter().map(|(grant, _)| grant).chain(&self.waiting)
    }
}

/// The name of a life.
pub(crate) fn life(grant: &Grant) -> String {
    format!("{}/{}", grant.member.0, grant.epoch.0)
}

/// So many times longer the only member that serves may be at something.
pub(crate) const ALONE: u32 = 3;

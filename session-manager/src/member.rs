//! A member with its workers.

use crate::{
    breaker::Breaker,
    lanes::Ticket,
    message::{Epoch, MemberState, MemberStatus, Needs, WorkerState},
    pace::Pace,
    settings::MemberPlan,
    worker::Worker,
};
use portcullis_hsm::{
    domain::Fingerprint,
    worker::lane::{CHANGES_QUEUE, Lane},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What a member is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// It serves as well as it can.
    Serve,
    /// It finishes what it has.
    Drain,
    /// It has no worker.
    Rest,
    /// It is never used again until a person says so.
    Fenced,
    /// It is not configured, and finishes what it has.
    Leave,
}

/// A member of the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) plan: MemberPlan,
    pub(super) duty: Duty,
    pub(super) state: MemberState,
    pub(super) reason: String,
    pub(super) since: Instant,
    pub(super) workers: Vec<Worker>,
    pub(super) starts: u64,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) breaker: Breaker,
    pub(super) pace: Pace,
    /// What it was given last.
    pub(super) last_given: Ticket,
    /// The lives that a roll is still to replace here.
    pub(super) to_replace: Vec<Epoch>,
    pub(super) failed_replacements: u32,
    /// What needs a person at the token: until somebody has seen to it no worker logs in.
    pub(super) lasting: Option<String>,
    /// Whether its token was there and right since it was configured.
    pub(super) has_served: bool,
    /// Since when its token is missing.
    pub(super) absent_since: Option<Instant>,
    // Nothing that lives up to this one said is believed.
    fenced_through: Epoch,
    // When workers were started of late.
    recent_starts: VecDeque<Instant>,
}

impl Member {
    /// A member whose workers are all still to be started.
    pub(super) fn new(plan: MemberPlan, now: Instant) -> Self {
        Self {
            plan,
            duty: Duty::Serve,
            state: MemberState::Down,
            reason: String::new(),
            since: now,
            workers: Vec::new(),
            starts: 0,
            fingerprint: None,
            breaker: Breaker::new(),
            pace: Pace::new(now),
            last_given: Ticket(0),
            to_replace: Vec::new(),
            failed_replacements: 0,
            lasting: None,
            has_served: false,
            absent_since: None,
            fenced_through: Epoch(0),
            recent_starts: VecDeque::new(),
        }
    }

    pub(super) fn find(&self, epoch: Epoch) -> Option<usize> {
        self.workers.iter().position(|worker| worker.epoch == epoch)
    }

    /// The worker of a life, if it is in a state.
    pub(super) fn find_in(&mut self, epoch: Epoch, states: &[WorkerState]) -> Option<&mut Worker> {
        self.workers
            .iter_mut()
            .find(|worker| worker.epoch == epoch && states.contains(&worker.state))
    }

    /// Has nothing believed any more that the lives of today or before them said, however often the member serves again.
    pub(super) fn disbelieve(&mut self) {
        self.fenced_through = Epoch(self.starts);
    }

    /// Whether what a life said may be released.
    pub(super) fn believes(&self, epoch: Epoch) -> bool {
        epoch > self.fenced_through
    }

    /// Counts a start and gives the new life its number.
    pub(super) fn next_epoch(&mut self, now: Instant) -> Epoch {
        self.starts += 1;
        self.recent_starts.push_back(now);
        Epoch(self.starts)
    }

    /// When the next worker may be started at the earliest: a member that dies over and over takes the processors of the others.
    pub(super) fn may_start_at(&mut self, now: Instant) -> Instant {
        while self
            .recent_starts
            .front()
            .is_some_and(|start| now.saturating_duration_since(*start) >= START_WINDOW)
        {
            self.recent_starts.pop_front();
        }
        let most = STARTS_IN_WINDOW.max(2 * self.plan.workers as usize);
        match self.recent_starts.front() {
            Some(first) if self.recent_starts.len() >= most => *first + START_WINDOW,
            _ => now,
        }
    }

    /// The state that its duty and its workers make.
    pub(super) fn state_now(&self) -> MemberState {
        match self.duty {
            Duty::Drain => MemberState::Draining,
            Duty::Rest => MemberState::Drained,
            Duty::Fenced => MemberState::Fenced,
            Duty::Leave => MemberState::Removed,
            Duty::Serve => {
                let has = |state| self.workers.iter().any(|worker| worker.state == state);
                if self.workers.iter().any(Worker::is_serving) {
                    MemberState::Ready
                } else if has(WorkerState::Probing) {
                    MemberState::Probing
                } else if has(WorkerState::Starting) {
                    MemberState::Starting
                } else if has(WorkerState::Stopped) && !has(WorkerState::Down) {
                    MemberState::Stopped
                } else {
                    MemberState::Down
                }
            }
        }
    }

    /// How many places a lane has in all workers that serve.
    pub(super) fn places(&self, lane: Lane) -> u32 {
        let serving = self.workers.iter().filter(|worker| worker.state == WorkerState::Ready);
        self.bound(lane) * serving.count() as u32
    }

    /// How much of a lane one worker may have.
    pub(super) fn bound(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Uses => self.plan.queue,
            Lane::Generations => self.plan.generation_queue,
            Lane::Changes | Lane::Control => CHANGES_QUEUE as u32,
        }
    }

    /// Whether one of its workers can do something.
    pub(super) fn can(&self, needs: &Needs) -> bool {
        self.workers
            .iter()
            .any(|worker| worker.state == WorkerState::Ready && can(worker, needs))
    }

    /// The worker to which a piece of work goes best, and how loaded that is; `None` if none has room or would begin it within
    /// `left`.
    ///
    /// Token objects are changed by one worker at a time: tokens race there.
    pub(super) fn best_worker(&self, now: Instant, needs: &Needs, lane: Lane, left: Duration) -> Option<(usize, f64)> {
        let fits = |(_, worker): &(usize, &Worker)| {
            worker.state == WorkerState::Ready
                && can(worker, needs)
                && worker.lanes.len(lane) < self.bound(lane)
                && worker.lanes.expected_wait(lane) < left
        };
        let workers = self.workers.iter().enumerate();
        if lane == Lane::Changes {
            let busy = |(_, worker): &(usize, &Worker)| worker.is_serving() && worker.lanes.len(Lane::Changes) > 0;
            let writer = workers.clone().find(busy).or_else(|| workers.clone().find(fits));
            return writer.filter(fits).map(|(at, worker)| (at, load(now, worker, lane)));
        }
        workers
            .filter(fits)
            .map(|(at, worker)| (at, load(now, worker, lane)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// How loaded it is for its weight and speed, where its best worker is so loaded.
    pub(super) fn weigh(&self, now: Instant, load: f64) -> f64 {
        load * self.pace.slowness(now) / f64::from(self.plan.weight.max(1))
    }

    pub(super) fn status(&self, now: Instant) -> MemberStatus {
        MemberStatus {
            state: self.state,
            reason: self.reason.clone(),
            since: self.since,
            outstanding: self.workers.iter().map(|worker| worker.lanes.total()).sum(),
            starts: self.starts,
            fingerprint: self.fingerprint,
            breaker: self.breaker.state(),
            slowness: self.pace.slowness(now),
            workers: self.workers.iter().map(Worker::status).collect(),
            plan: self.plan,
        }
    }
}

fn can(worker: &Worker, needs: &Needs) -> bool {
    let abilities = &worker.abilities;
    needs.uses.iter().all(|one| abilities.uses.contains(one))
        && needs
            .generates
            .is_none_or(|key_type| abilities.generates.contains(&key_type))
}

/// What a worker has to do, and the more the longer it has been at what it is at: a worker that hangs is given no more work
/// long before it is known to hang.
fn load(now: Instant, worker: &Worker, lane: Lane) -> f64 {
    let waiting = f64::from(worker.lanes.len(lane) + 1);
    let stalled = match (lane, worker.lanes.oldest_use()) {
        (Lane::Uses, Some(oldest)) => {
            let usual = worker.lanes.usual_use().saturating_mul(STALL_FACTOR).max(STALL);
            let age = now.saturating_duration_since(oldest.since);
            age.saturating_sub(usual).as_secs_f64() / STALL.as_secs_f64()
        }
        _ => 0.0,
    };
    waiting * (1.0 + stalled)
}

const START_WINDOW: Duration = Duration::from_secs(60);
const STARTS_IN_WINDOW: usize = 30;
/// A use that has been at it for longer than this, and than several usual ones, makes its worker look loaded.
const STALL: Duration = Duration::from_millis(50);
const STALL_FACTOR: u32 = 8;

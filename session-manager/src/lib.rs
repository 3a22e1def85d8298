//! The decisions of the session manager: events and the time in, actions out. No sockets, clocks or threads.
//!
//! - [`message`]: what goes in and what comes out.
//! - `lifecycle`: what events mean for the members and what is due at each; `places`: the workers that a member is to have; `roll`: their
//!   replacement while they serve; `ending`: how a worker's life ends; `telling`: who is told of changes.
//! - `choice`: where an operation runs; [`attempts`]: one operation over all its attempts.
//! - `member`, `worker`: what is known of each; `lanes`: what a worker has to do; `pace`: how fast a member is;
//!   [`breaker`]: whether it is given work; `shares`: how much one principal may take.
//!
//! Every operation that is asked of the cluster may run again on another member, by its construction: it is pure, or encrypts under
//! a fresh nonce that the worker draws, or creates a wrapped key that vanishes if its reply is lost, or adopts the resident key that an
//! earlier attempt made, or destroys what may be gone already. Logins are not among them: a start that the token refused is never
//! repeated.

#![forbid(unsafe_code)]

pub mod attempts;
pub mod breaker;
mod choice;
mod ending;
mod lanes;
mod lifecycle;
mod member;
pub mod message;
mod pace;
mod places;
mod roll;
pub mod settings;
mod shares;
mod telling;
mod worker;

pub use attempts::{Attempts, Errand};
pub use breaker::BreakerState;
pub use lanes::{LaneThreads, Tempo, Ticket};
pub use message::{
    Abilities, Action, Epoch, Event, Grant, Kind, MemberIndex, MemberState, MemberStatus, Needs, Next, Outcome,
    Principal, Refusal, RollStatus, StateChange, Trouble, WorkerChange, WorkerState, WorkerStatus,
};
pub use settings::{MemberPlan, Settings};

use attempts::Suspect;
use lifecycle::{DIED, SERVING};
use member::{Duty, Member};
use pace::Baselines;
use portcullis_hsm::{domain::Fingerprint, key_token::TokenDigest, record::Tag};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use roll::Roll;
use shares::Shares;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// The deterministic core.
#[derive(Debug)]
pub struct Core {
    members: Vec<Member>,
    settings: Settings,
    expected: Fingerprint,
    // What every probe must answer: learned from the first member whose fingerprint was right.
    known_answer: Option<Tag>,
    random: StdRng,
    tickets: u64,
    shares: Shares,
    baselines: Baselines,
    roll: Roll,
    // When a worker was last ended for faults that nobody could place.
    doubted: Option<Instant>,
    // The work that workers were killed for, until it is given back.
    hung: HashSet<Ticket>,
    stopping: bool,
}

impl Core {
    /// A core whose members are all still to be started.
    pub fn new(plans: &[MemberPlan], settings: Settings, expected: Fingerprint, seed: u64, now: Instant) -> Self {
        Self {
            members: plans.iter().map(|plan| Member::new(*plan, now)).collect(),
            settings,
            expected,
            known_answer: None,
            random: StdRng::seed_from_u64(seed),
            tickets: 0,
            shares: Shares::default(),
            baselines: Baselines::default(),
            roll: Roll::default(),
            doubted: None,
            hung: HashSet::new(),
            stopping: false,
        }
    }

    /// Behaves otherwise from now on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Ends all service: nothing is admitted and nothing is started any more.
    pub fn stop(&mut self) {
        self.stopping = true;
        for worker in self.members.iter_mut().flat_map(|member| &mut member.workers) {
            worker.act_at = None;
        }
    }

    /// Takes a grant back, learns from how the attempt ended, and says what becomes of the operation.
    pub fn conclude(
        &mut self,
        now: Instant,
        grant: Grant,
        outcome: Outcome,
        attempts: &mut Attempts,
    ) -> (Vec<Action>, Next) {
        let mut actions = Vec::new();
        let (index, epoch) = (grant.member, grant.epoch);
        if matches!(outcome, Outcome::Gone) {
            attempts.note_death();
            if self.hung.contains(&grant.ticket) {
                attempts.note_hang();
            }
        }
        if matches!(outcome, Outcome::Fault) {
            attempts.suspect(Suspect {
                member: index,
                epoch,
                on_trial: self.members[index.0].breaker.has_on_trial(grant.ticket),
            });
        }
        let served = matches!(outcome, Outcome::Served);
        let unsupported = matches!(outcome, Outcome::Unsupported);
        let abandoned = matches!(outcome, Outcome::Abandoned);
        self.settle(now, grant, outcome, &mut actions);
        let next = if served && self.members[index.0].believes(epoch) {
            for suspect in attempts.take_suspects() {
                if suspect.member != index {
                    self.charge(now, suspect, &mut actions);
                }
            }
            Next::Release
        } else if abandoned
            || !attempts.may_go_on(now)
            // Another member may have what this one lacks; when all that are ready were asked, that is the answer.
            || (unsupported && attempts.distinct() >= self.ready())
        {
            // Nobody else did it either: a probe says whether the members are well.
            for suspect in attempts.take_suspects() {
                self.probe_soon(now, suspect.member, suspect.epoch);
            }
            Next::GiveUp
        } else {
            Next::Again
        };
        self.advance(now, &mut actions);
        (actions, next)
    }

    /// Takes a grant back of an operation whose caller went away.
    pub fn abandon(&mut self, now: Instant, grant: Grant, outcome: Outcome) -> Vec<Action> {
        let mut actions = Vec::new();
        self.settle(now, grant, outcome, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    /// What the end of an attempt means for the worker that made it.
    fn settle(&mut self, now: Instant, grant: Grant, outcome: Outcome, actions: &mut Vec<Action>) {
        let (index, epoch) = (grant.member, grant.epoch);
        self.hung.remove(&grant.ticket);
        let member = &mut self.members[index.0];
        let on_trial = member.breaker.end_trial(grant.ticket);
        let believed = member.believes(epoch);
        let worker = member.find_in(epoch, &SERVING).filter(|_| !self.stopping);
        let Some(worker) = worker else {
            // That worker is dead, and what it had is out of the books. What it said before may still show it as a liar; unless
            // that was known, and a person has had the member serve again since.
            if let Outcome::Lied(reason) = outcome
                && believed
            {
                self.fence(index, reason, actions);
            }
            return;
        };
        let took = worker.lanes.remove(now, grant.lane, grant.ticket);
        self.shares.remove(grant.lane, grant.principal);
        let member = &mut self.members[index.0];
        match outcome {
            Outcome::Served => {
                if member.breaker.served(now, on_trial) {
                    actions.push(Action::TellBreaker(index, member.breaker.state()));
                }
                if let Some(took) = took {
                    member.pace.learn(now, grant.kind, took, &mut self.baselines);
                    if let Some(worker) = member.find_in(epoch, &SERVING) {
                        worker.lanes.learn(grant.lane, took);
                        worker.doubtful_faults = 0;
                    }
                }
            }
            // Nothing is known of the member.
            Outcome::Abandoned | Outcome::Busy | Outcome::Unsupported => {}
            Outcome::Gone => self.go_down(now, index, epoch, DIED.to_owned(), actions),
            Outcome::Fault => self.doubt(now, index, epoch, actions),
            Outcome::Lasting(reason) => self.retire(now, index, epoch, Trouble::Lasting(reason), actions),
            Outcome::Lied(reason) => self.fence(index, reason, actions),
        }
    }

    /// A fault that may be the call's or the member's. Where nothing but faults comes and no other member shows whose they are, a
    /// newly loaded module may help; one member at a time, and not often, because it may be the calls.
    fn doubt(&mut self, now: Instant, index: MemberIndex, epoch: Epoch, actions: &mut Vec<Action>) {
        let Some(worker) = self.worker_in(index, epoch, &SERVING) else {
            return;
        };
        worker.doubtful_faults += 1;
        let many = worker.doubtful_faults >= DOUBTFUL_FAULTS;
        let allowed = self
            .doubted
            .is_none_or(|at| now.saturating_duration_since(at) >= DOUBT_INTERVAL);
        if many && allowed {
            self.doubted = Some(now);
            let reason = format!("{DOUBTFUL_FAULTS} operations in a row failed on it");
            self.retire(now, index, epoch, Trouble::Passing(reason), actions);
        }
    }

    /// Whether a signature is to be verified before it is released: until the key has signed right in this life of the worker, and
    /// a share of those that follow. `loaded` says that the key was loaded for it.
    pub fn wants_check(&mut self, grant: Grant, key: &TokenDigest, loaded: bool) -> bool {
        let drawn = self.random.random::<f64>() < self.settings.verified_share;
        let Some(worker) = self.worker_in(grant.member, grant.epoch, &SERVING) else {
            return true;
        };
        if loaded {
            worker.forget_proof(key);
        }
        drawn || !worker.is_proven(key)
    }

    /// Notes that a signature was verified and right.
    pub fn note_proof(&mut self, grant: Grant, key: &TokenDigest) {
        if let Some(worker) = self.worker_in(grant.member, grant.epoch, &SERVING) {
            worker.note_proof(key);
        }
    }

    /// What is known of each member.
    pub fn status(&self, now: Instant) -> Vec<MemberStatus> {
        self.members.iter().map(|member| member.status(now)).collect()
    }

    /// How much all principals together have under way: as much as all workers together.
    pub fn under_way(&self) -> u32 {
        self.shares.total()
    }

    /// Whether a life of a member's worker is one that is being started.
    pub fn is_starting(&self, member: MemberIndex, epoch: Epoch) -> bool {
        let starting = |worker: &worker::Worker| worker.epoch == epoch && worker.state == WorkerState::Starting;
        self.members
            .get(member.0)
            .is_some_and(|member| member.workers.iter().any(starting))
    }

    /// How many members serve.
    pub fn ready(&self) -> usize {
        let ready = |member: &&Member| member.state == MemberState::Ready;
        self.members.iter().filter(ready).count()
    }

    /// Whether the first start of every member has come to an end, good or bad.
    pub fn is_settled(&self) -> bool {
        let unsettled = |member: &Member| {
            member.duty == Duty::Serve
                && (member.starts == 0
                    || member.starts == 1 && matches!(member.state, MemberState::Starting | MemberState::Probing))
        };
        !self.members.iter().any(unsettled)
    }
}

/// So many faults in a row that nobody could place end a worker.
const DOUBTFUL_FAULTS: u32 = 10;
const DOUBT_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
use lifecycle::ALONE;
#[cfg(test)]
mod tests;

//! The decisions of the session manager: events and the time in, actions out. No sockets, clocks or threads.
//!
//! Every operation that is asked of the cluster may run again on another member, by its construction: it is pure, or
//! encrypts under a fresh nonce that the worker draws, or creates a wrapped key that vanishes if its reply is lost, or
//! adopts the resident key that an earlier attempt made. Logins are not among them, and are never repeated.

mod lanes;
mod message;

pub use lanes::{LaneThreads, Patience, Ticket};
pub use message::{
    Abilities, Action, Attempts, Epoch, Event, Grant, MemberIndex, MemberPlan, MemberState, MemberStatus, Needs,
    Outcome, Refusal, StateChange, Trouble,
};

use crate::config::ClusterSettings;
use lanes::Lanes;
use portcullis_hsm::{
    domain::Fingerprint,
    record::Tag,
    worker::lane::{CHANGES_QUEUE, Lane},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::{Duration, Instant};

/// The deterministic core.
#[derive(Debug)]
pub struct Core {
    members: Vec<Member>,
    settings: ClusterSettings,
    expected: Fingerprint,
    // What every probe must answer: learned from the first member whose fingerprint was right.
    known_answer: Option<Tag>,
    random: StdRng,
    tickets: u64,
    stopping: bool,
}

#[derive(Debug)]
struct Member {
    plan: MemberPlan,
    state: MemberState,
    reason: String,
    since: Instant,
    epoch: Epoch,
    starts: u64,
    abilities: Abilities,
    lanes: Lanes,
    fingerprint: Option<Fingerprint>,
    // When to act if nothing happens: start again, give up a start, send a probe, or give up a probe.
    act_at: Option<Instant>,
    probing_since: Option<Instant>,
    // Starts that did not last, for the next pause.
    short_lives: u32,
    consecutive_faults: u32,
}

impl Core {
    /// A core whose members are all still to be started.
    pub fn new(
        plans: &[MemberPlan],
        settings: ClusterSettings,
        expected: Fingerprint,
        seed: u64,
        now: Instant,
    ) -> Self {
        let member = |plan: &MemberPlan| Member {
            plan: *plan,
            state: MemberState::Down,
            reason: String::new(),
            since: now,
            epoch: Epoch(0),
            starts: 0,
            abilities: Abilities::default(),
            lanes: Lanes::default(),
            fingerprint: None,
            act_at: Some(now),
            probing_since: None,
            short_lives: 0,
            consecutive_faults: 0,
        };
        Self {
            members: plans.iter().map(member).collect(),
            settings,
            expected,
            known_answer: None,
            random: StdRng::seed_from_u64(seed),
            tickets: 0,
            stopping: false,
        }
    }

    /// Ends all service: nothing is admitted and nothing is started any more.
    pub fn stop(&mut self) {
        self.stopping = true;
        for member in &mut self.members {
            member.act_at = None;
        }
    }

    /// Takes an event and says what to do.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stopping {
            return actions;
        }
        match event {
            Event::Tick => {
                for index in 0..self.members.len() {
                    self.end_if_hung(now, MemberIndex(index), &mut actions);
                    self.act_if_due(now, MemberIndex(index), &mut actions);
                }
            }
            Event::Opened(member, epoch, abilities) => {
                if self.is_in(member, epoch, MemberState::Starting) {
                    self.members[member.0].lanes = Lanes::new(abilities.threads);
                    self.members[member.0].abilities = abilities;
                    self.change(now, member, MemberState::Probing, String::new(), &mut actions);
                    actions.push(Action::FindDomain(member, epoch));
                }
            }
            Event::DomainFound(member, epoch, fingerprint, answer) => {
                if self.is_in(member, epoch, MemberState::Probing) {
                    self.check_domain(now, member, fingerprint, answer, &mut actions);
                }
            }
            Event::StartFailed(member, epoch, trouble) => {
                let starting = self.is_in(member, epoch, MemberState::Starting);
                if starting || self.is_in(member, epoch, MemberState::Probing) {
                    self.retire(now, member, trouble, &mut actions);
                }
            }
            Event::Probed(member, epoch, answer) => {
                if self.is_in(member, epoch, MemberState::Ready) {
                    if self.known_answer == Some(answer) {
                        let member = &mut self.members[member.0];
                        member.probing_since = None;
                        member.act_at = Some(now + self.settings.probe_interval);
                    } else {
                        let reason = "a probe's answer was wrong: its mac key is not the domain's".to_owned();
                        self.fence(now, member, reason, &mut actions);
                    }
                }
            }
            Event::ProbeFailed(member, epoch, trouble) => {
                if self.is_in(member, epoch, MemberState::Ready) {
                    self.retire(now, member, trouble, &mut actions);
                }
            }
            Event::Gone(member, epoch, reason) => {
                let alive = [MemberState::Starting, MemberState::Probing, MemberState::Ready];
                if alive.into_iter().any(|state| self.is_in(member, epoch, state)) {
                    self.go_down(now, member, reason, &mut actions);
                } else if self.is_in(member, epoch, MemberState::Down) && self.members[member.0].reason == DIED {
                    // A caller noticed first; now the cause is known.
                    self.members[member.0].reason = reason;
                }
            }
            Event::Revived(member) => {
                if self.members[member.0].state == MemberState::Stopped {
                    self.change(now, member, MemberState::Down, String::new(), &mut actions);
                    let stopped = &mut self.members[member.0];
                    stopped.short_lives = 0;
                    stopped.act_at = Some(now);
                    self.act_if_due(now, member, &mut actions);
                }
            }
        }
        actions
    }

    /// When to come back with [`Event::Tick`] if nothing else happens.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let hang = |member: &Member| match member.state {
            MemberState::Ready => member.lanes.next_hang(self.patience()),
            _ => None,
        };
        let hangs = self.members.iter().filter_map(hang).map(|(at, _)| at);
        self.members
            .iter()
            .filter_map(|member| member.act_at)
            .chain(hangs)
            .min()
    }

    /// For how long at most nobody need look: what is begun meanwhile has no time to hang.
    pub fn longest_sleep(&self) -> Duration {
        let Patience { uses, generations } = self.patience();
        uses.min(generations) / 2
    }

    /// Chooses a member for an operation: of two at random, the one with less to do for its weight.
    ///
    /// Members that were tried are chosen again only when no other is left.
    pub fn admit(
        &mut self,
        now: Instant,
        needs: &Needs,
        lane: Lane,
        attempts: &mut Attempts,
    ) -> Result<Grant, Refusal> {
        let meant = |index: &usize| {
            needs
                .only
                .as_ref()
                .is_none_or(|only| only.contains(&MemberIndex(*index)))
        };
        let ready: Vec<usize> = (0..self.members.len())
            .filter(meant)
            .filter(|index| self.members[*index].state == MemberState::Ready && !self.stopping)
            .collect();
        if ready.is_empty() {
            return Err(Refusal::NoneReady {
                retry_after: NONE_READY_RETRY,
            });
        }
        let able: Vec<usize> = ready
            .iter()
            .copied()
            .filter(|index| self.members[*index].can(needs))
            .collect();
        if able.is_empty() {
            return Err(Refusal::Unsupported {
                members: ready.into_iter().map(MemberIndex).collect(),
            });
        }
        let free: Vec<usize> = able
            .into_iter()
            .filter(|index| self.members[*index].has_room(lane))
            .collect();
        if free.is_empty() {
            return Err(Refusal::Full {
                retry_after: FULL_RETRY,
            });
        }
        let fresh: Vec<usize> = free
            .iter()
            .copied()
            .filter(|index| !attempts.has_tried(MemberIndex(*index)))
            .collect();
        let candidates = if fresh.is_empty() { free } else { fresh };
        let chosen = self.less_loaded_of_two(&candidates, lane);
        attempts.note(MemberIndex(chosen));
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let member = &mut self.members[chosen];
        member.lanes.add(now, lane, ticket);
        Ok(Grant {
            member: MemberIndex(chosen),
            epoch: member.epoch,
            lane,
            ticket,
        })
    }

    /// Of two different candidates at random, the one with less to do.
    fn less_loaded_of_two(&mut self, candidates: &[usize], lane: Lane) -> usize {
        let first = self.random.random_range(0..candidates.len());
        if candidates.len() == 1 {
            return candidates[first];
        }
        let others = self.random.random_range(1..candidates.len());
        let second = (first + others) % candidates.len();
        let (first, second) = (candidates[first], candidates[second]);
        if self.members[second].load(lane) < self.members[first].load(lane) {
            second
        } else {
            first
        }
    }

    /// Takes a grant back and learns from how the attempt ended.
    pub fn conclude(&mut self, now: Instant, grant: Grant, outcome: Outcome) -> Vec<Action> {
        let mut actions = Vec::new();
        let member = &mut self.members[grant.member.0];
        if member.epoch != grant.epoch || self.stopping {
            // That worker is dead, and its count with it.
            return actions;
        }
        member.lanes.remove(now, grant.lane, grant.ticket);
        match outcome {
            Outcome::Served | Outcome::Unsupported => member.consecutive_faults = 0,
            // Nothing is known of the member.
            Outcome::Abandoned | Outcome::Busy => {}
            Outcome::Gone => {
                if member.state == MemberState::Ready {
                    self.go_down(now, grant.member, DIED.to_owned(), &mut actions);
                }
            }
            Outcome::Fault => {
                member.consecutive_faults += 1;
                if member.consecutive_faults >= FAULTS_TO_RESTART && member.state == MemberState::Ready {
                    let reason = format!("{FAULTS_TO_RESTART} operations in a row failed on it");
                    self.retire(now, grant.member, Trouble::Passing(reason), &mut actions);
                }
            }
            Outcome::Lasting(reason) => {
                if member.state == MemberState::Ready {
                    self.retire(now, grant.member, Trouble::Lasting(reason), &mut actions);
                }
            }
        }
        actions
    }

    /// What is known of each member.
    pub fn status(&self) -> Vec<MemberStatus> {
        self.members
            .iter()
            .map(|member| MemberStatus {
                state: member.state,
                reason: member.reason.clone(),
                since: member.since,
                outstanding: member.lanes.total(),
                starts: member.starts,
                fingerprint: member.fingerprint,
            })
            .collect()
    }

    /// Whether a life of a member's worker is the one that is being started.
    pub fn is_starting(&self, member: MemberIndex, epoch: Epoch) -> bool {
        self.is_in(member, epoch, MemberState::Starting)
    }

    /// How many members serve.
    pub fn ready(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.state == MemberState::Ready)
            .count()
    }

    /// Whether the first start of every member has come to an end, good or bad.
    pub fn is_settled(&self) -> bool {
        let unsettled = |member: &Member| {
            member.starts == 0
                || member.starts == 1 && matches!(member.state, MemberState::Starting | MemberState::Probing)
        };
        !self.members.iter().any(unsettled)
    }

    fn patience(&self) -> Patience {
        Patience {
            uses: self.settings.hang_after,
            generations: self.settings.generation_hang_after,
        }
    }

    /// Ends a worker that has been at something for too long. What else it had moves on.
    fn end_if_hung(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let member = &self.members[index.0];
        if member.state == MemberState::Ready
            && let Some((at, patience)) = member.lanes.next_hang(self.patience())
            && at <= now
        {
            let reason = format!("an operation was not answered {patience:?} after it had begun");
            self.retire(now, index, Trouble::Passing(reason), actions);
        }
    }

    fn act_if_due(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        if member.act_at.is_none_or(|at| at > now) {
            return;
        }
        match member.state {
            MemberState::Down => {
                member.epoch = Epoch(member.epoch.0 + 1);
                member.starts += 1;
                member.lanes = Lanes::default();
                member.consecutive_faults = 0;
                member.probing_since = None;
                member.fingerprint = None;
                member.act_at = Some(now + self.settings.start_deadline);
                let epoch = member.epoch;
                self.change(now, index, MemberState::Starting, String::new(), actions);
                actions.push(Action::Start(index, epoch));
            }
            MemberState::Starting | MemberState::Probing => {
                let reason = format!("it did not start within {:?}", self.settings.start_deadline);
                self.retire(now, index, Trouble::Passing(reason), actions);
            }
            MemberState::Ready => match member.probing_since {
                None => {
                    member.probing_since = Some(now);
                    member.act_at = Some(now + self.settings.probe_deadline);
                    actions.push(Action::Probe(index, member.epoch));
                }
                Some(_) => {
                    let reason = format!("it did not answer a probe within {:?}", self.settings.probe_deadline);
                    self.retire(now, index, Trouble::Passing(reason), actions);
                }
            },
            MemberState::Stopped | MemberState::Fenced => member.act_at = None,
        }
    }

    fn check_domain(
        &mut self,
        now: Instant,
        index: MemberIndex,
        fingerprint: Fingerprint,
        answer: Tag,
        actions: &mut Vec<Action>,
    ) {
        self.members[index.0].fingerprint = Some(fingerprint);
        if fingerprint != self.expected {
            let reason = format!(
                "it holds another domain: expected fingerprint {}, found {fingerprint}; check which token it is, or \
                 clone the domain to it",
                self.expected
            );
            return self.fence(now, index, reason, actions);
        }
        if *self.known_answer.get_or_insert(answer) != answer {
            let reason = "its mac key does not answer as the other members' does".to_owned();
            return self.fence(now, index, reason, actions);
        }
        self.members[index.0].act_at = Some(now + self.settings.probe_interval);
        self.change(now, index, MemberState::Ready, String::new(), actions);
    }

    /// Ends a worker because of trouble; it is started again unless the trouble lasts.
    fn retire(&mut self, now: Instant, index: MemberIndex, trouble: Trouble, actions: &mut Vec<Action>) {
        actions.push(Action::Kill(index, self.members[index.0].epoch));
        match trouble {
            Trouble::Passing(reason) => self.go_down(now, index, reason, actions),
            Trouble::Lasting(reason) => {
                self.members[index.0].act_at = None;
                self.change(now, index, MemberState::Stopped, reason, actions);
            }
        }
    }

    fn fence(&mut self, now: Instant, index: MemberIndex, reason: String, actions: &mut Vec<Action>) {
        actions.push(Action::Kill(index, self.members[index.0].epoch));
        self.members[index.0].act_at = None;
        self.change(now, index, MemberState::Fenced, reason, actions);
    }

    fn go_down(&mut self, now: Instant, index: MemberIndex, reason: String, actions: &mut Vec<Action>) {
        let settings = self.settings;
        let jitter = self.random.random_range(0.75..1.25);
        let member = &mut self.members[index.0];
        let served_long = member.state == MemberState::Ready && now.duration_since(member.since) >= LONG_LIFE;
        member.short_lives = if served_long {
            0
        } else {
            member.short_lives.saturating_add(1)
        };
        let doublings = member.short_lives.saturating_sub(1).min(20);
        let pause = settings
            .restart_pause
            .saturating_mul(1 << doublings)
            .min(settings.restart_pause_max);
        member.act_at = Some(now + pause.mul_f64(jitter));
        self.change(now, index, MemberState::Down, reason, actions);
    }

    fn change(&mut self, now: Instant, index: MemberIndex, to: MemberState, reason: String, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        let from = std::mem::replace(&mut member.state, to);
        member.since = now;
        // Why it went down stays to be seen until it serves again.
        if !reason.is_empty() || to == MemberState::Ready {
            member.reason.clone_from(&reason);
        }
        actions.push(Action::Tell(StateChange {
            member: index,
            from,
            to,
            reason,
        }));
    }

    fn is_in(&self, index: MemberIndex, epoch: Epoch, state: MemberState) -> bool {
        self.members
            .get(index.0)
            .is_some_and(|member| member.epoch == epoch && member.state == state)
    }
}

impl Member {
    fn can(&self, needs: &Needs) -> bool {
        needs.uses.iter().all(|one| self.abilities.uses.contains(one))
            && needs
                .generates
                .is_none_or(|key_type| self.abilities.generates.contains(&key_type))
    }

    fn has_room(&self, lane: Lane) -> bool {
        let bound = match lane {
            Lane::Uses => self.plan.queue,
            Lane::Generations => self.plan.generation_queue,
            Lane::Changes | Lane::Control => CHANGES_QUEUE as u32,
        };
        self.lanes.len(lane) < bound
    }

    fn load(&self, lane: Lane) -> f64 {
        f64::from(self.lanes.len(lane)) / f64::from(self.plan.weight)
    }
}

const DIED: &str = "its worker died";
/// So many faults in a row end a worker: only a newly loaded module recovers from some of them.
const FAULTS_TO_RESTART: u32 = 5;
/// A worker that served so long starts with the shortest pause when it dies.
const LONG_LIFE: Duration = Duration::from_secs(10);
const NONE_READY_RETRY: Duration = Duration::from_secs(1);
const FULL_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

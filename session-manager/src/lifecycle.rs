//! What events mean for the members, and what is to be done about each of them now.

use crate::{
    Core,
    attempts::Suspect,
    breaker::{Breaker, BreakerState, Consequence},
    lanes::{Lanes, Patience},
    member::{Duty, Member},
    message::{Action, Epoch, Event, MemberIndex, Trouble, WorkerState},
    places::RELIEF,
    settings::MemberPlan,
    worker::Worker,
};
use portcullis_hsm::{domain::Fingerprint, record::Tag};
use std::time::{Duration, Instant};

impl Core {
    /// Takes an event and says what to do.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stopping {
            return actions;
        }
        self.take(now, event, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    fn take(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Opened(index, epoch, abilities) => {
                if let Some(worker) = self.worker_in(index, epoch, &[WorkerState::Starting]) {
                    worker.lanes = Lanes::new(abilities.threads);
                    worker.abilities = abilities;
                    self.members[index.0].absent_since = None;
                    self.set(now, index, epoch, WorkerState::Probing, String::new(), actions);
                    actions.push(Action::FindDomain(index, epoch));
                }
            }
            Event::DomainFound(index, epoch, fingerprint, answer) => {
                if self.worker_in(index, epoch, &[WorkerState::Probing]).is_some() {
                    self.check_domain(now, index, epoch, fingerprint, answer, actions);
                }
            }
            Event::StartFailed(index, epoch, trouble) => {
                if self.worker_in(index, epoch, &STARTING).is_some() {
                    self.retire(now, index, epoch, trouble, actions);
                }
            }
            Event::Probed(index, epoch, answer) => {
                if self.known_answer == Some(answer) {
                    let next = now + self.settings.probe_interval;
                    if let Some(worker) = self.worker_in(index, epoch, &SERVING) {
                        worker.probing_since = None;
                        worker.act_at = Some(next);
                        self.note_probe(now, index, actions);
                    }
                } else if self.worker_in(index, epoch, &SERVING).is_some() {
                    let reason = "a probe's answer was wrong: its mac key is not the domain's".to_owned();
                    self.fence(index, reason, actions);
                }
            }
            Event::ProbeFailed(index, epoch, trouble) => {
                if self.worker_in(index, epoch, &SERVING).is_some() {
                    self.retire(now, index, epoch, trouble, actions);
                }
            }
            Event::Gone(index, epoch, reason) => {
                if self.worker_in(index, epoch, &ALIVE).is_some() {
                    self.go_down(now, index, epoch, reason, actions);
                } else if let Some(worker) = self.worker_in(index, epoch, &[WorkerState::Down])
                    && worker.reason == DIED
                {
                    // A caller noticed first; now the cause is known.
                    worker.reason.clone_from(&reason);
                    let member = &mut self.members[index.0];
                    if member.reason == DIED {
                        member.reason = reason;
                    }
                }
            }
            Event::Revived(index) => {
                if let Some(member) = self
                    .members
                    .get_mut(index.0)
                    .filter(|member| member.duty == Duty::Serve)
                {
                    revive(now, member);
                }
            }
            Event::Drain(index) => {
                if let Some(member) = self
                    .members
                    .get_mut(index.0)
                    .filter(|member| member.duty == Duty::Serve)
                {
                    member.duty = Duty::Drain;
                    ASKED.clone_into(&mut member.reason);
                }
            }
            Event::Resume(index) => {
                if let Some(member) = self
                    .members
                    .get_mut(index.0)
                    .filter(|member| member.duty != Duty::Leave)
                {
                    member.duty = Duty::Serve;
                    member.reason.clear();
                    if member.breaker.state() != BreakerState::Closed {
                        actions.push(Action::TellBreaker(index, BreakerState::Closed));
                    }
                    member.breaker = Breaker::new();
                    revive(now, member);
                }
            }
            Event::Roll(members) => self.begin_roll(members),
            Event::Configured(index, plan) => self.configure(now, index, plan),
            Event::Removed(index) => {
                if let Some(member) = self.members.get_mut(index.0) {
                    member.duty = Duty::Leave;
                    member.reason.clear();
                }
            }
        }
    }

    /// A member that is new takes the next place; one that is known is used otherwise from now on, and its workers that run are
    /// replaced one by one.
    fn configure(&mut self, now: Instant, index: MemberIndex, plan: MemberPlan) {
        match self.members.get_mut(index.0) {
            None => self.members.push(Member::new(plan, now)),
            Some(member) => {
                member.plan = plan;
                if member.duty == Duty::Leave {
                    member.duty = Duty::Serve;
                }
                // It may be meant to be on another token now.
                member.has_served = false;
                revive(now, member);
                self.begin_roll(vec![index]);
            }
        }
    }

    /// Does what is due at each member.
    pub(super) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        for at in 0..self.members.len() {
            let index = MemberIndex(at);
            self.fill_places(now, index);
            self.relieve(now, index, actions);
            self.end_what_hangs(now, index, actions);
            self.act_if_due(now, index, actions);
            self.empty_places(index, actions);
        }
        self.go_on_rolling(now, actions);
        // What the roll asks for is begun at once.
        for at in 0..self.members.len() {
            self.act_if_due(now, MemberIndex(at), actions);
            self.show(now, MemberIndex(at), actions);
        }
    }

    /// When to come back with [`Event::Tick`] if nothing else happens.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.stopping {
            // Nothing is due any more, and what would have been stays so.
            return None;
        }
        let mut next: Option<Instant> = None;
        let mut note = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        for (at, member) in self.members.iter().enumerate() {
            let patience = self.patience_with(MemberIndex(at));
            let starting = member.workers.iter().any(Worker::is_starting);
            for worker in &member.workers {
                // A place that waits for another's start goes on with that one's event.
                if !(starting && worker.state == WorkerState::Down) {
                    note(worker.act_at);
                }
                if worker.is_serving() {
                    note(worker.lanes.next_hang(patience).map(|hang| hang.at));
                    note(suspect_at(worker));
                }
                note(worker.relieved.map(|since| since + RELIEF));
            }
            // Where nobody can be probed, or somebody is, its answer or the next start is waited for.
            note(member.breaker.probe_at().filter(|_| probe_target(member).is_some()));
        }
        next
    }

    /// For how long at most nobody need look: what is begun meanwhile has no time to hang.
    pub fn longest_sleep(&self) -> Duration {
        let Patience { quick, slow } = self.patience();
        (quick.min(slow) / 2).min(SUSPICIOUS / 2)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience {
            quick: self.settings.hang_after,
            slow: self.settings.generation_hang_after,
        }
    }

    /// How long a member may be at something. Where no other serves, its work has nowhere to go, and a stall of the whole machine
    /// must not end all members at once: then it has longer.
    fn patience_with(&self, index: MemberIndex) -> Patience {
        let Patience { quick, slow } = self.patience();
        let serves = |(at, member): (usize, &Member)| at != index.0 && member.workers.iter().any(Worker::is_serving);
        let factor = if self.members.iter().enumerate().any(serves) {
            1
        } else {
            ALONE
        };
        Patience {
            quick: quick * factor,
            slow: slow * factor,
        }
    }

    pub(super) fn worker_in(
        &mut self,
        index: MemberIndex,
        epoch: Epoch,
        states: &[WorkerState],
    ) -> Option<&mut Worker> {
        self.members.get_mut(index.0)?.find_in(epoch, states)
    }

    /// Ends workers that have been at something for too long, and probes those that look as if they might.
    fn end_what_hangs(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let patience = self.patience_with(index);
        self.for_each_worker(index, |core, at| {
            let worker = &mut core.members[index.0].workers[at];
            if !worker.is_serving() {
                return;
            }
            if let Some(hang) = worker.lanes.next_hang(patience).filter(|hang| hang.at <= now) {
                core.hung.extend(worker.lanes.overdue(now, patience));
                let epoch = worker.epoch;
                let reason = format!("an operation was not answered {:?} after it had begun", hang.patience);
                core.retire(now, index, epoch, Trouble::Passing(reason), actions);
            } else if suspect_at(worker).is_some_and(|at| at <= now) {
                worker.suspected = worker.lanes.oldest_use().map(|begun| begun.piece.ticket);
                worker.act_at = Some(now);
            }
        });
    }

    fn act_if_due(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        if member.breaker.probe_at().is_some_and(|at| at <= now)
            && let Some(at) = probe_target(member)
        {
            member.workers[at].act_at = Some(now);
        }
        self.for_each_worker(index, |core, at| {
            if core.members[index.0].workers[at].act_at.is_some_and(|at| at <= now) {
                core.act(now, index, at, actions);
            }
        });
    }

    /// Does something with each worker of a member, which may take that one out of the member.
    fn for_each_worker(&mut self, index: MemberIndex, mut act: impl FnMut(&mut Self, usize)) {
        let mut at = 0;
        while at < self.members[index.0].workers.len() {
            let before = self.members[index.0].workers.len();
            act(self, at);
            if self.members[index.0].workers.len() == before {
                at += 1;
            }
        }
    }

    fn act(&mut self, now: Instant, index: MemberIndex, at: usize, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        let worker = &mut member.workers[at];
        let epoch = worker.epoch;
        match worker.state {
            WorkerState::Down => self.start_if_allowed(now, index, at, actions),
            WorkerState::Starting | WorkerState::Probing => {
                let reason = format!("it did not start within {:?}", self.settings.start_deadline);
                self.retire(now, index, epoch, Trouble::Passing(reason), actions);
            }
            WorkerState::Ready | WorkerState::Retiring => match worker.probing_since {
                None => {
                    worker.probing_since = Some(now);
                    worker.act_at = Some(now + self.settings.probe_deadline);
                    actions.push(Action::Probe(index, epoch));
                }
                Some(since) if since + self.settings.probe_deadline > now => {
                    worker.act_at = Some(since + self.settings.probe_deadline);
                }
                Some(_) => {
                    let reason = format!("it did not answer a probe within {:?}", self.settings.probe_deadline);
                    self.retire(now, index, epoch, Trouble::Passing(reason), actions);
                }
            },
            WorkerState::Stopped => worker.act_at = None,
        }
    }

    fn start_if_allowed(&mut self, now: Instant, index: MemberIndex, at: usize, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        // One at a time: tokens are rewritten at a login.
        if member.duty != Duty::Serve || member.workers.iter().any(Worker::is_starting) {
            return;
        }
        if let Some(reason) = member.lasting.clone() {
            // Its login would go as that of the worker before it: no token is asked twice with a wrong PIN.
            let worker = &mut member.workers[at];
            let epoch = worker.epoch;
            (worker.state, worker.since, worker.act_at) = (WorkerState::Stopped, now, None);
            worker.reason.clone_from(&reason);
            self.tell_worker(index, epoch, actions);
            return self.note_failed_replacement(index, epoch, &Trouble::Lasting(reason), actions);
        }
        let allowed = member.may_start_at(now);
        if allowed > now {
            member.workers[at].act_at = Some(allowed);
            return;
        }
        let epoch = member.next_epoch(now);
        member.workers[at].begin(epoch, now + self.settings.start_deadline);
        self.set(now, index, epoch, WorkerState::Starting, String::new(), actions);
        actions.push(Action::Start(index, epoch));
    }

    fn check_domain(
        &mut self,
        now: Instant,
        index: MemberIndex,
        epoch: Epoch,
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
            return self.fence(index, reason, actions);
        }
        if *self.known_answer.get_or_insert(answer) != answer {
            let reason = "its mac key does not answer as the other members' does".to_owned();
            return self.fence(index, reason, actions);
        }
        let next = now + self.settings.probe_interval;
        if let Some(worker) = self.worker_in(index, epoch, &[WorkerState::Probing]) {
            worker.act_at = Some(next);
        }
        self.members[index.0].has_served = true;
        self.set(now, index, epoch, WorkerState::Ready, String::new(), actions);
        self.note_probe(now, index, actions);
    }

    /// A probe was answered right.
    fn note_probe(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let breaker = &mut self.members[index.0].breaker;
        if breaker.probed(now) {
            actions.push(Action::TellBreaker(index, breaker.state()));
        }
    }

    /// A fault of which another member's success shows that it was this one's.
    pub(super) fn charge(&mut self, now: Instant, suspect: Suspect, actions: &mut Vec<Action>) {
        let Suspect {
            member: index,
            epoch,
            on_trial,
        } = suspect;
        let Some(member) = self.members.get_mut(index.0) else {
            return;
        };
        let consequence = member.breaker.fault(now, on_trial);
        if consequence == Consequence::None {
            return;
        }
        actions.push(Action::TellBreaker(index, member.breaker.state()));
        if self.worker_in(index, epoch, &SERVING).is_none() {
            return;
        }
        match consequence {
            // Only a module that is loaded anew recovers from some things.
            Consequence::OpenedAgain => {
                let reason = "what it was given on trial failed on it and not on another member".to_owned();
                self.retire(now, index, epoch, Trouble::Passing(reason), actions);
            }
            _ => self.probe_soon(now, index, epoch),
        }
    }

    /// Probes a worker out of its turn, if it is not being probed.
    pub(super) fn probe_soon(&mut self, now: Instant, index: MemberIndex, epoch: Epoch) {
        if let Some(worker) = self.worker_in(index, epoch, &SERVING)
            && worker.probing_since.is_none()
        {
            worker.act_at = Some(now);
        }
    }
}

/// Starts again what needed a person.
fn revive(now: Instant, member: &mut Member) {
    member.lasting = None;
    member.absent_since = None;
    for worker in &mut member.workers {
        if worker.state == WorkerState::Stopped {
            worker.state = WorkerState::Down;
            worker.short_lives = 0;
            worker.act_at = Some(now);
        }
    }
}

/// The worker of which a member with an open breaker shows that it works; `None` while another is being probed.
fn probe_target(member: &Member) -> Option<usize> {
    if member
        .workers
        .iter()
        .any(|worker| worker.is_serving() && worker.probing_since.is_some())
    {
        return None;
    }
    member
        .workers
        .iter()
        .position(|worker| worker.state == WorkerState::Ready)
}

/// When a worker is to be probed out of its turn because a use takes so long.
fn suspect_at(worker: &Worker) -> Option<Instant> {
    let oldest = worker.lanes.oldest_use()?;
    let known = worker.suspected == Some(oldest.piece.ticket) || worker.probing_since.is_some();
    (!known).then(|| oldest.since + SUSPICIOUS)
}

pub(super) const DIED: &str = "its worker died";
const ASKED: &str = "a person asked for it";
const STARTING: [WorkerState; 2] = [WorkerState::Starting, WorkerState::Probing];
pub(super) const SERVING: [WorkerState; 2] = [WorkerState::Ready, WorkerState::Retiring];
pub(super) const ALIVE: [WorkerState; 4] = [
    WorkerState::Starting,
    WorkerState::Probing,
    WorkerState::Ready,
    WorkerState::Retiring,
];
/// So many times longer the only member that serves may be at something.
pub(super) const ALONE: u32 = 3;
/// A use that has been at it for so long has its worker probed.
const SUSPICIOUS: Duration = Duration::from_secs(1);

//! What must hold at each moment, and how it is known apart from what the core says of itself.

use crate::{
    process::{Phase, Process, at},
    schedule::Step,
    world::{Answered, SETTINGS, World},
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism},
    worker::lane::{CHANGES_QUEUE, Lane},
};
use portcullis_session_manager::{
    Action, Attempts, BreakerState, Epoch, Event, Grant, MemberIndex, MemberState, MemberStatus, Needs, Next, Outcome,
    Principal, Refusal, Ticket, Trouble, WorkerState,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What is written down on the way.
pub(crate) struct Watch {
    broken: Option<String>,
    members: Vec<Watched>,
    lives: Vec<Life>,
    // Every grant that was not given back, also of lives that are over.
    open: Vec<Grant>,
    // Work that was at it for too long when its worker was killed, and whether it was killed for that.
    hung: Vec<(Ticket, bool)>,
}

struct Watched {
    duty: Duty,
    // What lives up to this one say is not to be believed.
    fenced_through: u64,
    // The token needs a person.
    lasting: bool,
    told: MemberState,
    told_breaker: BreakerState,
    on_trial: Vec<(Ticket, Epoch)>,
    starts: VecDeque<Instant>,
    most_starts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Serve,
    Drain,
    Fenced,
    Removed,
}

/// The books of one life of a worker, kept a second time.
struct Life {
    member: MemberIndex,
    epoch: Epoch,
    lanes: [Book; 3],
}

struct Book {
    threads: usize,
    begun: Vec<(Grant, Instant)>,
    waiting: VecDeque<Grant>,
}

impl Watch {
    pub(crate) fn new(members: usize) -> Self {
        Self {
            broken: None,
            members: (0..members).map(|_| Watched::new()).collect(),
            lives: Vec::new(),
            open: Vec::new(),
            hung: Vec::new(),
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

    /// Whether work was at it for too long when its worker was killed, and for sure killed for that.
    pub(crate) fn forget_hang(&mut self, grant: &Grant) -> Option<bool> {
        let at = self.hung.iter().position(|(ticket, _)| *ticket == grant.ticket)?;
        Some(self.hung.swap_remove(at).1)
    }

    fn life(&mut self, member: MemberIndex, epoch: Epoch) -> Option<&mut Life> {
        self.lives
            .iter_mut()
            .find(|life| (life.member, life.epoch) == (member, epoch))
    }

    fn fence(&mut self, member: MemberIndex, begun: u64) {
        let watched = &mut self.members[member.0];
        watched.fenced_through = begun;
        if watched.duty != Duty::Removed {
            watched.duty = Duty::Fenced;
        }
    }

    fn len(&self, member: MemberIndex, epoch: Epoch, lane: Lane) -> usize {
        let its = |life: &&Life| (life.member, life.epoch) == (member, epoch);
        self.lives.iter().find(its).map_or(0, |life| life.lanes[at(lane)].len())
    }

    fn under_way(&self, lane: Lane) -> impl Iterator<Item = &Grant> {
        self.lives.iter().flat_map(move |life| life.lanes[at(lane)].all())
    }
}

impl Watched {
    fn new() -> Self {
        Self {
            duty: Duty::Serve,
            fenced_through: 0,
            lasting: false,
            told: MemberState::Down,
            told_breaker: BreakerState::Closed,
            on_trial: Vec::new(),
            starts: VecDeque::new(),
            most_starts: 30,
        }
    }
}

impl Life {
    fn new(member: MemberIndex, epoch: Epoch, threads: usize) -> Self {
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

    fn outstanding(&self) -> usize {
        self.lanes.iter().map(Book::len).sum()
    }

    /// What has been at it for too long.
    fn overdue(&self, now: Instant) -> impl Iterator<Item = Ticket> + '_ {
        let patience = [
            SETTINGS.hang_after,
            SETTINGS.generation_hang_after,
            SETTINGS.generation_hang_after,
        ];
        self.lanes.iter().zip(patience).flat_map(move |(book, patience)| {
            let overdue = move |(_, since): &&(Grant, Instant)| *since + patience <= now;
            book.begun.iter().filter(overdue).map(|(grant, _)| grant.ticket)
        })
    }
}

impl Book {
    fn add(&mut self, now: Instant, grant: &Grant) {
        if self.begun.len() < self.threads {
            self.begun.push((*grant, now));
        } else {
            self.waiting.push_back(*grant);
        }
    }

    fn remove(&mut self, now: Instant, ticket: Ticket) {
        self.waiting.retain(|grant| grant.ticket != ticket);
        if let Some(at) = self.begun.iter().position(|(grant, _)| grant.ticket == ticket) {
            self.begun.swap_remove(at);
            if let Some(next) = self.waiting.pop_front() {
                self.begun.push((next, now));
            }
        }
    }

    fn len(&self) -> usize {
        self.begun.len() + self.waiting.len()
    }

    fn all(&self) -> impl Iterator<Item = &Grant> {
        self.begun.iter().map(|(grant, _)| grant).chain(&self.waiting)
    }
}

impl World {
    pub(crate) fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds && self.watch.broken.is_none() {
            self.watch.broken = Some(otherwise());
        }
    }

    /// Notes what an event must lead to.
    pub(crate) fn before(&mut self, event: &Event) {
        if self.stopped {
            return;
        }
        let serving = [WorkerState::Ready, WorkerState::Retiring];
        match event {
            Event::DomainFound(member, epoch, fingerprint, answer) => {
                let wrong = *fingerprint != crate::world::domain() || answer[0] != 7;
                if wrong && self.is_in(*member, *epoch, &[WorkerState::Probing]) {
                    self.watch.fence(*member, self.members[member.0].begun);
                }
            }
            Event::Probed(member, epoch, answer) => {
                if answer[0] != 7 && self.is_in(*member, *epoch, &serving) {
                    self.watch.fence(*member, self.members[member.0].begun);
                }
            }
            Event::StartFailed(member, epoch, Trouble::Lasting(_)) => {
                if self.is_in(*member, *epoch, &[WorkerState::Starting, WorkerState::Probing]) {
                    self.watch.members[member.0].lasting = true;
                }
            }
            Event::ProbeFailed(member, epoch, Trouble::Lasting(_)) => {
                if self.is_in(*member, *epoch, &serving) {
                    self.watch.members[member.0].lasting = true;
                }
            }
            Event::Revived(member) => {
                let watched = &mut self.watch.members[member.0];
                watched.lasting &= watched.duty != Duty::Serve;
            }
            Event::Roll(members) => {
                for member in members {
                    let watched = &mut self.watch.members[member.0];
                    watched.lasting &= watched.duty != Duty::Serve;
                }
            }
            Event::Drain(member) => {
                let watched = &mut self.watch.members[member.0];
                if watched.duty == Duty::Serve {
                    watched.duty = Duty::Drain;
                }
            }
            Event::Resume(member) => {
                let watched = &mut self.watch.members[member.0];
                if watched.duty != Duty::Removed {
                    (watched.duty, watched.lasting) = (Duty::Serve, false);
                }
            }
            Event::Configured(member, plan) => {
                let watched = &mut self.watch.members[member.0];
                watched.lasting = false;
                watched.most_starts = watched.most_starts.max(2 * plan.workers as usize);
                if watched.duty == Duty::Removed {
                    watched.duty = Duty::Serve;
                }
            }
            Event::Removed(member) => self.watch.members[member.0].duty = Duty::Removed,
            _ => {}
        }
    }

    /// Notes what the end of an attempt must lead to.
    pub(crate) fn note_outcome(&mut self, grant: &Grant, outcome: &Outcome) {
        let Grant { member, epoch, .. } = *grant;
        match outcome {
            Outcome::Lied(_) if epoch.0 > self.watch.members[member.0].fenced_through => {
                self.watch.fence(member, self.members[member.0].begun);
            }
            Outcome::Lasting(_) if self.is_in(member, epoch, &[WorkerState::Ready, WorkerState::Retiring]) => {
                self.watch.members[member.0].lasting = true;
            }
            _ => {}
        }
    }

    /// Looks at an action before it is carried out.
    pub(crate) fn check_action(&mut self, action: &Action, tick: bool) {
        let now = self.now;
        let stopped = self.stopped;
        match action {
            Action::Start(member, epoch) => {
                let begun = self.members[member.0].begun;
                let starting = |one: &Process| one.member == *member && one.phase == Phase::Starting;
                let another = self.processes.iter().any(starting);
                let watched = &mut self.watch.members[member.0];
                let (duty, lasting) = (watched.duty, watched.lasting);
                watched.starts.push_back(now);
                while watched.starts.front().is_some_and(|at| *at + START_WINDOW <= now) {
                    watched.starts.pop_front();
                }
                let hurried = watched.starts.len() > watched.most_starts;
                let name = format_args!("{}/{}", member.0, epoch.0).to_string();
                self.check(!stopped, || format!("{name} is started after the stop"));
                self.check(epoch.0 == begun + 1, || format!("{name} is started after {begun}"));
                self.check(duty == Duty::Serve, || {
                    format!("{name} is started where the duty is {duty:?}")
                });
                self.check(!lasting, || format!("{name} is started after a lasting trouble"));
                self.check(!another, || format!("{name} is started while another starts"));
                self.check(!hurried, || format!("{name} is started too soon after many"));
            }
            Action::End(member, epoch) => {
                let process = self.process(*member, *epoch);
                let idle = process.is_some_and(|process| process.is_idle());
                let open = self.watch.len(*member, *epoch, Lane::Uses)
                    + self.watch.len(*member, *epoch, Lane::Generations)
                    + self.watch.len(*member, *epoch, Lane::Changes);
                self.check(idle && open == 0, || format!("{}/{} ends with work", member.0, epoch.0));
            }
            Action::Kill(member, epoch) => {
                let overdue: Vec<_> = self
                    .watch
                    .life(*member, *epoch)
                    .into_iter()
                    .flat_map(|life| life.overdue(now))
                    .collect();
                self.watch.hung.extend(overdue.into_iter().map(|ticket| (ticket, tick)));
                let fenced = self.watch.members[member.0].fenced_through >= epoch.0;
                let starting = self
                    .process(*member, *epoch)
                    .filter(|process| process.phase == Phase::Starting)
                    .is_some_and(|process| now < process.started + SETTINGS.start_deadline);
                self.check(!starting || fenced, || {
                    format!("{}/{} is killed as it starts", member.0, epoch.0)
                });
            }
            Action::Probe(member, epoch) => {
                let process = self.process(*member, *epoch);
                let unasked = process.is_some_and(|process| process.probed.replace(now).is_none());
                self.check(unasked, || {
                    format!("{}/{} is probed twice, or never was", member.0, epoch.0)
                });
            }
            Action::Tell(change) => {
                let told = std::mem::replace(&mut self.watch.members[change.member.0].told, change.to);
                self.check(told == change.from && change.from != change.to, || {
                    format!("told {change:?} after {told:?}")
                });
            }
            Action::TellBreaker(member, state) => {
                let told = std::mem::replace(&mut self.watch.members[member.0].told_breaker, *state);
                self.check(told != *state, || format!("the breaker of {} is told twice", member.0));
            }
            _ => {}
        }
    }

    /// Looks at the core after it has done something, and asks it what it knows.
    pub(crate) fn after(&mut self, done: Result<&'static str, &'static str>) {
        self.status = self.core.status(self.now);
        if self.stopped {
            return;
        }
        let (now, wake) = (self.now, self.core.next_wakeup());
        self.check(wake.is_none_or(|at| at > now), || {
            format!("it never sleeps after {done:?}")
        });
        self.watch.lives.retain(|life| {
            let member = &self.status[life.member.0];
            let serves = |state| matches!(state, WorkerState::Ready | WorkerState::Retiring);
            member
                .workers
                .iter()
                .any(|worker| worker.epoch == life.epoch && serves(worker.state))
        });
        let status = std::mem::take(&mut self.status);
        let mut held = 0;
        for (at, member) in status.iter().enumerate() {
            held += member.outstanding;
            self.check_member(at, member);
        }
        let under_way = self.core.under_way();
        self.check(under_way == held, || {
            format!("{under_way} in the shares, {held} at workers")
        });
        for process in &self.processes {
            if !matches!(process.phase, Phase::Starting | Phase::Serving) {
                continue;
            }
            let known = status[process.member.0].workers.iter().any(|worker| {
                worker.epoch == process.epoch && !matches!(worker.state, WorkerState::Down | WorkerState::Stopped)
            });
            if !known && self.watch.broken.is_none() {
                let name = format!("{}/{}", process.member.0, process.epoch.0);
                self.watch.broken = Some(format!("{name} lives and is forgotten"));
            }
        }
        self.status = status;
        self.processes
            .retain(|process| process.died.is_none_or(|at| at + KEPT > now));
    }

    fn check_member(&mut self, at: usize, member: &MemberStatus) {
        use MemberState::{Down, Drained, Draining, Fenced, Probing, Ready, Removed, Starting, Stopped};
        let watched = &mut self.watch.members[at];
        let (duty, told) = (watched.duty, watched.told);
        let lives = &self.watch.lives;
        let lives: Vec<_> = lives
            .iter()
            .filter(|life| life.member.0 == at)
            .map(|life| life.epoch)
            .collect();
        let half_open = member.breaker == BreakerState::HalfOpen;
        watched.on_trial.retain(|(_, epoch)| half_open && lives.contains(epoch));
        let told_breaker = watched.told_breaker;
        let fits = match duty {
            Duty::Serve => matches!(member.state, Starting | Probing | Ready | Down | Stopped),
            Duty::Drain => matches!(member.state, Draining | Drained),
            Duty::Fenced => member.state == Fenced && member.workers.is_empty(),
            Duty::Removed => member.state == Removed,
        };
        self.check(fits, || {
            format!("{at} is {:?} where its duty is {duty:?}", member.state)
        });
        self.check(member.state == told, || {
            format!("{at} is {:?} and was told to be {told:?}", member.state)
        });
        self.check(member.breaker == told_breaker, || {
            format!(
                "{at}'s breaker is {:?} and was told to be {told_breaker:?}",
                member.breaker
            )
        });
        let sum: u32 = member.workers.iter().map(|worker| worker.outstanding).sum();
        self.check(sum == member.outstanding, || {
            format!("{at} has {} and its workers {sum}", member.outstanding)
        });
        for worker in &member.workers {
            let kept = self
                .watch
                .life(MemberIndex(at), worker.epoch)
                .map_or(0, |life| life.outstanding());
            let name = format_args!("{at}/{}", worker.epoch.0);
            if kept != worker.outstanding as usize && self.watch.broken.is_none() {
                self.watch.broken = Some(format!("{name} has {} and was given {kept}", worker.outstanding));
            }
        }
    }

    /// Whether the core holds a life to be in one of these states.
    fn is_in(&self, member: MemberIndex, epoch: Epoch, states: &[WorkerState]) -> bool {
        let workers = &self.status[member.0].workers;
        workers
            .iter()
            .any(|worker| worker.epoch == epoch && states.contains(&worker.state))
    }

    /// Looks at a grant with what was known before it.
    pub(crate) fn check_grant(&mut self, number: usize, grant: &Grant, needs: &Needs, before: &Attempts) {
        let name = life(grant);
        let Grant {
            member, epoch, lane, ..
        } = *grant;
        let (now, caller) = (self.now, &self.callers[number]);
        let (deadline, answered) = (caller.deadline, caller.answered);
        let (stopped, status) = (self.stopped, &self.status[member.0]);
        let ready = status.state == MemberState::Ready && self.is_in(member, epoch, &[WorkerState::Ready]);
        let bound = self.bound(member.0, lane);
        let able = self.is_able(member, epoch, needs);
        let meant = needs.only.as_ref().is_none_or(|only| only.contains(&member));
        let alone = lane != Lane::Changes || !self.others_change(member, epoch);
        let trusted = self.is_trusted(member.0)
            || !(0..self.status.len()).any(|at| {
                self.is_trusted(at)
                    && needs.only.as_ref().is_none_or(|only| only.contains(&MemberIndex(at)))
                    && self.could(at, needs)
            });
        let fresh = !before.tried().any(|one| one == member)
            || !(0..self.status.len())
                .any(|at| !before.tried().any(|one| one.0 == at) && self.is_surely_free(at, lane, needs));
        let room = self.watch.len(member, epoch, lane) < bound;
        // What was admitted before and moves on is not held to a share again.
        let share = before.tried().next().is_some() || self.is_within_share(grant);
        let many = before.tried().count();
        self.check(!stopped && ready, || format!("{name} is given work and not ready"));
        self.check(able && meant, || format!("{name} is given work that it cannot do"));
        self.check(now < deadline && answered.is_none(), || {
            format!("{name} is given work of nobody: {answered:?}")
        });
        self.check(room, || format!("{name} is given more than {bound} of {lane:?}"));
        self.check(alone, || format!("{name} changes token objects beside another worker"));
        self.check(trusted, || {
            format!("{name} is given work although its breaker is not closed")
        });
        self.check(fresh, || format!("{name} is asked again although another was not"));
        self.check(share, || {
            format!("{name} is given more than a share of {:?}", grant.principal)
        });
        self.check(many < 4, || format!("attempt {} is made", many + 1));
        self.check(
            grant.principal.0 == u64::from(self.callers[number].call.principal),
            || format!("{name} is given work of another"),
        );
    }

    /// Looks at a refusal: none is made where a member could surely serve.
    pub(crate) fn check_refusal(
        &mut self,
        refusal: &Refusal,
        needs: &Needs,
        lane: Lane,
        principal: u8,
        before: &Attempts,
        deadline: Instant,
    ) {
        if self.stopped {
            return self.check(
                matches!(refusal, Refusal::NoneReady { .. } | Refusal::DeadlinePassed),
                || format!("after the stop: {refusal:?}"),
            );
        }
        let meant = |at: &usize| needs.only.as_ref().is_none_or(|only| only.contains(&MemberIndex(*at)));
        let members = || (0..self.status.len()).filter(meant);
        let principal = Principal(principal.into());
        let justified = match refusal {
            Refusal::NoneReady { retry_after } => !members().any(|at| self.serves(at)) && !retry_after.is_zero(),
            Refusal::Unsupported { members: asked, .. } => {
                !asked.is_empty() && !members().any(|at| self.serves(at) && self.could(at, needs))
            }
            Refusal::Full { retry_after } => {
                !members().any(|at| self.is_surely_free(at, lane, needs)) && !retry_after.is_zero()
            }
            Refusal::ShareTaken { retry_after } => {
                let own = self
                    .watch
                    .under_way(lane)
                    .filter(|grant| grant.principal == principal)
                    .count();
                own > 0 && principal != Principal::GATEWAY && !retry_after.is_zero()
            }
            Refusal::DeadlinePassed => self.now >= deadline,
        };
        let attempt = before.tried().count();
        self.check(justified, || {
            format!("attempt {attempt} is refused without need: {refusal:?}")
        });
    }

    /// Looks at what the core makes of the end of an attempt.
    pub(crate) fn check_next(&mut self, number: usize, grant: &Grant, outcome: &Outcome, next: Next, ready: usize) {
        let name = life(grant);
        let caller = &self.callers[number];
        let (deaths, hangs) = (caller.deaths, caller.hangs);
        let many = caller.attempts.tried().count();
        let spent = many >= 4 || deaths >= 3 || hangs >= 2 || self.now >= caller.deadline;
        let maybe_spent = spent || hangs + caller.doubtful_hangs >= 2;
        let nowhere = *outcome == Outcome::Unsupported && caller.attempts.distinct() >= ready;
        let believed = grant.epoch.0 > self.watch.members[grant.member.0].fenced_through;
        let right = match next {
            Next::Release => *outcome == Outcome::Served && believed,
            Next::Again => !spent && *outcome != Outcome::Abandoned && !(*outcome == Outcome::Served && believed),
            Next::GiveUp => {
                !(*outcome == Outcome::Served && believed) && (maybe_spent || nowhere || *outcome == Outcome::Abandoned)
            }
        };
        self.check(right, || {
            format!(
                "{name} said {outcome:?} at attempt {many} (believed: {believed}, deaths {deaths}, hangs {hangs}): {next:?}"
            )
        });
    }

    fn bound(&self, at: usize, lane: Lane) -> usize {
        let plan = self.status[at].plan;
        match lane {
            Lane::Uses => plan.queue as usize,
            Lane::Generations => plan.generation_queue as usize,
            Lane::Changes | Lane::Control => CHANGES_QUEUE,
        }
    }

    fn is_able(&self, member: MemberIndex, epoch: Epoch, needs: &Needs) -> bool {
        let its = |one: &&Process| (one.member, one.epoch) == (member, epoch);
        let rare = needs.uses.iter().any(|(_, mechanism)| *mechanism == Mechanism::Ed25519);
        debug_assert!(
            needs.generates.is_none_or(|one| one == KeyType::EcP256),
            "all make these"
        );
        self.processes
            .iter()
            .find(its)
            .is_some_and(|process| process.rich || !rare)
    }

    fn serves(&self, at: usize) -> bool {
        let ready = |worker: &portcullis_session_manager::WorkerStatus| worker.state == WorkerState::Ready;
        self.status[at].state == MemberState::Ready && self.status[at].workers.iter().any(ready)
    }

    /// Whether a worker of a member could do something, if it had room.
    fn could(&self, at: usize, needs: &Needs) -> bool {
        let able = |worker: &portcullis_session_manager::WorkerStatus| {
            worker.state == WorkerState::Ready && self.is_able(MemberIndex(at), worker.epoch, needs)
        };
        self.status[at].state == MemberState::Ready && self.status[at].workers.iter().any(able)
    }

    fn is_trusted(&self, at: usize) -> bool {
        match self.status[at].breaker {
            BreakerState::Closed => true,
            BreakerState::HalfOpen => self.watch.members[at].on_trial.is_empty(),
            BreakerState::Open => false,
        }
    }

    /// Whether a member would begin something at once.
    fn is_surely_free(&self, at: usize, lane: Lane, needs: &Needs) -> bool {
        let member = MemberIndex(at);
        let meant = needs.only.as_ref().is_none_or(|only| only.contains(&member));
        let threads = |epoch| {
            let its = |one: &&Process| (one.member, one.epoch) == (member, epoch);
            let uses = self.processes.iter().find(its).map_or(1, |process| process.threads());
            if lane == Lane::Uses { uses } else { 1 }
        };
        let free = |worker: &portcullis_session_manager::WorkerStatus| {
            let has = self.watch.len(member, worker.epoch, lane);
            worker.state == WorkerState::Ready
                && self.is_able(member, worker.epoch, needs)
                && has < self.bound(at, lane).min(threads(worker.epoch))
                && (lane != Lane::Changes || !self.others_change(member, worker.epoch))
        };
        let status = &self.status[at];
        meant
            && status.breaker == BreakerState::Closed
            && status.state == MemberState::Ready
            && status.workers.iter().any(free)
    }

    /// Whether another worker of a member has changes of token objects.
    fn others_change(&self, member: MemberIndex, epoch: Epoch) -> bool {
        self.watch
            .under_way(Lane::Changes)
            .any(|grant| grant.member == member && grant.epoch != epoch)
    }

    /// Whether a principal gets no more than the widest reading of its share.
    fn is_within_share(&self, grant: &Grant) -> bool {
        let mut principals: Vec<_> = self.watch.under_way(grant.lane).map(|grant| grant.principal).collect();
        let own = principals.iter().filter(|one| **one == grant.principal).count();
        let total = principals.len();
        principals.sort_unstable();
        principals.dedup();
        let places: usize = (0..self.status.len())
            .map(|at| {
                let ready = self.status[at]
                    .workers
                    .iter()
                    .filter(|worker| worker.state == WorkerState::Ready);
                ready.count() * self.bound(at, grant.lane)
            })
            .sum();
        let share = (places / (principals.len() + 1)).max(1);
        grant.principal == Principal::GATEWAY || own == 0 || total < places / 2 || own < share
    }

    /// When nothing more happens by itself, nobody waits and the books are empty.
    pub(crate) fn check_that_all_were_answered(&mut self) {
        let waiting = self.callers.iter().filter(|caller| caller.answered.is_none()).count();
        let open = self.watch.open.len();
        self.check(waiting == 0, || format!("{waiting} callers were never answered"));
        self.check(open == 0, || format!("{open} grants were never given back"));
        if !self.stopped {
            let held = self.core.under_way();
            self.check(held == 0, || format!("{held} are in the books for ever"));
        }
    }

    /// Whether every member that is to serve does so with all its workers.
    pub(crate) fn all_serve(&self) -> bool {
        // A process that died, of which the core has not heard; a probe that is not answered.
        let serves = |process: &Process| self.is_in(process.member, process.epoch, &[WorkerState::Ready]);
        let undecided = |process: &&Process| process.phase == Phase::Dead || process.probed.is_some();
        if self.processes.iter().filter(undecided).any(serves) {
            return false;
        }
        let roll = self.core.roll_status().left == 0;
        roll && self
            .status
            .iter()
            .zip(&self.watch.members)
            .all(|(member, watched)| match watched.duty {
                Duty::Removed => member.workers.is_empty(),
                _ => {
                    let ready = member.workers.iter().all(|worker| worker.state == WorkerState::Ready);
                    ready && member.workers.len() == member.plan.workers.max(1) as usize
                }
            })
    }

    pub(crate) fn check_that_all_serve(&mut self) {
        let all = self.all_serve();
        let states: Vec<_> = self
            .status
            .iter()
            .map(|member| {
                (
                    member.state,
                    member.workers.iter().map(|worker| worker.state).collect::<Vec<_>>(),
                )
            })
            .collect();
        let left = self.core.roll_status().left;
        self.check(all, || {
            format!("all are well and do not serve: {states:?}, {left} left to roll")
        });
    }

    /// Each kind of call succeeds where all members are well.
    pub(crate) fn check_that_calls_succeed(&mut self) {
        use crate::schedule::{Call, End, What};
        if !self.status.iter().any(|member| member.state == MemberState::Ready) {
            return;
        }
        for what in [What::Use, What::Create, What::CreateResident] {
            let number = self.callers.len();
            self.take(Step::Ask(
                1,
                Call {
                    what,
                    key: 0,
                    principal: 1,
                    patience: 3_000,
                    ends: [End::Done; 4],
                },
            ));
            self.wait_for(number);
            let answered = self.callers[number].answered;
            self.check(answered == Some(Answered::Released), || {
                format!("{what:?} among the well: {answered:?}")
            });
        }
    }
}

/// The name of a life.
pub(crate) fn life(grant: &Grant) -> String {
    format!("{}/{}", grant.member.0, grant.epoch.0)
}

const START_WINDOW: Duration = Duration::from_secs(60);
/// So long a dead process is remembered: longer than anything of it is on its way.
const KEPT: Duration = Duration::from_secs(30);

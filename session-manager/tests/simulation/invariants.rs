//! What must hold at each moment, and how it is known apart from what the core says of itself.

use crate::{
    process::{Phase, Process},
    watch::{ALONE, Duty, life},
    world::{SETTINGS, World},
};
use portcullis_hsm::worker::lane::Lane;
use portcullis_session_manager::{
    Action, Attempts, BreakerState, Epoch, Event, Grant, MemberIndex, MemberState, MemberStatus, Needs, Next, Outcome,
    Principal, Refusal, Trouble, WorkerState,
};
use std::time::{Duration, Instant};

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
        let starting = [WorkerState::Starting, WorkerState::Probing];
        match event {
            Event::DomainFound(member, epoch, fingerprint, answer) => {
                let wrong = *fingerprint != crate::world::domain() || answer[0] != 7;
                let probing = self.is_in(*member, *epoch, &[WorkerState::Probing]);
                if wrong && probing {
                    self.watch.fence(*member, self.members[member.0].begun);
                } else if probing {
                    self.watch.members[member.0].has_served = true;
                }
            }
            Event::Probed(member, epoch, answer) if answer[0] != 7 && self.is_in(*member, *epoch, &serving) => {
                self.watch.fence(*member, self.members[member.0].begun);
            }
            Event::Opened(member, epoch, _) if self.is_in(*member, *epoch, &[WorkerState::Starting]) => {
                self.watch.members[member.0].absent_since = None;
            }
            Event::StartFailed(member, epoch, Trouble::Absent(_)) if self.is_in(*member, *epoch, &starting) => {
                self.watch.members[member.0].miss_token(self.now);
            }
            Event::StartFailed(member, epoch, Trouble::Lasting(_)) if self.is_in(*member, *epoch, &starting) => {
                self.watch.members[member.0].lasting = true;
            }
            Event::ProbeFailed(member, epoch, Trouble::Lasting(_)) if self.is_in(*member, *epoch, &serving) => {
                self.watch.members[member.0].lasting = true;
            }
            Event::Revived(member) => {
                let watched = &mut self.watch.members[member.0];
                if watched.duty == Duty::Serve {
                    watched.forgive();
                }
            }
            Event::Roll(members) => {
                self.watch.roll_asked |= !members.is_empty();
                for member in members {
                    let watched = &mut self.watch.members[member.0];
                    if watched.duty == Duty::Serve {
                        watched.forgive();
                    }
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
                    watched.duty = Duty::Serve;
                    watched.forgive();
                }
            }
            Event::Configured(member, plan) => {
                self.watch.roll_asked |= member.0 < self.status.len();
                let watched = &mut self.watch.members[member.0];
                watched.forgive();
                watched.has_served = false;
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
                self.watch.killed.push((*member, *epoch));
                let others = self.watch.others_serve(&self.status, *member);
                let life = self.watch.life(*member, *epoch).into_iter();
                // Whether others serve by now cannot be seen from here: what hangs for so long hangs for sure where they do not.
                let overdue: Vec<_> = life
                    .flat_map(|life| {
                        let long: Vec<_> = life.overdue(now, ALONE).collect();
                        let sure = move |ticket| tick && (others || long.contains(&ticket));
                        life.overdue(now, 1).map(move |ticket| (ticket, sure(ticket)))
                    })
                    .collect();
                self.watch.hung.extend(overdue);
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
            Action::TellRoll(_) => self.watch.roll_asked = false,
            _ => {}
        }
    }

    /// Looks at the core after it has done something, and asks it what it knows.
    pub(crate) fn after(&mut self, done: &'static str) {
        let before = std::mem::replace(&mut self.status, self.core.status(self.now));
        if self.stopped {
            return;
        }
        self.wake = self.core.next_wakeup();
        let (now, wake) = (self.now, self.wake);
        self.check(wake.is_none_or(|at| at > now), || {
            format!("it never sleeps after {done}")
        });
        self.watch.lives.retain(|life| {
            let member = &self.status[life.member.0];
            let serves = |state| matches!(state, WorkerState::Ready | WorkerState::Retiring);
            member
                .workers
                .iter()
                .any(|worker| worker.epoch == life.epoch && serves(worker.state))
        });
        self.watch.killed.clear();
        let hang = self.watch.next_hang(&self.status);
        self.check(hang.is_none_or(|at| wake.is_some_and(|wake| wake <= at)), || {
            format!("it sleeps over a hang after {done}")
        });
        let status = std::mem::take(&mut self.status);
        for (at, (before, member)) in before.iter().zip(&status).enumerate() {
            self.check_relief(at, before, member);
        }
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

    /// A worker is let go only where another serves in its place.
    fn check_relief(&mut self, at: usize, before: &MemberStatus, member: &MemberStatus) {
        let was_ready = |epoch| {
            before
                .workers
                .iter()
                .any(|one| one.epoch == epoch && one.state == WorkerState::Ready)
        };
        let mut workers = member.workers.iter();
        let let_go = workers.any(|one| one.state == WorkerState::Retiring && was_ready(one.epoch));
        let serves = member.workers.iter().any(|one| one.state == WorkerState::Ready);
        self.check(!let_go || serves || member.state != MemberState::Ready, || {
            format!("{at} lets its last worker go")
        });
    }

    fn check_member(&mut self, at: usize, member: &MemberStatus) {
        use MemberState::{Down, Drained, Draining, Fenced, Probing, Ready, Removed, Starting, Stopped};
        let watched = &mut self.watch.members[at];
        let (duty, told) = (watched.duty, watched.told);
        let lives = &self.watch.lives;
        let half_open = member.breaker == BreakerState::HalfOpen;
        watched
            .on_trial
            .retain(|(_, epoch)| half_open && lives.iter().any(|life| (life.member.0, life.epoch) == (at, *epoch)));
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
    pub(crate) fn is_in(&self, member: MemberIndex, epoch: Epoch, states: &[WorkerState]) -> bool {
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
}

const START_WINDOW: Duration = Duration::from_secs(60);
/// So long a dead process is remembered: longer than anything of it is on its way.
const KEPT: Duration = Duration::from_secs(30);

//! After the last step of a schedule everything mends; then everything must come to rest.

use crate::{
    process::{Phase, Process},
    schedule::{Call, End, Health, Start, Step, What},
    watch::Duty,
    world::{Answered, Caller, World},
};
use portcullis_session_manager::{Event, MemberIndex, MemberState, MemberStatus, WorkerState};
use std::time::Duration;

impl World {
    /// After the last step: everything mends, and operators have every member serve again. Then every caller must have been
    /// answered, nothing may be left in the books, and every member must come to serve.
    pub(crate) fn come_to_rest(&mut self) {
        for member in &mut self.members {
            (member.health, member.start) = (Health::Well, Start::Well);
        }
        let until = self.now + ANSWERED_WITHIN;
        while !self.watch.broken() && self.is_busy() && self.next(until) {}
        if self.watch.broken() {
            return;
        }
        self.check_that_all_were_answered();
        if self.stopped {
            return;
        }
        for index in 0..self.members.len() {
            self.handle(Event::Resume(MemberIndex(index)));
        }
        let until = self.now + SERVES_WITHIN;
        while !self.watch.broken() && !self.all_serve() && self.next(until) {}
        if !self.watch.broken() {
            self.check_that_all_serve();
        }
        if !self.watch.broken() {
            self.check_that_calls_succeed();
        }
    }

    /// Whether somebody waits for something.
    fn is_busy(&self) -> bool {
        let unanswered = |caller: &Caller| caller.answered.is_none();
        self.watch.has_open_grants() || self.callers.iter().any(unanswered) || !self.stopped && !self.all_left()
    }

    /// Whether members that were drained or removed have ended their workers.
    fn all_left(&self) -> bool {
        let left = |member: &MemberStatus| match member.state {
            MemberState::Draining => false,
            MemberState::Removed | MemberState::Drained => member.workers.is_empty(),
            _ => true,
        };
        self.status.iter().all(left)
    }

    /// Lets time pass until something was answered or nothing happens any more.
    fn wait_for(&mut self, caller: usize) {
        let until = self.now + Duration::from_secs(5);
        while !self.watch.broken() && self.callers[caller].answered.is_none() && self.next(until) {}
    }

    /// When nothing more happens by itself, nobody waits and the books are empty.
    fn check_that_all_were_answered(&mut self) {
        let waiting = self.callers.iter().filter(|caller| caller.answered.is_none()).count();
        let open = self.watch.open.len();
        self.check(waiting == 0, || format!("{waiting} callers were never answered"));
        self.check(open == 0, || format!("{open} grants were never given back"));
        if !self.stopped {
            let held = self.core.under_way();
            self.check(held == 0, || format!("{held} are in the books for ever"));
            let left = self.all_left();
            self.check(left, || {
                "a member that was drained or removed still has workers".to_owned()
            });
        }
    }

    /// Whether every member that is to serve does so with all its workers.
    fn all_serve(&self) -> bool {
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

    fn check_that_all_serve(&mut self) {
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
        let untold = self.watch.roll_asked;
        self.check(!untold, || "the end of a roll was never told".to_owned());
        self.check(all, || {
            format!("all are well and do not serve: {states:?}, {left} left to roll")
        });
    }

    /// Each kind of call succeeds where all members are well.
    fn check_that_calls_succeed(&mut self) {
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

/// The most that a simulated caller waits, and the time that its work may hang after that.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// The window in which starts are limited, the longest pause and a start.
const SERVES_WITHIN: Duration = Duration::from_secs(80);

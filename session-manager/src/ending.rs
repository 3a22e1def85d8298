//! How a worker's life ends, and what becomes of its member then.

use crate::{
    Core,
    lifecycle::ALIVE,
    member::Duty,
    message::{Action, Epoch, MemberIndex, Trouble, WorkerState},
};
use rand::RngExt;
use std::time::{Duration, Instant};

impl Core {
    /// Ends a worker because of trouble; it is started again unless the trouble lasts.
    pub(super) fn retire(
        &mut self,
        now: Instant,
        index: MemberIndex,
        epoch: Epoch,
        trouble: Trouble,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Kill(index, epoch));
        match self.judge_absence(now, index, trouble) {
            Trouble::Passing(reason) | Trouble::Absent(reason) => self.go_down(now, index, epoch, reason, actions),
            Trouble::Lasting(reason) => {
                self.forget_work(index, epoch);
                let Some(worker) = self.worker_in(index, epoch, &ALIVE) else {
                    return;
                };
                worker.act_at = None;
                if worker.is_serving() {
                    actions.push(Action::LookForNewPin(index));
                }
                self.members[index.0].lasting = Some(reason.clone());
                self.note_failed_replacement(index, epoch, &Trouble::Lasting(reason.clone()), actions);
                self.set(now, index, epoch, WorkerState::Stopped, reason, actions);
            }
        }
    }

    /// A token that was there and is gone is waited for: somebody may put it back, and looking for it risks no PIN. One that never was
    /// there, or is gone for too long, needs a person.
    fn judge_absence(&mut self, now: Instant, index: MemberIndex, trouble: Trouble) -> Trouble {
        let Trouble::Absent(reason) = trouble else {
            return trouble;
        };
        let grace = self.settings.token_grace;
        let member = &mut self.members[index.0];
        let since = *member.absent_since.get_or_insert(now);
        if !member.has_served {
            return Trouble::Lasting(reason);
        }
        if now.saturating_duration_since(since) < grace {
            return Trouble::Absent(reason);
        }
        Trouble::Lasting(format!(
            "its token is gone and did not come back within {grace:?}: {reason}; restore the token, or make a new one and clone the \
             domain to it, then resume the member"
        ))
    }

    /// Ends all that a member has: it is not to be believed.
    pub(super) fn fence(&mut self, index: MemberIndex, reason: String, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        for worker in &member.workers {
            if ALIVE.contains(&worker.state) {
                actions.push(Action::Kill(index, worker.epoch));
            }
        }
        let epochs: Vec<_> = member.workers.iter().map(|worker| worker.epoch).collect();
        for epoch in epochs {
            self.forget_work(index, epoch);
        }
        let member = &mut self.members[index.0];
        member.workers.clear();
        member.to_replace.clear();
        member.disbelieve();
        // What is no longer configured is not for a person to have serve again.
        if member.duty != Duty::Leave {
            member.duty = Duty::Fenced;
            member.reason = reason;
        }
        self.fail_roll_of(index, actions);
    }

    pub(super) fn go_down(
        &mut self,
        now: Instant,
        index: MemberIndex,
        epoch: Epoch,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        self.forget_work(index, epoch);
        let settings = self.settings;
        let jitter = self.random.random_range(0.75..1.25);
        // To look for a token that may come back costs little and risks nothing.
        let longest = match self.members[index.0].absent_since {
            Some(_) => settings.restart_pause_max.min(ABSENT_PAUSE_MAX),
            None => settings.restart_pause_max,
        };
        let Some(worker) = self.worker_in(index, epoch, &ALIVE) else {
            return;
        };
        let served_long = worker.is_serving() && now.saturating_duration_since(worker.since) >= LONG_LIFE;
        worker.short_lives = if served_long {
            0
        } else {
            worker.short_lives.saturating_add(1)
        };
        let doublings = worker.short_lives.saturating_sub(1).min(20);
        let pause = settings.restart_pause.saturating_mul(1 << doublings).min(longest);
        worker.act_at = Some(now + pause.mul_f64(jitter));
        worker.relieved = None;
        let retired = worker.state == WorkerState::Retiring;
        self.note_failed_replacement(index, epoch, &Trouble::Passing(reason.clone()), actions);
        self.set(now, index, epoch, WorkerState::Down, reason, actions);
        if retired {
            // Its successor serves already.
            self.members[index.0].workers.retain(|worker| worker.epoch != epoch);
        }
    }

    /// Takes what a life had out of the books: nobody will answer it.
    fn forget_work(&mut self, index: MemberIndex, epoch: Epoch) {
        let Some(at) = self.members[index.0].find(epoch) else {
            return;
        };
        let lanes = std::mem::take(&mut self.members[index.0].workers[at].lanes);
        for (lane, principal) in lanes.principals() {
            self.shares.remove(lane, principal);
        }
        for ticket in lanes.tickets() {
            self.members[index.0].breaker.end_trial(ticket);
        }
    }
}

/// A worker that served so long starts with the shortest pause when it dies.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// The longest pause between two looks for a token that is missing.
const ABSENT_PAUSE_MAX: Duration = Duration::from_secs(5);

//! The replacement of workers while they serve: each is let go when another stands ready in its place, so that no call finds
//! nobody, even where a member has one worker and a key has one member.

use crate::{
    Core,
    member::Duty,
    message::{Action, Epoch, MemberIndex, RollStatus, Trouble, WorkerState},
    worker::Worker,
};
use std::{collections::VecDeque, time::Instant};

/// Which members' workers are to be replaced.
#[derive(Debug, Default)]
pub(super) struct Roll {
    left: VecDeque<MemberIndex>,
    // Whether the first member's lives were noted.
    begun: bool,
    failure: Option<String>,
}

impl Core {
    /// How far the replacement of workers has come.
    pub fn roll_status(&self) -> RollStatus {
        RollStatus {
            left: self.roll.left.len(),
            failure: self.roll.failure.clone(),
        }
    }

    /// Has the workers of these members replaced, after those of others that are to be replaced already.
    pub(super) fn begin_roll(&mut self, members: Vec<MemberIndex>) {
        self.roll.failure = None;
        for index in members {
            let waits = self.roll.left.iter().skip(usize::from(self.roll.begun));
            let known = waits.into_iter().any(|waiting| *waiting == index);
            let Some(member) = self.members.get_mut(index.0) else {
                continue;
            };
            // A person asks for one more login.
            if member.duty == Duty::Serve {
                member.lasting = None;
                member.absent_since = None;
            }
            if !known {
                self.roll.left.push_back(index);
            }
        }
    }

    /// Takes the next step, if the last one is done.
    pub(super) fn go_on_rolling(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(&index) = self.roll.left.front() {
            let member = &mut self.members[index.0];
            if member.duty != Duty::Serve {
                member.to_replace.clear();
            } else if !self.roll.begun {
                let living = |worker: &&Worker| !matches!(worker.state, WorkerState::Down | WorkerState::Stopped);
                member.to_replace = member
                    .workers
                    .iter()
                    .filter(living)
                    .map(|worker| worker.epoch)
                    .collect();
                member.failed_replacements = 0;
            }
            self.roll.begun = true;
            // One that died meanwhile is started anew in any case.
            let living: Vec<Epoch> = member
                .workers
                .iter()
                .filter(|worker| worker.is_starting() || worker.state == WorkerState::Ready)
                .map(|worker| worker.epoch)
                .collect();
            member.to_replace.retain(|epoch| living.contains(epoch));
            let busy = |worker: &Worker| {
                worker.replaces.is_some() || worker.is_starting() || worker.state == WorkerState::Retiring
            };
            if member.duty == Duty::Serve && member.workers.iter().any(busy) {
                return;
            }
            if let Some(epoch) = member.to_replace.pop() {
                let keys = member.plan.loaded_keys;
                member.workers.push(Worker::new(now, keys, Some(epoch)));
                return;
            }
            self.roll.left.pop_front();
            self.roll.begun = false;
            if self.roll.left.is_empty() {
                actions.push(Action::TellRoll(Ok(())));
            }
        }
    }

    /// A worker that was to take another's place did not come to serve. What it was to relieve serves on.
    pub(super) fn note_failed_replacement(
        &mut self,
        index: MemberIndex,
        epoch: Epoch,
        trouble: &Trouble,
        actions: &mut Vec<Action>,
    ) {
        let member = &mut self.members[index.0];
        let replacing = |worker: &Worker| worker.epoch == epoch && worker.replaces.is_some();
        if !member.workers.iter().any(replacing) {
            return;
        }
        member.failed_replacements += 1;
        let reason = match trouble {
            Trouble::Lasting(reason) => reason,
            Trouble::Passing(reason) | Trouble::Absent(reason) if member.failed_replacements >= MOST_FAILURES => reason,
            Trouble::Passing(_) | Trouble::Absent(_) => return,
        };
        member.workers.retain(|worker| !replacing(worker));
        member.to_replace.clear();
        let reason = reason.clone();
        self.end_roll(reason, actions);
    }

    /// A member whose workers are being replaced is fenced.
    pub(super) fn fail_roll_of(&mut self, index: MemberIndex, actions: &mut Vec<Action>) {
        if self.roll.begun && self.roll.left.front() == Some(&index) {
            let reason = self.members[index.0].reason.clone();
            self.end_roll(reason, actions);
        }
    }

    /// What failed on one member might fail on all: the others keep the workers that they have.
    fn end_roll(&mut self, reason: String, actions: &mut Vec<Action>) {
        self.roll.left.clear();
        self.roll.begun = false;
        self.roll.failure = Some(reason.clone());
        actions.push(Action::TellRoll(Err(reason)));
    }
}

/// So often a replacement may fail to start.
const MOST_FAILURES: u32 = 3;

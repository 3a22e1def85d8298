//! Changes of states: written down, and told to those who watch.

use crate::{
    Core,
    message::{Action, Epoch, MemberIndex, MemberState, StateChange, WorkerChange, WorkerState},
    worker::Worker,
};
use std::time::Instant;

impl Core {
    pub(super) fn set(
        &mut self,
        now: Instant,
        index: MemberIndex,
        epoch: Epoch,
        to: WorkerState,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let member = &mut self.members[index.0];
        let Some(at) = member.find(epoch) else { return };
        let worker = &mut member.workers[at];
        worker.state = to;
        worker.since = now;
        // Why it went down stays to be seen until it serves again.
        if !reason.is_empty() || to == WorkerState::Ready {
            worker.reason = reason;
        }
        self.tell_worker(index, epoch, actions);
    }

    pub(super) fn tell_worker(&self, index: MemberIndex, epoch: Epoch, actions: &mut Vec<Action>) {
        let member = &self.members[index.0];
        let Some(at) = member.find(epoch).filter(|_| member.workers.len() > 1) else {
            return;
        };
        let worker = &member.workers[at];
        actions.push(Action::TellWorker(WorkerChange {
            member: index,
            epoch,
            to: worker.state,
            reason: if worker.state == WorkerState::Ready {
                String::new()
            } else {
                worker.reason.clone()
            },
        }));
    }

    /// Brings a member's state up to date with its workers, and tells if that changed.
    pub(super) fn show(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        let to = member.state_now();
        if to == member.state {
            return;
        }
        let from = std::mem::replace(&mut member.state, to);
        member.since = now;
        match to {
            MemberState::Ready | MemberState::Removed => member.reason.clear(),
            MemberState::Down | MemberState::Stopped => {
                let of_state = |worker: &&Worker| {
                    let wanted = if to == MemberState::Down {
                        WorkerState::Down
                    } else {
                        WorkerState::Stopped
                    };
                    worker.state == wanted && !worker.reason.is_empty()
                };
                if let Some(worker) = member.workers.iter().filter(of_state).max_by_key(|worker| worker.since) {
                    member.reason.clone_from(&worker.reason);
                }
            }
            // Why it went down stays to be seen until it serves again; why it was drained or fenced is known already.
            _ => {}
        }
        let telling = match to {
            MemberState::Starting | MemberState::Probing => String::new(),
            _ => member.reason.clone(),
        };
        actions.push(Action::Tell(StateChange {
            member: index,
            from,
            to,
            reason: telling,
        }));
    }
}

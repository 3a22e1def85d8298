//! The places that a member has for workers: as many as configured, and one more while a worker is replaced.

use crate::{
    Core,
    member::Duty,
    message::{Action, MemberIndex, WorkerState},
    worker::Worker,
};
use portcullis_hsm::worker::lane::Lane;
use std::time::{Duration, Instant};

impl Core {
    /// Gives a member that serves as many places for workers as it is to have.
    pub(super) fn fill_places(&mut self, now: Instant, index: MemberIndex) {
        let member = &mut self.members[index.0];
        if member.duty != Duty::Serve {
            return;
        }
        let lasting = |worker: &&mut Worker| worker.replaces.is_none() && worker.state != WorkerState::Retiring;
        let places = member.workers.iter_mut().filter(lasting).count();
        let wanted = member.plan.workers.max(1) as usize;
        for _ in places..wanted {
            let keys = member.plan.loaded_keys;
            member.workers.push(Worker::new(now, keys, None));
        }
        if places > wanted {
            // Those that serve stay rather than those that might.
            member.workers.sort_by_key(|worker| !worker.is_serving());
        }
        for worker in member.workers.iter_mut().filter(lasting).skip(wanted) {
            if worker.state == WorkerState::Ready {
                worker.state = WorkerState::Retiring;
            }
        }
    }

    /// Lets workers end that have nothing to do and are to do nothing more.
    pub(super) fn empty_places(&mut self, index: MemberIndex, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        let all = member.duty != Duty::Serve;
        let mut places = 0;
        let wanted = member.plan.workers.max(1) as usize;
        member.workers.retain(|worker| {
            let surplus = if worker.replaces.is_none() && worker.state != WorkerState::Retiring {
                places += 1;
                places > wanted
            } else {
                false
            };
            let ends = match worker.state {
                WorkerState::Retiring => worker.lanes.total() == 0,
                WorkerState::Ready => all && worker.lanes.total() == 0,
                // A token may be lost if its worker is killed while it logs in.
                WorkerState::Starting | WorkerState::Probing => false,
                WorkerState::Down | WorkerState::Stopped => all || surplus,
            };
            if ends && worker.is_serving() {
                actions.push(Action::End(index, worker.epoch));
            }
            !ends
        });
        if member.duty == Duty::Drain && member.workers.is_empty() {
            member.duty = Duty::Rest;
        }
    }

    /// Where a worker stands ready that is to take another's place, lets the other finish.
    pub(super) fn relieve(&mut self, now: Instant, index: MemberIndex, actions: &mut Vec<Action>) {
        let member = &mut self.members[index.0];
        for at in 0..member.workers.len() {
            let successor = &member.workers[at];
            let Some(old) = successor.replaces.filter(|_| successor.state == WorkerState::Ready) else {
                continue;
            };
            let since = *member.workers[at].relieved.get_or_insert(now);
            match member.find_in(old, &[WorkerState::Ready]) {
                // Token objects have one writer: once it is let go the changes that come are refused until it has done what it has.
                // So a moment is waited for in which it has none, but not for ever.
                Some(worker)
                    if worker.lanes.len(Lane::Changes) > 0 && now.saturating_duration_since(since) < RELIEF => {}
                Some(worker) => {
                    worker.state = WorkerState::Retiring;
                    worker.since = now;
                    self.settle_in(index, at);
                    self.tell_worker(index, old, actions);
                    return;
                }
                // It died meanwhile, and its place is free.
                None => {
                    let dead = [WorkerState::Down, WorkerState::Stopped];
                    self.settle_in(index, at);
                    self.members[index.0]
                        .workers
                        .retain(|worker| worker.epoch != old || !dead.contains(&worker.state));
                    return;
                }
            }
        }
    }

    fn settle_in(&mut self, index: MemberIndex, at: usize) {
        let member = &mut self.members[index.0];
        member.workers[at].replaces = None;
        member.workers[at].relieved = None;
    }
}

/// For so long a worker that is to be replaced may go on changing token objects.
pub(super) const RELIEF: Duration = Duration::from_secs(5);

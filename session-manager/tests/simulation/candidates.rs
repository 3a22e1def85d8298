//! Which members and workers could be given a piece of work, from what the core shows and the books of the simulation.

use crate::{process::Process, world::World};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism},
    worker::lane::{CHANGES_QUEUE, Lane},
};
use portcullis_session_manager::{
    BreakerState, Epoch, Grant, MemberIndex, MemberState, Needs, Principal, WorkerState, WorkerStatus,
};

impl World {
    pub(crate) fn bound(&self, at: usize, lane: Lane) -> usize {
        let plan = self.status[at].plan;
        match lane {
            Lane::Uses => plan.queue as usize,
            Lane::Generations => plan.generation_queue as usize,
            Lane::Changes | Lane::Control => CHANGES_QUEUE,
        }
    }

    pub(crate) fn is_able(&self, member: MemberIndex, epoch: Epoch, needs: &Needs) -> bool {
        let its = |one: &&Process| (one.member, one.epoch) == (member, epoch);
        let rare = needs.uses.iter().any(|(_, mechanism)| *mechanism == Mechanism::Ed25519);
        debug_assert!(
            needs
                .generates
                .is_none_or(|one| matches!(one, KeyType::EcP256 | KeyType::Rsa2048)),
            "all make these"
        );
        self.processes
            .iter()
            .find(its)
            .is_some_and(|process| process.rich || !rare)
    }

    pub(crate) fn serves(&self, at: usize) -> bool {
        let ready = |worker: &WorkerStatus| worker.state == WorkerState::Ready;
        self.status[at].state == MemberState::Ready && self.status[at].workers.iter().any(ready)
    }

    /// Whether a worker of a member could do something, if it had room.
    pub(crate) fn could(&self, at: usize, needs: &Needs) -> bool {
        let able = |worker: &WorkerStatus| {
            worker.state == WorkerState::Ready && self.is_able(MemberIndex(at), worker.epoch, needs)
        };
        self.status[at].state == MemberState::Ready && self.status[at].workers.iter().any(able)
    }

    pub(crate) fn is_trusted(&self, at: usize) -> bool {
        match self.status[at].breaker {
            BreakerState::Closed => true,
            BreakerState::HalfOpen => self.watch.members[at].on_trial.is_empty(),
            BreakerState::Open => false,
        }
    }

    /// Whether a member would begin something at once.
    pub(crate) fn is_surely_free(&self, at: usize, lane: Lane, needs: &Needs) -> bool {
        let member = MemberIndex(at);
        let meant = needs.only.as_ref().is_none_or(|only| only.contains(&member));
        let threads = |epoch| {
            let its = |one: &&Process| (one.member, one.epoch) == (member, epoch);
            let uses = self.processes.iter().find(its).map_or(1, |process| process.threads());
            if lane == Lane::Uses { uses } else { 1 }
        };
        let free = |worker: &WorkerStatus| {
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
    pub(crate) fn others_change(&self, member: MemberIndex, epoch: Epoch) -> bool {
        self.watch
            .under_way(Lane::Changes)
            .any(|grant| grant.member == member && grant.epoch != epoch)
    }

    /// Whether a principal gets no more than the widest reading of its share.
    pub(crate) fn is_within_share(&self, grant: &Grant) -> bool {
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
}

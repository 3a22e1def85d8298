//! What people do to members, and what they are told: drain, resume, replacement of workers, another configuration.

use super::{
    core::{
        Action, BreakerState, Event, MemberIndex, MemberState, MemberStatus, RollStatus, StateChange, WorkerChange,
        WorkerState,
    },
    error::ClusterError,
    shell::{Cluster, MemberSlot, lock},
    view::Readiness,
};
use crate::config::{ClusterSettings, MemberSettings};
use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Instant,
};

/// Whether the last member that serves may be drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastMember {
    /// No: nobody would serve.
    Keep,
    /// Yes: a person has said so.
    Drain,
}

impl Cluster {
    /// Gives a member nothing more to do, and returns when it has finished what it had and its workers have ended.
    pub async fn drain(
        self: &Arc<Self>,
        member: MemberIndex,
        last: LastMember,
        deadline: Instant,
    ) -> Result<(), ClusterError> {
        let actions = {
            let (mut core, now) = (lock(&self.core), Instant::now());
            let serves = core.status(now)[member.0].state == MemberState::Ready;
            if serves && core.ready() == 1 && last == LastMember::Keep {
                return Err(ClusterError::LastMember);
            }
            // Under the same lock: of two who drain the last two members at once, one is refused.
            core.handle(now, Event::Drain(member))
        };
        self.follow(actions);
        let drained = |status: &MemberStatus| {
            matches!(
                status.state,
                MemberState::Drained | MemberState::Fenced | MemberState::Removed
            )
        };
        self.wait_until(member, drained, deadline).await?;
        // Whoever drained it may want to work on the HSM now.
        let slot = self.slot(member);
        let mut processes = slot.processes.subscribe();
        let ended = tokio::time::timeout_at(deadline.into(), processes.wait_for(|processes| *processes == 0)).await;
        ended.map(drop).map_err(|_| ClusterError::DeadlinePassed)
    }

    /// Takes a member into service again that was drained, stopped or fenced, and returns when it serves or cannot.
    pub async fn resume(self: &Arc<Self>, member: MemberIndex, deadline: Instant) -> Result<(), ClusterError> {
        self.decide(Event::Resume(member));
        let settled = |status: &MemberStatus| {
            let failed = |state| status.workers.iter().any(|worker| worker.state == state);
            match status.state {
                MemberState::Ready | MemberState::Stopped | MemberState::Fenced | MemberState::Removed => true,
                MemberState::Down => failed(WorkerState::Down) && !status.reason.is_empty(),
                _ => false,
            }
        };
        self.wait_until(member, settled, deadline).await
    }

    /// Replaces every worker of these members, each when another stands ready in its place. Returns when that is done, or why
    /// it was given up.
    pub async fn roll(self: &Arc<Self>, members: Vec<MemberIndex>, deadline: Instant) -> Result<(), ClusterError> {
        self.decide(Event::Roll(members));
        let mut readiness = self.readiness.subscribe();
        loop {
            readiness.mark_unchanged();
            let RollStatus { left, failure } = self.roll_status();
            match failure {
                Some(reason) => return Err(ClusterError::RollFailed(reason)),
                None if left == 0 => return Ok(()),
                None => {}
            }
            let changed = readiness.changed();
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return Err(ClusterError::DeadlinePassed);
            }
        }
    }

    /// How far the replacement of workers has come.
    pub fn roll_status(&self) -> RollStatus {
        lock(&self.core).roll_status()
    }

    /// Behaves by other settings from now on: members come, are used otherwise, and go.
    pub fn configure(self: &Arc<Self>, members: &[MemberSettings], settings: ClusterSettings) {
        self.settings.store(Arc::new(settings));
        lock(&self.core).set_settings(settings.manager);
        for wanted in members {
            match self.member(&wanted.name) {
                None => {
                    let index = {
                        let slot = MemberSlot::new(wanted.clone());
                        self.telemetry.metrics().member_known(&slot.name);
                        let mut slots = self.members.write().unwrap_or_else(PoisonError::into_inner);
                        slots.push(Arc::new(slot));
                        MemberIndex(slots.len() - 1)
                    };
                    tracing::info!(member = wanted.name, "a member is added");
                    self.decide(Event::Configured(index, wanted.plan()));
                }
                Some(index) => {
                    let slot = self.slot(index);
                    let removed = lock(&self.core).status(Instant::now())[index.0].state == MemberState::Removed;
                    if removed || !is_same(&**slot.settings.load(), wanted) {
                        slot.settings.store(Arc::new(wanted.clone()));
                        tracing::info!(
                            member = wanted.name,
                            "a member is configured otherwise: its workers are replaced"
                        );
                        self.decide(Event::Configured(index, wanted.plan()));
                    }
                }
            }
        }
        for (at, slot) in self.slots().iter().enumerate() {
            let index = MemberIndex(at);
            let gone = !members.iter().any(|wanted| wanted.name == *slot.name);
            if gone && lock(&self.core).status(Instant::now())[at].state != MemberState::Removed {
                tracing::info!(member = %slot.name, "a member is removed");
                self.decide(Event::Removed(index));
            }
        }
    }

    /// Has an event decided at once: what is asked afterwards knows of it.
    fn decide(self: &Arc<Self>, event: Event) {
        let actions = lock(&self.core).handle(Instant::now(), event);
        self.follow(actions);
    }

    fn follow(self: &Arc<Self>, actions: Vec<Action>) {
        self.perform(actions);
        // The driver's next wake-up may have moved.
        self.report(Event::Tick);
    }

    /// Waits until a member is where it should be.
    async fn wait_until(
        &self,
        member: MemberIndex,
        there: impl Fn(&MemberStatus) -> bool,
        deadline: Instant,
    ) -> Result<(), ClusterError> {
        let mut readiness = self.readiness.subscribe();
        loop {
            readiness.mark_unchanged();
            if lock(&self.core)
                .status(Instant::now())
                .get(member.0)
                .is_some_and(&there)
            {
                return Ok(());
            }
            let changed = readiness.changed();
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return Err(ClusterError::DeadlinePassed);
            }
        }
    }

    /// One line for each change of a member's state.
    pub(super) fn tell(
        &self,
        StateChange {
            member,
            from,
            to,
            reason,
        }: &StateChange,
    ) {
        let member = &*self.name(*member);
        match to {
            MemberState::Stopped | MemberState::Fenced => {
                tracing::error!(member, ?from, ?to, %reason, "a member needs a person");
            }
            MemberState::Down if *from == MemberState::Stopped => {}
            MemberState::Down => tracing::warn!(member, ?from, ?to, %reason, "a member is down"),
            MemberState::Starting | MemberState::Probing => tracing::debug!(member, ?from, ?to, "a member starts"),
            MemberState::Ready => tracing::info!(member, ?from, "a member serves"),
            MemberState::Draining => tracing::warn!(member, ?from, "a member is given nothing more to do"),
            MemberState::Drained => tracing::warn!(member, "a member is drained: its workers have ended"),
            MemberState::Removed => tracing::info!(member, ?from, "a member is no longer used"),
        }
        self.tell_watchers();
    }

    /// One line for each change of a worker's state that is none of its member's.
    pub(super) fn tell_worker(&self, change: &WorkerChange) {
        let (member, worker) = (&*self.name(change.member), change.epoch.0);
        match change.to {
            WorkerState::Stopped => {
                tracing::error!(member, worker, reason = change.reason, "a worker needs a person");
            }
            WorkerState::Down => tracing::warn!(member, worker, reason = change.reason, "a worker is down"),
            WorkerState::Ready => tracing::info!(member, worker, "a worker serves"),
            WorkerState::Retiring => tracing::info!(member, worker, "a worker was replaced and finishes what it has"),
            WorkerState::Starting | WorkerState::Probing => tracing::debug!(member, worker, "a worker starts"),
        }
        self.tell_watchers();
    }

    /// One line for each change of a breaker.
    pub(super) fn tell_breaker(&self, member: MemberIndex, state: BreakerState) {
        let member = self.name(member);
        self.telemetry.metrics().breaker_changed(&member, state);
        let member = &*member;
        match state {
            BreakerState::Open => {
                tracing::warn!(
                    member,
                    "a member fails at what others do: it is given no work until it has shown that it works"
                );
            }
            BreakerState::HalfOpen => tracing::info!(member, "a member is given one operation at a time, on trial"),
            BreakerState::Closed => tracing::info!(member, "a member is trusted again"),
        }
        self.tell_watchers();
    }

    pub(super) fn tell_roll(&self, result: Result<(), String>) {
        match result {
            Ok(()) => tracing::info!("all workers that were to be replaced are"),
            Err(reason) => {
                tracing::error!(%reason, "no more workers are replaced: one that was to take another's place did not start")
            }
        }
        self.tell_watchers();
    }

    fn tell_watchers(&self) {
        let core = lock(&self.core);
        self.readiness.send_replace(Readiness {
            ready: core.ready(),
            settled: core.is_settled(),
        });
    }
}

/// Whether two settings say the same.
fn is_same(one: &impl fmt::Debug, other: &impl fmt::Debug) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

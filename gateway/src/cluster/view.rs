//! What can be seen of the cluster from outside: whether it serves, and where its members are.

use super::{
    core::{BreakerState, MemberState, WorkerStatus},
    shell::{Cluster, lock},
};
use portcullis_hsm::{domain::Fingerprint, worker::protocol::Opened};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whether the cluster serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// How many members serve.
    pub ready: usize,
    /// Whether the first start of every member has come to an end.
    pub settled: bool,
}

/// A member, for people.
#[derive(Debug, Clone)]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: MemberState,
    /// Why it is not ready, and what to do.
    pub reason: String,
    /// How long it has been there.
    pub since: Duration,
    /// Operations that it has and has not answered.
    pub outstanding: u32,
    /// How often its worker was started.
    pub starts: u64,
    /// Operations that it may have at once.
    pub queue: u32,
    /// Whether it is given work.
    pub breaker: BreakerState,
    /// How long it takes for its work beside the cluster as a whole; 1 is as long.
    pub slowness: f64,
    /// Each of its workers.
    pub workers: Vec<WorkerStatus>,
    /// Its share of the work.
    pub weight: u32,
    /// The fingerprint that it showed.
    pub fingerprint: Option<Fingerprint>,
    /// What its token said of itself and can do.
    pub opened: Option<Opened>,
}

impl Cluster {
    /// Whether the cluster serves, and how that changes.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// What is known of each member.
    pub fn members(&self) -> Vec<MemberView> {
        let now = Instant::now();
        let status = lock(&self.core).status(now);
        self.slots()
            .iter()
            .zip(status)
            .filter(|(_, status)| status.state != MemberState::Removed)
            .map(|(member, status)| MemberView {
                name: member.name.to_string(),
                state: status.state,
                reason: status.reason,
                since: now.saturating_duration_since(status.since),
                outstanding: status.outstanding,
                starts: status.starts,
                queue: (status.plan.queue + status.plan.generation_queue) * status.plan.workers,
                weight: status.plan.weight,
                breaker: status.breaker,
                slowness: status.slowness,
                workers: status.workers,
                fingerprint: status.fingerprint,
                opened: lock(&member.opened).clone(),
            })
            .collect()
    }
}

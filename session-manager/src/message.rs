//! What goes into the core and what comes out of it.

use crate::{
    breaker::BreakerState,
    lanes::{LaneThreads, Tempo, Ticket},
    settings::MemberPlan,
};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    domain::Fingerprint,
    record::Tag,
    worker::lane::Lane,
};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// A member by its place in the configuration. A place is never given to another member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub usize);

/// One life of one of a member's workers. Nothing of an earlier epoch is ever used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// On whose behalf something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(pub u64);

/// Work that takes about as long each time: it is compared with its like alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u32);

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// Its worker loads the module, finds the token and logs in.
    Starting,
    /// Its domain is being checked.
    Probing,
    /// It serves.
    Ready,
    /// It finishes what it has and is given nothing more, because a person asked for that.
    Draining,
    /// It has nothing to do and no worker, because a person asked for that.
    Drained,
    /// Its workers are gone and will be started again.
    Down,
    /// It needs a person.
    Stopped,
    /// It holds another domain or answered wrong; it needs a person.
    Fenced,
    /// It is no longer configured.
    Removed,
}

/// Where one of a member's workers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// It loads the module, finds the token and logs in.
    Starting,
    /// Its domain is being checked.
    Probing,
    /// It serves.
    Ready,
    /// It finishes what it has and is given nothing more.
    Retiring,
    /// It is gone and will be started again.
    Down,
    /// It is gone and needs a person.
    Stopped,
}

/// What the token can do, as its worker found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// The uses that it supports.
    pub uses: HashSet<(Operation, Mechanism)>,
    /// The key types that it generates.
    pub generates: HashSet<KeyType>,
    /// How many threads its worker started.
    pub threads: LaneThreads,
}

/// What an operation needs of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// These uses.
    pub uses: Vec<(Operation, Mechanism)>,
    /// The generation of a key type.
    pub generates: Option<KeyType>,
    /// To be one of these, because they alone hold the key.
    pub only: Option<Vec<MemberIndex>>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A worker opened its token.
    Opened(MemberIndex, Epoch, Abilities),
    /// A worker found its domain; with the answer that its probes must give.
    DomainFound(MemberIndex, Epoch, Fingerprint, Tag),
    /// A worker could not open its token or find its domain.
    StartFailed(MemberIndex, Epoch, Trouble),
    /// A probe was answered.
    Probed(MemberIndex, Epoch, Tag),
    /// A probe failed.
    ProbeFailed(MemberIndex, Epoch, Trouble),
    /// A worker is gone.
    Gone(MemberIndex, Epoch, String),
    /// A person has done something about a stopped member.
    Revived(MemberIndex),
    /// A person wants a member to finish what it has and to end.
    Drain(MemberIndex),
    /// A person wants a member to serve again, whatever kept it from that.
    Resume(MemberIndex),
    /// A person wants the workers of these members replaced one by one.
    Roll(Vec<MemberIndex>),
    /// A member is configured, for the first time or otherwise than before.
    Configured(MemberIndex, MemberPlan),
    /// A member is no longer configured.
    Removed(MemberIndex),
}

/// Something that went wrong at a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Another try may help.
    Passing(String),
    /// It needs a person.
    Lasting(String),
    /// Its token is not there, and nothing was tried on it. It may come back.
    Absent(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker.
    Start(MemberIndex, Epoch),
    /// Ask a worker for its domain.
    FindDomain(MemberIndex, Epoch),
    /// Probe a worker.
    Probe(MemberIndex, Epoch),
    /// Let a worker end that has nothing to do.
    End(MemberIndex, Epoch),
    /// Kill a worker.
    Kill(MemberIndex, Epoch),
    /// A worker that served lost its login: look whether its PIN is another one now.
    LookForNewPin(MemberIndex),
    /// Tell the log: a member changed its state.
    Tell(StateChange),
    /// Tell the log: one of several workers of a member did.
    TellWorker(WorkerChange),
    /// Tell the log: a member's breaker did.
    TellBreaker(MemberIndex, BreakerState),
    /// Tell the log: the replacement of workers came to its end, or to the trouble that ended it.
    TellRoll(Result<(), String>),
}

/// A member changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Which member.
    pub member: MemberIndex,
    /// From where.
    pub from: MemberState,
    /// To where.
    pub to: MemberState,
    /// Why, and what to do; empty where nothing is wrong.
    pub reason: String,
}

/// One of several workers of a member changed its state, and the member did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerChange {
    /// Of which member.
    pub member: MemberIndex,
    /// Which life.
    pub epoch: Epoch,
    /// To where.
    pub to: WorkerState,
    /// Why; empty where nothing is wrong.
    pub reason: String,
}

/// The right to give one operation to a worker. It is given back by [`crate::Core::conclude`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The member.
    pub member: MemberIndex,
    /// The life of its worker.
    pub epoch: Epoch,
    /// Which of the worker's threads serve it.
    pub lane: Lane,
    /// This piece of work.
    pub ticket: Ticket,
    /// On whose behalf.
    pub principal: Principal,
    /// What it is compared with.
    pub kind: Kind,
    /// How long it takes where nothing is wrong.
    pub tempo: Tempo,
}

/// How an attempt ended, as far as the core cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The member did what it should: it succeeded, or refused what no member would do.
    Served,
    /// The caller went away or its deadline passed.
    Abandoned,
    /// The member is short of something.
    Busy,
    /// The member lacks what it takes.
    Unsupported,
    /// The member failed.
    Fault,
    /// The member needs a person.
    Lasting(String),
    /// The worker died before it answered.
    Gone,
    /// The member answered wrong.
    Lied(String),
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The answer goes to the caller.
    Release,
    /// The answer, if there is one, is worth nothing: ask to be admitted again.
    Again,
    /// There is no answer and will be none.
    GiveUp,
}

/// Why no member takes an operation now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// None that could is ready.
    NoneReady {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// All that could have as much to do as they may, or as can be done in time.
    Full {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// This principal has its share of what there is.
    ShareTaken {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// It is too late.
    DeadlinePassed,
    /// Members are ready, and none can.
    Unsupported {
        /// Those that were asked.
        members: Vec<MemberIndex>,
        /// What none of them can; all that was needed, where each can be done somewhere.
        missing: Needs,
    },
}

/// What is known of a member, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberStatus {
    /// Where it is.
    pub state: MemberState,
    /// Why it is not ready.
    pub reason: String,
    /// When it came to its state.
    pub since: Instant,
    /// Operations that it has and has not answered.
    pub outstanding: u32,
    /// How often a worker of it was started.
    pub starts: u64,
    /// The fingerprint that it showed.
    pub fingerprint: Option<Fingerprint>,
    /// Whether it is given work.
    pub breaker: BreakerState,
    /// How long it takes for its work beside the cluster as a whole; 1 is as long.
    pub slowness: f64,
    /// Each of its workers.
    pub workers: Vec<WorkerStatus>,
    /// How it is used.
    pub plan: MemberPlan,
}

/// What is known of a worker, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Which life of it this is; 0 before the first.
    pub epoch: Epoch,
    /// Where it is.
    pub state: WorkerState,
    /// Why it does not serve.
    pub reason: String,
    /// When it came to its state.
    pub since: Instant,
    /// Operations that it has and has not answered.
    pub outstanding: u32,
}

/// How far the replacement of workers has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RollStatus {
    /// How many members are still to be seen to, the one at hand among them.
    pub left: usize,
    /// Why the last roll did not come to its end.
    pub failure: Option<String>,
}

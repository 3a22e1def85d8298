//! What goes into the core and what comes out of it.

use super::lanes::{LaneThreads, Ticket};
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

/// A member by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub usize);

/// One life of a member's worker. Nothing of an earlier epoch is ever used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberState {
    /// Its worker loads the module, finds the token and logs in.
    Starting,
    /// Its domain is being checked.
    Probing,
    /// It serves.
    Ready,
    /// Its worker is gone and will be started again.
    Down,
    /// It needs a person.
    Stopped,
    /// It holds another domain or answered wrong; it needs a person.
    Fenced,
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
}

/// Something that went wrong at a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Another try may help.
    Passing(String),
    /// It needs a person.
    Lasting(String),
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
    /// Kill a worker.
    Kill(MemberIndex, Epoch),
    /// Tell the log: a member changed its state.
    Tell(StateChange),
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

/// The right to give one operation to a member. It is given back by [`super::Core::conclude`].
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
}

/// Why no member takes an operation now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// None that could is ready.
    NoneReady {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// All that could have as much to do as they may.
    Full {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// Members are ready, and none can.
    Unsupported {
        /// Those that were asked.
        members: Vec<MemberIndex>,
    },
}

/// The members that an operation has tried.
#[derive(Debug, Clone, Default)]
pub struct Attempts {
    tried: Vec<MemberIndex>,
}

impl Attempts {
    /// Whether another attempt is worth it.
    pub fn may_go_on(&self) -> bool {
        self.tried.len() < MAX_ATTEMPTS
    }

    /// Whether a member was tried.
    pub(super) fn has_tried(&self, member: MemberIndex) -> bool {
        self.tried.contains(&member)
    }

    /// Notes a try.
    pub(super) fn note(&mut self, member: MemberIndex) {
        self.tried.push(member);
    }

    /// The members, in order; one that was tried twice comes twice.
    pub fn tried(&self) -> impl Iterator<Item = MemberIndex> + '_ {
        self.tried.iter().copied()
    }

    /// How many different members were tried.
    pub fn distinct(&self) -> usize {
        self.tried.iter().collect::<HashSet<_>>().len()
    }
}

/// What is known of a member, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Where it is.
    pub state: MemberState,
    /// Why it is not ready.
    pub reason: String,
    /// When it came to its state.
    pub since: Instant,
    /// Operations that it has and has not answered.
    pub outstanding: u32,
    /// How often its worker was started.
    pub starts: u64,
    /// The fingerprint that it showed.
    pub fingerprint: Option<Fingerprint>,
}

/// How a member is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberPlan {
    /// Uses of keys that it may have at once.
    pub queue: u32,
    /// Generations of keys that it may have at once.
    pub generation_queue: u32,
    /// Its share of the work.
    pub weight: u32,
}

/// An operation is tried at most so often.
const MAX_ATTEMPTS: usize = 4;

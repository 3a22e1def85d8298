//! The world around the core: members with their tokens and processes, callers, operators, and the time.

use crate::{
    process::{Phase, Process},
    schedule::{Call, End, Health, Plan, Schedule, Start, Step},
    watch::Watch,
};
use portcullis_hsm::{domain::Fingerprint, worker::lane::Lane};
use portcullis_session_manager::{
    Attempts, Core, Epoch, Event, Grant, MemberIndex, MemberPlan, MemberStatus, Settings, Ticket,
};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// The core and all that it has to do with.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Instant,
    pub(crate) members: Vec<Member>,
    pub(crate) processes: Vec<Process>,
    pub(crate) callers: Vec<Caller>,
    /// Keys that were made in tokens and released to their callers.
    pub(crate) resident: Vec<(MemberIndex, usize)>,
    pub(crate) stopped: bool,
    /// What the core said of its members when it was last asked.
    pub(crate) status: Vec<MemberStatus>,
    pub(crate) watch: Watch,
    /// When the core wants to be asked again.
    pub(crate) wake: Option<Instant>,
    due: BinaryHeap<Reverse<Due>>,
    made: u64,
    jitter: u64,
}

/// A member as it is, whatever the core thinks of it.
pub(crate) struct Member {
    pub(crate) plan: Plan,
    pub(crate) health: Health,
    pub(crate) start: Start,
    /// The keys that its token holds, by the number of the caller who had them made; one for each time that it was made.
    pub(crate) objects: Vec<usize>,
    pub(crate) begun: u64,
}

/// One who asked for something.
pub(crate) struct Caller {
    pub(crate) call: Call,
    pub(crate) deadline: Instant,
    pub(crate) attempts: Attempts,
    /// What it waits for.
    pub(crate) at: Option<Ticket>,
    pub(crate) answered: Option<Answered>,
    pub(crate) deaths: u32,
    pub(crate) hangs: u32,
    /// Whether each of its hangs may have been taken for a death alone.
    pub(crate) doubtful_hangs: u32,
    /// The only member that can do it, and the object that it is about.
    pub(crate) home: Option<MemberIndex>,
    pub(crate) object: usize,
}

/// How a caller was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Released,
    Refused,
    GivenUp,
    TooLate,
    Left,
}

/// What a worker said of one attempt, or what was heard instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Served { loaded: bool, lie: bool },
    Refused,
    Fault,
    Busy,
    Unsupported,
    Lasting,
    Dropped,
    Gone,
}

/// What comes to pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Loaded(MemberIndex, Epoch),
    ShowsDomain(MemberIndex, Epoch),
    AnswersProbe(MemberIndex, Epoch),
    Finishes(MemberIndex, Epoch, Lane, Ticket, End),
    Arrives(usize, Grant, Answer),
    IsGone(MemberIndex, Epoch),
    Deadline(usize),
    NewPin(MemberIndex),
    StopsWaiting,
}

struct Due {
    at: Instant,
    number: u64,
    what: Happening,
}

impl World {
    /// Lives through a schedule and the time after it, and says what went against the rules.
    pub(crate) fn run(schedule: &Schedule, base: Instant) -> Result<(), String> {
        let mut world = Self::new(schedule, base);
        world.handle(Event::Tick);
        for step in &schedule.steps {
            world.take(*step);
            if world.watch.broken() {
                break;
            }
        }
        world.come_to_rest();
        world.watch.verdict()
    }

    fn new(schedule: &Schedule, base: Instant) -> Self {
        let plans: Vec<_> = schedule.members.iter().map(|plan| plan.of_core()).collect();
        let core = Core::new(&plans, SETTINGS, domain(), schedule.seed, base);
        let status = core.status(base);
        Self {
            core,
            now: base,
            members: schedule.members.iter().map(|plan| Member::new(*plan)).collect(),
            processes: Vec::new(),
            callers: Vec::new(),
            resident: Vec::new(),
            stopped: false,
            status,
            watch: Watch::new(schedule.members.len()),
            wake: None,
            due: BinaryHeap::new(),
            made: 0,
            jitter: schedule.seed,
        }
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Ask(times, call) => (0..times).for_each(|_| self.ask_for(call)),
            Step::Leave(which) => self.leave(which),
            Step::Pass(millis) => self.pass(Duration::from_millis(millis.into())),
            Step::Starve(millis) => {
                self.now += Duration::from_millis(millis.into());
                self.pass(Duration::ZERO);
            }
            Step::Begin(member, start) => {
                let index = self.member(member);
                // The first answer is what all others are compared with.
                if start != Start::OtherAnswer || self.core.ready() > 0 {
                    self.members[index.0].start = start;
                }
            }
            Step::Ail(member, health) => {
                let index = self.member(member);
                self.members[index.0].health = health;
            }
            Step::Die(member, which) => {
                let index = self.member(member);
                let its = |process: &&Process| process.member == index && process.lives();
                let living: Vec<_> = self.processes.iter().filter(its).map(|process| process.epoch).collect();
                if !living.is_empty() {
                    self.die(index, living[usize::from(which) % living.len()]);
                }
            }
            Step::Drain(member) => self.handle(Event::Drain(self.member(member))),
            Step::Resume(member) => self.handle(Event::Resume(self.member(member))),
            Step::Revive(member) => self.handle(Event::Revived(self.member(member))),
            Step::Roll(mask) => {
                let meant = |index: &usize| mask & (1 << (index % 8)) != 0;
                let members = (0..self.members.len()).filter(meant).map(MemberIndex).collect();
                self.handle(Event::Roll(members));
            }
            Step::Configure(member, plan) => {
                let index = self.member(member);
                self.members[index.0].plan = plan;
                self.handle(Event::Configured(index, plan.of_core()));
            }
            Step::Add(plan) if self.members.len() < MOST_MEMBERS => {
                let index = MemberIndex(self.members.len());
                self.members.push(Member::new(plan));
                self.watch.add_member();
                self.handle(Event::Configured(index, plan.of_core()));
            }
            Step::Add(_) => {}
            Step::Remove(member) => self.handle(Event::Removed(self.member(member))),
            Step::Stop => self.stop(),
        }
    }

    fn stop(&mut self) {
        self.core.stop();
        self.stopped = true;
        self.after("stop");
        self.happens(STOP_GRACE, Happening::StopsWaiting);
    }

    /// Lets so much time pass, and all happen that happens in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while !self.watch.broken() && self.next(until) {}
        self.now = until;
    }

    /// Does what comes next, unless that is too late.
    pub(crate) fn next(&mut self, until: Instant) -> bool {
        let due = self.due.peek().map(|Reverse(due)| due.at);
        let wake = self.wake.filter(|_| !self.stopped);
        let Some(at) = [due, wake].into_iter().flatten().min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        if due.is_some_and(|due| due <= at) {
            if let Some(Reverse(due)) = self.due.pop() {
                self.happen(due.what);
            }
        } else {
            self.handle(Event::Tick);
        }
        true
    }

    pub(crate) fn happens(&mut self, after: Duration, what: Happening) {
        self.made += 1;
        self.due.push(Reverse(Due {
            at: self.now + after,
            number: self.made,
            what,
        }));
    }

    /// A short time, another one each time.
    pub(crate) fn moment(&mut self) -> Duration {
        self.jitter = self
            .jitter
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.jitter >> 33) % 2_000)
    }

    pub(crate) fn process(&mut self, member: MemberIndex, epoch: Epoch) -> Option<&mut Process> {
        self.processes
            .iter_mut()
            .rev()
            .find(|process| (process.member, process.epoch) == (member, epoch))
    }

    fn member(&self, number: u8) -> MemberIndex {
        MemberIndex(usize::from(number) % self.members.len())
    }

    /// A process ends, whoever ended it. What it had is not answered.
    pub(crate) fn die(&mut self, member: MemberIndex, epoch: Epoch) {
        let now = self.now;
        let Some(process) = self.process(member, epoch).filter(|process| process.lives()) else {
            return;
        };
        (process.phase, process.died) = (Phase::Dead, Some(now));
        for job in process.take_all() {
            let after = self.moment();
            self.happens(after, Happening::Arrives(job.call, job.grant, Answer::Gone));
        }
        let after = self.moment();
        self.happens(after, Happening::IsGone(member, epoch));
    }
}

impl Member {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            health: Health::Well,
            start: Start::Well,
            objects: Vec::new(),
            begun: 0,
        }
    }
}

impl Plan {
    pub(crate) fn of_core(self) -> MemberPlan {
        MemberPlan {
            workers: self.workers,
            queue: self.queue,
            generation_queue: self.queue.div_ceil(2),
            loaded_keys: 2,
            weight: 1,
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The domain of the cluster.
pub(crate) fn domain() -> Fingerprint {
    Fingerprint::from_bytes([1; 32])
}

pub(crate) const SETTINGS: Settings = Settings {
    start_deadline: Duration::from_secs(5),
    probe_interval: Duration::from_secs(8),
    probe_deadline: Duration::from_secs(2),
    hang_after: Duration::from_secs(3),
    generation_hang_after: Duration::from_secs(10),
    restart_pause: Duration::from_millis(100),
    restart_pause_max: Duration::from_secs(4),
    token_grace: Duration::from_secs(6),
    verified_share: 0.1,
};
const STOP_GRACE: Duration = Duration::from_secs(10);
const MOST_MEMBERS: usize = 6;

//! A worker process: its lanes, each with threads that take what waits in the order in which it came.

use portcullis_hsm::worker::lane::Lane;
use portcullis_session_manager::{Epoch, Grant, MemberIndex, Ticket};
use std::{collections::VecDeque, time::Instant};

/// One worker process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) member: MemberIndex,
    pub(crate) epoch: Epoch,
    pub(crate) started: Instant,
    pub(crate) phase: Phase,
    pub(crate) died: Option<Instant>,
    /// Since when a probe is not answered.
    pub(crate) probed: Option<Instant>,
    pub(crate) rich: bool,
    /// The keys that it has loaded.
    pub(crate) loaded: Vec<u8>,
    /// The keys of which it gave a signature that was verified.
    pub(crate) proven: Vec<u8>,
    lanes: [Threads; 3],
}

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It opens its token or shows its domain.
    Starting,
    /// It said that it cannot.
    Failed,
    Serving,
    /// It was told to end.
    Ending,
    /// It was killed, or died.
    Dead,
}

/// What it was asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) call: usize,
    pub(crate) attempt: usize,
    pub(crate) grant: Grant,
    pub(crate) deadline: Instant,
}

#[derive(Debug, Default)]
struct Threads {
    many: usize,
    at_it: Vec<Job>,
    waiting: VecDeque<Job>,
}

impl Process {
    pub(crate) fn new(member: MemberIndex, epoch: Epoch, started: Instant, threads: u32, rich: bool) -> Self {
        let lane = |many| Threads {
            many,
            ..Threads::default()
        };
        Self {
            member,
            epoch,
            started,
            phase: Phase::Starting,
            died: None,
            probed: None,
            rich,
            loaded: Vec::new(),
            proven: Vec::new(),
            lanes: [lane(threads as usize), lane(1), lane(1)],
        }
    }

    /// How many uses it does at once.
    pub(crate) fn threads(&self) -> usize {
        self.lanes[0].many
    }

    /// Whether there is a process that can be killed.
    pub(crate) fn lives(&self) -> bool {
        self.phase != Phase::Dead
    }

    pub(crate) fn push(&mut self, job: Job) {
        self.lanes[at(job.grant.lane)].waiting.push_back(job);
    }

    /// What a thread that is free begins now.
    pub(crate) fn begin_next(&mut self, lane: Lane) -> Option<Job> {
        let lane = &mut self.lanes[at(lane)];
        if lane.at_it.len() == lane.many {
            return None;
        }
        let job = lane.waiting.pop_front()?;
        lane.at_it.push(job);
        Some(job)
    }

    /// Frees the thread that was at something, if it still was.
    pub(crate) fn finish(&mut self, lane: Lane, ticket: Ticket) -> Option<Job> {
        let lane = &mut self.lanes[at(lane)];
        let at = lane.at_it.iter().position(|job| job.grant.ticket == ticket)?;
        Some(lane.at_it.swap_remove(at))
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.at_it.is_empty() && lane.waiting.is_empty())
    }

    /// All that it will never answer.
    pub(crate) fn take_all(&mut self) -> Vec<Job> {
        self.lanes
            .iter_mut()
            .flat_map(|lane| lane.at_it.drain(..).chain(lane.waiting.drain(..)))
            .collect()
    }
}

/// The place of a lane in tables.
pub(crate) fn at(lane: Lane) -> usize {
    match lane {
        Lane::Uses => 0,
        Lane::Generations => 1,
        Lane::Changes | Lane::Control => 2,
    }
}

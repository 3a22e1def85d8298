//! What one life of a worker has to do, and what it is at.
//!
//! A lane begins its work in the order in which it came, as soon as one of its threads is free. So the core knows what has begun, and
//! since when, without being told: as many as the lane has threads, of those that came first and are not answered.

use portcullis_hsm::worker::lane::Lane;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// One piece of work at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The lanes of one worker.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    uses: LaneWork,
    generations: LaneWork,
    changes: LaneWork,
}

/// How many threads serve each lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneThreads {
    /// The use of keys.
    pub uses: u32,
    /// The generation of keys.
    pub generations: u32,
}

/// How long a piece of work may take once it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// With the use of a key.
    pub uses: Duration,
    /// With the generation of a key or a change of token objects.
    pub generations: Duration,
}

#[derive(Debug, Default)]
struct LaneWork {
    threads: usize,
    begun: Vec<(Ticket, Instant)>,
    waiting: VecDeque<Ticket>,
}

impl Lanes {
    /// Empty lanes with so many threads.
    pub(super) fn new(threads: LaneThreads) -> Self {
        let lane = |threads: u32| LaneWork {
            threads: threads.max(1) as usize,
            ..LaneWork::default()
        };
        Self {
            uses: lane(threads.uses),
            generations: lane(threads.generations),
            changes: lane(1),
        }
    }

    /// Adds what came last.
    pub(super) fn add(&mut self, now: Instant, lane: Lane, ticket: Ticket) {
        self.lane_mut(lane).add(now, ticket);
    }

    /// Takes out what was answered.
    pub(super) fn remove(&mut self, now: Instant, lane: Lane, ticket: Ticket) {
        self.lane_mut(lane).remove(now, ticket);
    }

    /// How much a lane has.
    pub(super) fn len(&self, lane: Lane) -> u32 {
        let lane = self.lane(lane);
        (lane.begun.len() + lane.waiting.len()) as u32
    }

    /// How much all lanes have.
    pub(super) fn total(&self) -> u32 {
        [Lane::Uses, Lane::Generations, Lane::Changes]
            .into_iter()
            .map(|lane| self.len(lane))
            .sum()
    }

    /// When the work that is at it for too long first will have been: the moment, and how long that is.
    pub(super) fn next_hang(&self, patience: Patience) -> Option<(Instant, Duration)> {
        let of = |lane: &LaneWork, patience: Duration| lane.oldest().map(|since| (since + patience, patience));
        [
            of(&self.uses, patience.uses),
            of(&self.generations, patience.generations),
            of(&self.changes, patience.generations),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn lane(&self, lane: Lane) -> &LaneWork {
        match lane {
            Lane::Uses => &self.uses,
            Lane::Generations => &self.generations,
            // What is for the control thread has deadlines of its own and is not counted.
            Lane::Changes | Lane::Control => &self.changes,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut LaneWork {
        match lane {
            Lane::Uses => &mut self.uses,
            Lane::Generations => &mut self.generations,
            Lane::Changes | Lane::Control => &mut self.changes,
        }
    }
}

impl LaneWork {
    fn add(&mut self, now: Instant, ticket: Ticket) {
        if self.begun.len() < self.threads {
            self.begun.push((ticket, now));
        } else {
            self.waiting.push_back(ticket);
        }
    }

    fn remove(&mut self, now: Instant, ticket: Ticket) {
        if let Some(at) = self.begun.iter().position(|(one, _)| *one == ticket) {
            self.begun.swap_remove(at);
            if let Some(next) = self.waiting.pop_front() {
                self.begun.push((next, now));
            }
        } else if let Some(at) = self.waiting.iter().position(|one| *one == ticket) {
            self.waiting.remove(at);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.begun.iter().map(|(_, since)| *since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        uses: Duration::from_secs(10),
        generations: Duration::from_secs(60),
    };

    fn lanes() -> Lanes {
        Lanes::new(LaneThreads {
            uses: 2,
            generations: 1,
        })
    }

    #[test]
    fn what_waits_is_not_at_it_and_begins_when_a_thread_is_free() {
        let (mut lanes, start) = (lanes(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for ticket in 0..3 {
            lanes.add(at(0), Lane::Uses, Ticket(ticket));
        }
        assert_eq!(lanes.next_hang(PATIENCE), Some((at(10), PATIENCE.uses)));
        lanes.remove(at(4), Lane::Uses, Ticket(0));
        lanes.remove(at(5), Lane::Uses, Ticket(1));
        assert_eq!(lanes.next_hang(PATIENCE), Some((at(14), PATIENCE.uses)));
        lanes.remove(at(6), Lane::Uses, Ticket(2));
        assert_eq!((lanes.next_hang(PATIENCE), lanes.total()), (None, 0));
    }

    #[test]
    fn what_was_cancelled_before_it_began_keeps_nothing_waiting() {
        let (mut lanes, start) = (lanes(), Instant::now());
        for ticket in 0..4 {
            lanes.add(start, Lane::Uses, Ticket(ticket));
        }
        lanes.remove(start, Lane::Uses, Ticket(2));
        let later = start + Duration::from_secs(1);
        lanes.remove(later, Lane::Uses, Ticket(0));
        lanes.remove(later, Lane::Uses, Ticket(1));
        assert_eq!(lanes.len(Lane::Uses), 1);
        assert_eq!(lanes.next_hang(PATIENCE), Some((later + PATIENCE.uses, PATIENCE.uses)));
    }

    #[test]
    fn generations_take_longer_than_uses_and_neither_waits_for_the_other() {
        let (mut lanes, start) = (lanes(), Instant::now());
        lanes.add(start, Lane::Generations, Ticket(0));
        lanes.add(start, Lane::Generations, Ticket(1));
        assert_eq!(
            lanes.next_hang(PATIENCE),
            Some((start + PATIENCE.generations, PATIENCE.generations))
        );
        lanes.add(start, Lane::Uses, Ticket(2));
        assert_eq!(lanes.next_hang(PATIENCE), Some((start + PATIENCE.uses, PATIENCE.uses)));
        assert_eq!((lanes.len(Lane::Generations), lanes.len(Lane::Uses)), (2, 1));
    }
}

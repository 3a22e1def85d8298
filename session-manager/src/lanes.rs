//! What one life of a worker has to do, and what it is at.
//!
//! A lane begins its work in the order in which it came, as soon as one of its threads is free. So the core knows what has begun, and
//! since when, without being told: as many as the lane has threads, of those that came first and are not answered.

use crate::Principal;
use portcullis_hsm::worker::lane::Lane;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// One piece of work at a worker; a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// How long a piece of work takes where nothing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tempo {
    /// As the use of a key does, or the drawing of a key that any number may be.
    Quick,
    /// As the search for primes does, or a change of token objects.
    Slow,
}

/// How long a piece of work may take once it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// With what is quick.
    pub(super) quick: Duration,
    /// With what is slow.
    pub(super) slow: Duration,
}

impl Patience {
    pub(super) fn with(self, tempo: Tempo) -> Duration {
        match tempo {
            Tempo::Quick => self.quick,
            Tempo::Slow => self.slow,
        }
    }
}

/// Work that is at it for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hang {
    /// From this moment on.
    pub(super) at: Instant,
    /// How long it may be at it.
    pub(super) patience: Duration,
    /// Which work.
    pub(super) ticket: Ticket,
}

/// What a lane has begun and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) piece: Piece,
    pub(super) since: Instant,
}

/// One piece of work, begun or waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) ticket: Ticket,
    pub(super) principal: Principal,
    pub(super) tempo: Tempo,
}

#[derive(Debug, Default)]
struct LaneWork {
    threads: usize,
    begun: Vec<Begun>,
    waiting: VecDeque<Piece>,
    // How long its work took of late, in seconds; 0 before the first.
    usual: f64,
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
    pub(super) fn add(&mut self, now: Instant, lane: Lane, piece: Piece) {
        self.lane_mut(lane).add(now, piece);
    }

    /// Takes out what was answered, and says how long it was at it, if it had begun.
    pub(super) fn remove(&mut self, now: Instant, lane: Lane, ticket: Ticket) -> Option<Duration> {
        self.lane_mut(lane).remove(now, ticket)
    }

    /// Learns how long work of a lane takes.
    pub(super) fn learn(&mut self, lane: Lane, took: Duration) {
        let (usual, took) = (&mut self.lane_mut(lane).usual, took.as_secs_f64());
        *usual = if *usual == 0.0 {
            took
        } else {
            *usual + (took - *usual) * NEWEST_SHARE
        };
    }

    /// How long what comes next will wait before it begins, as far as can be known.
    pub(super) fn expected_wait(&self, lane: Lane) -> Duration {
        let lane = self.lane(lane);
        let ahead = if lane.begun.len() < lane.threads {
            0
        } else {
            lane.waiting.len() + 1
        };
        Duration::from_secs_f64(lane.usual * ahead as f64 / lane.threads.max(1) as f64)
    }

    /// How long a use that is at it usually takes.
    pub(super) fn usual_use(&self) -> Duration {
        Duration::from_secs_f64(self.uses.usual)
    }

    /// The use that is at it the longest.
    pub(super) fn oldest_use(&self) -> Option<Begun> {
        self.uses.oldest()
    }

    /// Whose work it has, by lane; once for each piece.
    pub(super) fn principals(&self) -> impl Iterator<Item = (Lane, Principal)> + '_ {
        LANES.into_iter().flat_map(|lane| {
            let work = self.lane(lane);
            let begun = work.begun.iter().map(|begun| begun.piece);
            let pieces = begun.chain(work.waiting.iter().copied());
            pieces.map(move |piece| (lane, piece.principal))
        })
    }

    /// How much a lane has.
    pub(super) fn len(&self, lane: Lane) -> u32 {
        let lane = self.lane(lane);
        (lane.begun.len() + lane.waiting.len()) as u32
    }

    /// How much all lanes have.
    pub(super) fn total(&self) -> u32 {
        LANES.into_iter().map(|lane| self.len(lane)).sum()
    }

    /// When the work that is at it for too long first will have been.
    pub(super) fn next_hang(&self, patience: Patience) -> Option<Hang> {
        self.hangs(patience).min_by_key(|hang| hang.at)
    }

    /// The work that is at it for too long.
    pub(super) fn overdue(&self, now: Instant, patience: Patience) -> impl Iterator<Item = Ticket> + '_ {
        self.hangs(patience)
            .filter(move |hang| hang.at <= now)
            .map(|hang| hang.ticket)
    }

    fn hangs(&self, patience: Patience) -> impl Iterator<Item = Hang> + '_ {
        let begun = LANES.into_iter().flat_map(|lane| &self.lane(lane).begun);
        begun.map(move |begun| {
            let patience = patience.with(begun.piece.tempo);
            Hang {
                at: begun.since + patience,
                patience,
                ticket: begun.piece.ticket,
            }
        })
    }

    /// All work, begun or waiting.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        LANES.into_iter().flat_map(|lane| {
            let work = self.lane(lane);
            let begun = work.begun.iter().map(|begun| begun.piece.ticket);
            begun.chain(work.waiting.iter().map(|piece| piece.ticket))
        })
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
    fn add(&mut self, now: Instant, piece: Piece) {
        if self.begun.len() < self.threads {
            self.begun.push(Begun { piece, since: now });
        } else {
            self.waiting.push_back(piece);
        }
    }

    fn remove(&mut self, now: Instant, ticket: Ticket) -> Option<Duration> {
        if let Some(at) = self.begun.iter().position(|begun| begun.piece.ticket == ticket) {
            let begun = self.begun.swap_remove(at);
            if let Some(piece) = self.waiting.pop_front() {
                self.begun.push(Begun { piece, since: now });
            }
            return Some(now.saturating_duration_since(begun.since));
        }
        if let Some(at) = self.waiting.iter().position(|piece| piece.ticket == ticket) {
            self.waiting.remove(at);
        }
        None
    }

    fn oldest(&self) -> Option<Begun> {
        self.begun.iter().copied().min_by_key(|begun| begun.since)
    }
}

const LANES: [Lane; 3] = [Lane::Uses, Lane::Generations, Lane::Changes];
/// How much the newest piece of work counts in what is usual.
const NEWEST_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        quick: Duration::from_secs(10),
        slow: Duration::from_secs(60),
    };

    fn lanes() -> Lanes {
        Lanes::new(LaneThreads {
            uses: 2,
            generations: 1,
        })
    }

    fn piece(ticket: u64, tempo: Tempo) -> Piece {
        Piece {
            ticket: Ticket(ticket),
            principal: Principal::GATEWAY,
            tempo,
        }
    }

    fn next(lanes: &Lanes) -> Option<(Instant, Duration)> {
        lanes.next_hang(PATIENCE).map(|hang| (hang.at, hang.patience))
    }

    #[test]
    fn what_waits_is_not_at_it_and_begins_when_a_thread_is_free() {
        let (mut lanes, start) = (lanes(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for ticket in 0..3 {
            lanes.add(at(0), Lane::Uses, piece(ticket, Tempo::Quick));
        }
        assert_eq!(next(&lanes), Some((at(10), PATIENCE.quick)));
        lanes.remove(at(4), Lane::Uses, Ticket(0));
        lanes.remove(at(5), Lane::Uses, Ticket(1));
        assert_eq!(next(&lanes), Some((at(14), PATIENCE.quick)));
        lanes.remove(at(6), Lane::Uses, Ticket(2));
        assert_eq!((next(&lanes), lanes.total()), (None, 0));
    }

    #[test]
    fn what_was_cancelled_before_it_began_keeps_nothing_waiting() {
        let (mut lanes, start) = (lanes(), Instant::now());
        for ticket in 0..4 {
            lanes.add(start, Lane::Uses, piece(ticket, Tempo::Quick));
        }
        lanes.remove(start, Lane::Uses, Ticket(2));
        let later = start + Duration::from_secs(1);
        lanes.remove(later, Lane::Uses, Ticket(0));
        lanes.remove(later, Lane::Uses, Ticket(1));
        assert_eq!(lanes.len(Lane::Uses), 1);
        assert_eq!(next(&lanes), Some((later + PATIENCE.quick, PATIENCE.quick)));
    }

    #[test]
    fn generations_take_longer_than_uses_and_neither_waits_for_the_other() {
        let (mut lanes, start) = (lanes(), Instant::now());
        lanes.add(start, Lane::Generations, piece(0, Tempo::Slow));
        lanes.add(start, Lane::Generations, piece(1, Tempo::Slow));
        assert_eq!(next(&lanes), Some((start + PATIENCE.slow, PATIENCE.slow)));
        lanes.add(start, Lane::Uses, piece(2, Tempo::Quick));
        assert_eq!(next(&lanes), Some((start + PATIENCE.quick, PATIENCE.quick)));
        assert_eq!((lanes.len(Lane::Generations), lanes.len(Lane::Uses)), (2, 1));
    }

    #[test]
    fn a_quick_generation_behind_a_slow_one_hangs_first() {
        let mut lanes = Lanes::new(LaneThreads {
            uses: 1,
            generations: 2,
        });
        let start = Instant::now();
        lanes.add(start, Lane::Generations, piece(0, Tempo::Slow));
        let later = start + Duration::from_secs(1);
        lanes.add(later, Lane::Generations, piece(1, Tempo::Quick));
        assert_eq!(next(&lanes), Some((later + PATIENCE.quick, PATIENCE.quick)));
        let overdue: Vec<_> = lanes.overdue(later + PATIENCE.quick, PATIENCE).collect();
        assert_eq!(overdue, [Ticket(1)]);
    }
}

//! Whether a member that fails at its work is given more of it.
//!
//! Only faults count that were the member's: where another member did the same work afterwards. A call that fails wherever it
//! runs opens no breaker.

use crate::lanes::Ticket;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Whether a member is given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// All that is chosen for it.
    Closed,
    /// None until it has shown that it works.
    Open,
    /// One piece at a time.
    HalfOpen,
}

/// A member's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    consecutive: u32,
    window: VecDeque<Second>,
    // How often it opened without having been closed for long.
    openings: u32,
    closed_at: Option<Instant>,
    // What was given since it is half open: one piece, and more only where no other member was left.
    on_trial: Vec<Ticket>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    // Until a moment, and then until a probe has been answered.
    Open { until: Instant },
    HalfOpen { successes: u32 },
}

/// What one second brought.
#[derive(Debug, Clone, Copy)]
struct Second {
    began: Instant,
    served: u32,
    faults: u32,
}

/// What a fault did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Nothing yet.
    None,
    /// It opened.
    Opened,
    /// It opened again on trial: what is loaded does not mend itself.
    OpenedAgain,
}

impl Breaker {
    /// Closed.
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed,
            consecutive: 0,
            window: VecDeque::new(),
            openings: 0,
            closed_at: None,
            on_trial: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether work that was given on trial is under way.
    pub(super) fn is_on_trial(&self) -> bool {
        !self.on_trial.is_empty()
    }

    /// Notes that the member was given a piece of work.
    pub(super) fn begin_trial(&mut self, ticket: Ticket) {
        if matches!(self.state, State::HalfOpen { .. }) {
            self.on_trial.push(ticket);
        }
    }

    /// Whether a piece of work was given on trial.
    pub(super) fn has_on_trial(&self, ticket: Ticket) -> bool {
        self.on_trial.contains(&ticket)
    }

    /// Notes that a piece of work came to its end. True if it was given on trial.
    pub(super) fn end_trial(&mut self, ticket: Ticket) -> bool {
        let at = self.on_trial.iter().position(|one| *one == ticket);
        at.map(|at| self.on_trial.swap_remove(at)).is_some()
    }

    /// Learns of work that was done, on trial or begun before that. True if that closed the breaker.
    pub(super) fn served(&mut self, now: Instant, on_trial: bool) -> bool {
        self.consecutive = 0;
        self.second(now).served += 1;
        if self.closed_at.is_some_and(|at| now.duration_since(at) >= FORGIVEN) {
            (self.openings, self.closed_at) = (0, None);
        }
        if let State::HalfOpen { successes } = &mut self.state
            && on_trial
        {
            *successes += 1;
            if *successes >= TRIALS {
                *self = Self {
                    openings: self.openings,
                    closed_at: Some(now),
                    ..Self::new()
                };
                return true;
            }
        }
        false
    }

    /// Learns of a fault that was the member's, in work that was given on trial or before that.
    pub(super) fn fault(&mut self, now: Instant, on_trial: bool) -> Consequence {
        self.consecutive += 1;
        self.second(now).faults += 1;
        match self.state {
            State::Open { .. } => Consequence::None,
            // What failed before the trial is what the trial is held for.
            State::HalfOpen { .. } if !on_trial => Consequence::None,
            State::HalfOpen { .. } => {
                self.open(now);
                Consequence::OpenedAgain
            }
            State::Closed if self.consecutive >= FAULTS_IN_A_ROW || self.fails_too_often() => {
                self.open(now);
                Consequence::Opened
            }
            State::Closed => Consequence::None,
        }
    }

    /// When the member may show that it works.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// Learns that a probe was answered, or a worker started anew. True if that made it half open.
    pub(super) fn probed(&mut self, now: Instant) -> bool {
        match self.state {
            State::Open { until } if until <= now => {
                self.state = State::HalfOpen { successes: 0 };
                true
            }
            _ => false,
        }
    }

    fn open(&mut self, now: Instant) {
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.openings.min(10))
            .min(LONGEST_PAUSE);
        self.openings = self.openings.saturating_add(1);
        self.closed_at = None;
        self.window.clear();
        self.consecutive = 0;
        self.on_trial.clear();
        self.state = State::Open { until: now + pause };
    }

    fn fails_too_often(&self) -> bool {
        let (served, faults) = self.window.iter().fold((0, 0), |(served, faults), second| {
            (served + second.served, faults + second.faults)
        });
        served + faults >= FEWEST && faults * 2 >= served + faults
    }

    fn second(&mut self, now: Instant) -> &mut Second {
        while self
            .window
            .front()
            .is_some_and(|second| now.saturating_duration_since(second.began) >= WINDOW)
        {
            self.window.pop_front();
        }
        let current = self
            .window
            .back()
            .is_some_and(|second| now.saturating_duration_since(second.began) < Duration::from_secs(1));
        if !current {
            self.window.push_back(Second {
                began: now,
                served: 0,
                faults: 0,
            });
        }
        // Invariant: one was pushed if there was none.
        self.window.back_mut().expect("the current second")
    }
}

const FAULTS_IN_A_ROW: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);
/// Fewer outcomes than these in the window say nothing of a ratio.
const FEWEST: u32 = 20;
/// So much work on trial must succeed.
const TRIALS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A breaker that was closed for so long opens for the shortest pause again.
const FORGIVEN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_a_row_open_it_and_one_success_between_them_does_not() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..FAULTS_IN_A_ROW - 1 {
            assert_eq!(breaker.fault(now, false), Consequence::None);
        }
        breaker.served(now, false);
        for _ in 0..FAULTS_IN_A_ROW - 1 {
            assert_eq!(breaker.fault(now, false), Consequence::None);
        }
        assert_eq!(breaker.fault(now, false), Consequence::Opened);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn half_of_enough_outcomes_open_it_and_few_do_not() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for number in 0..FEWEST / 2 - 1 {
            breaker.served(now, false);
            assert_eq!(breaker.fault(now, false), Consequence::None, "{number}");
        }
        breaker.served(now, false);
        assert_eq!(breaker.fault(now, false), Consequence::Opened);
        let mut later = Breaker::new();
        for number in 0..FEWEST {
            // What is older than the window does not count.
            let now = now + WINDOW * number;
            later.served(now, false);
            assert_eq!(later.fault(now, false), Consequence::None, "{number}");
        }
    }

    #[test]
    fn it_closes_by_a_probe_and_work_on_trial_and_opens_for_longer_when_that_fails() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        for _ in 0..FAULTS_IN_A_ROW {
            breaker.fault(now, false);
        }
        let until = breaker.probe_at().expect("a moment");
        assert_eq!(until, now + FIRST_PAUSE);
        assert!(!breaker.probed(now), "before its time");
        assert!(breaker.probed(until));
        assert_eq!(breaker.fault(until, true), Consequence::OpenedAgain);
        assert_eq!(breaker.probe_at(), Some(until + FIRST_PAUSE * 2));
        let until = until + FIRST_PAUSE * 2;
        assert!(breaker.probed(until));
        for trial in 1..=TRIALS {
            breaker.begin_trial(Ticket(1));
            assert!(breaker.is_on_trial());
            breaker.end_trial(Ticket(1));
            assert_eq!(breaker.served(until, true), trial == TRIALS);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

//! How fast a member is beside the others: what it takes for a kind of work, over what the cluster takes for that kind.

use crate::Kind;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What each kind of work takes in the cluster.
#[derive(Debug, Default)]
pub(super) struct Baselines(HashMap<Kind, f64>);

/// How slow one member is: 1 is as fast as the cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    slowness: f64,
    learned: Instant,
}

impl Baselines {
    /// Learns how long a kind of work took, and says how that compares with what the cluster took before.
    fn compare(&mut self, kind: Kind, took: Duration) -> f64 {
        let took = took.as_secs_f64().max(SHORTEST);
        let usual = self.0.entry(kind).or_insert(took);
        let ratio = (took / *usual).clamp(1.0 / FARTHEST, FARTHEST);
        *usual += (took - *usual) * CLUSTER_SHARE;
        ratio
    }
}

impl Pace {
    /// Nothing is known.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slowness: 1.0,
            learned: now,
        }
    }

    /// Learns from a piece of work that the member did.
    pub(super) fn learn(&mut self, now: Instant, kind: Kind, took: Duration, baselines: &mut Baselines) {
        let ratio = baselines.compare(kind, took);
        let known = self.slowness(now);
        self.slowness = known + (ratio - known) * MEMBER_SHARE;
        self.learned = now;
    }

    /// How slow the member is. What was learned fades, so that a member that gets no work for being slow is tried again.
    pub(super) fn slowness(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.learned).as_secs_f64();
        1.0 + (self.slowness - 1.0) * 0.5f64.powf(age / HALF_LIFE.as_secs_f64())
    }
}

/// Below this, in seconds, one piece of work is like another.
const SHORTEST: f64 = 20e-6;
/// One piece of work counts at most as so many times slower or faster: a single stall says little.
const FARTHEST: f64 = 16.0;
const CLUSTER_SHARE: f64 = 0.02;
const MEMBER_SHARE: f64 = 0.1;
const HALF_LIFE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind(1);

    fn learn(pace: &mut Pace, now: Instant, millis: u64, baselines: &mut Baselines) {
        pace.learn(now, KIND, Duration::from_millis(millis), baselines);
    }

    #[test]
    fn the_slow_one_of_two_is_told_and_is_forgiven_when_nothing_is_heard_of_it() {
        let (now, mut baselines) = (Instant::now(), Baselines::default());
        let (mut quick, mut slow) = (Pace::new(now), Pace::new(now));
        for _ in 0..200 {
            learn(&mut quick, now, 1, &mut baselines);
            learn(&mut slow, now, 9, &mut baselines);
        }
        assert!(slow.slowness(now) > 3.0 * quick.slowness(now));
        let later = now + Duration::from_secs(60);
        assert!(slow.slowness(later) < 1.01);
    }

    #[test]
    fn one_stall_is_not_taken_for_slowness() {
        let (now, mut baselines) = (Instant::now(), Baselines::default());
        let mut pace = Pace::new(now);
        for _ in 0..50 {
            learn(&mut pace, now, 1, &mut baselines);
        }
        learn(&mut pace, now, 60_000, &mut baselines);
        assert!(pace.slowness(now) <= 2.6, "{}", pace.slowness(now));
    }
}

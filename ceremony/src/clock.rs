//! The time: the host's clock, and one that nobody sets.

use portcullis_provisioning::Moment;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// Tells the time.
pub trait Clock {
    /// By the host's clock, which somebody may set.
    fn now(&self) -> OffsetDateTime;

    /// Since the program was started.
    fn elapsed(&self) -> Duration;
}

/// The host's clocks.
#[derive(Debug)]
pub struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Notices when somebody sets the host's clock.
#[derive(Debug)]
pub(crate) struct Watch {
    started: OffsetDateTime,
    elapsed: Duration,
}

impl Watch {
    pub(crate) fn start(clock: &impl Clock) -> Self {
        Self {
            started: clock.now(),
            elapsed: clock.elapsed(),
        }
    }

    /// The time for an entry; says by how many seconds the clock was set, if it was.
    pub(crate) fn read(&self, clock: &impl Clock) -> Result<(Moment, u64), i64> {
        let now = clock.now();
        let elapsed = clock.elapsed();
        let by_the_host = (now - self.started).whole_seconds();
        let really = i64::try_from((elapsed - self.elapsed).as_secs()).unwrap_or(i64::MAX);
        let set = by_the_host.saturating_sub(really);
        if set.abs() > TOLERATED_SECONDS {
            return Err(set);
        }
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Moment::from_unix(now.unix_timestamp()).map(|at| (at, ms)).ok_or(set)
    }
}

/// A clock that is disciplined is moved by less during a ceremony.
const TOLERATED_SECONDS: i64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Hands {
        now: Cell<i64>,
        elapsed: Cell<u64>,
    }

    impl Clock for Hands {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::from_unix_timestamp(self.now.get()).expect("a time")
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.elapsed.get())
        }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_in_both_directions() {
        let hands = Hands {
            now: Cell::new(1_000_000),
            elapsed: Cell::new(5),
        };
        let watch = Watch::start(&hands);
        hands.now.set(1_000_060);
        hands.elapsed.set(65);
        assert_eq!(watch.read(&hands).expect("a time").1, 65_000);
        hands.now.set(1_000_120);
        assert_eq!(watch.read(&hands), Err(60));
        hands.now.set(1_000_000);
        assert_eq!(watch.read(&hands), Err(-60));
    }
}

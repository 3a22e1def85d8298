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
    ///
    /// Entries never go back in time. Where the clock does by what is tolerated, because it is disciplined, the entry has the time
    /// of the one before it, `last`; where it does by more, it has its own, and is refused for it.
    pub(crate) fn read(&self, clock: &impl Clock, last: Option<Moment>) -> Result<(Moment, u64), i64> {
        let now = clock.now();
        let elapsed = clock.elapsed();
        let by_the_host = (now - self.started).whole_seconds();
        let really = i64::try_from((elapsed - self.elapsed).as_secs()).unwrap_or(i64::MAX);
        let set = by_the_host.saturating_sub(really);
        if set.abs() > TOLERATED_SECONDS {
            return Err(set);
        }
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let at = Moment::from_unix(now.unix_timestamp()).ok_or(set)?;
        let at = match last {
            Some(last) if (0..=TOLERATED_SECONDS).contains(&last.unix().saturating_sub(at.unix())) => last,
            _ => at,
        };
        Ok((at, ms))
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
        assert_eq!(watch.read(&hands, None).expect("a time").1, 65_000);
        hands.now.set(1_000_120);
        assert_eq!(watch.read(&hands, None), Err(60));
        hands.now.set(1_000_000);
        assert_eq!(watch.read(&hands, None), Err(-60));
    }

    #[test]
    fn a_clock_that_is_disciplined_back_does_not_take_entries_with_it() {
        let moment = |seconds| Moment::from_unix(seconds).expect("a moment");
        let hands = Hands {
            now: Cell::new(1_000_000),
            elapsed: Cell::new(0),
        };
        let watch = Watch::start(&hands);
        hands.elapsed.set(2);
        hands.now.set(1_000_001);
        for (last, expected) in [
            (None, 1_000_001),
            (Some(999_990), 1_000_001),
            (Some(1_000_002), 1_000_002),
            (Some(1_000_011), 1_000_011),
            // The run before this one had a clock that was set: not a thing to smooth over.
            (Some(1_000_012), 1_000_001),
        ] {
            let read = watch.read(&hands, last.map(moment));
            assert_eq!(read, Ok((moment(expected), 2000)), "after {last:?}");
        }
    }
}

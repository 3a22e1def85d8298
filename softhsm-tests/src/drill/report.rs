//! What came of the calls.

use super::load::Entries;
use std::time::Duration;

/// One call that was answered; times are since the beginning of the load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    started_us: u64,
    took_us: u32,
}

impl Call {
    pub(super) fn new(started: Duration, took: Duration) -> Self {
        Self {
            started_us: micros(started),
            took_us: u32::try_from(took.as_micros()).unwrap_or(u32::MAX),
        }
    }

    fn is_within(self, from: u64, to: u64) -> bool {
        self.started_us <= to && self.started_us + u64::from(self.took_us) >= from
    }
}

/// What came of the calls of a load.
#[derive(Debug)]
pub struct Report {
    calls: Vec<Call>,
    /// What failed, in words.
    pub failures: Vec<String>,
    /// What was answered wrong, in words.
    pub wrong: Vec<String>,
    /// What was refused and asked again, in words; of many, the first.
    pub refusals: Vec<String>,
    /// How many keys were created.
    pub created: usize,
    /// How long the load lasted.
    pub lasted: Duration,
    /// From when to when something was wrong.
    pub window: Option<(Duration, Duration)>,
}

/// How long calls took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latencies {
    /// How many there were.
    pub calls: usize,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// 999 of 1000 took no longer.
    pub p999: Duration,
    /// None took longer.
    pub max: Duration,
}

impl Report {
    pub(super) fn new(entries: Entries, created: usize, lasted: Duration) -> Self {
        Self {
            calls: entries.calls,
            failures: entries.failures,
            wrong: entries.wrong,
            refusals: entries.refusals,
            created,
            lasted,
            window: None,
        }
    }

    /// How many calls there were, with those that failed.
    pub fn calls(&self) -> usize {
        self.calls.len() + self.failures.len()
    }

    /// How long all of them took.
    pub fn latencies(&self) -> Latencies {
        self.latencies_within(0, u64::MAX)
    }

    /// How long those took that were under way while something was wrong.
    pub fn in_window(&self) -> Latencies {
        let (from, to) = self.window.unwrap_or_default();
        self.latencies_within(micros(from), micros(to))
    }

    /// From the fault to the member's serving again.
    pub fn outage(&self) -> Option<Duration> {
        self.window.map(|(from, to)| to - from)
    }

    /// Fails unless every call was answered, and right.
    #[track_caller]
    pub fn expect_clean(&self) {
        let (calls, failed, wrong) = (self.calls(), self.failures.len(), self.wrong.len());
        assert!(
            failed == 0 && wrong == 0,
            "of {calls} calls {failed} failed and {wrong} were answered wrong: {:?} {:?}",
            self.failures.first(),
            self.wrong.first()
        );
        assert!(self.created > 0, "no key was created");
    }

    fn latencies_within(&self, from: u64, to: u64) -> Latencies {
        let within = self.calls.iter().filter(|call| call.is_within(from, to));
        let mut took: Vec<u32> = within.map(|call| call.took_us).collect();
        took.sort_unstable();
        let Some(last) = took.last() else {
            return Latencies::default();
        };
        // The smallest value that so many of a thousand do not exceed.
        let share = |per_mille: usize| {
            let rank = (took.len() * per_mille).div_ceil(1000).max(1);
            Duration::from_micros(took[rank - 1].into())
        };
        Latencies {
            calls: took.len(),
            p50: share(500),
            p99: share(990),
            p999: share(999),
            max: Duration::from_micros((*last).into()),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(calls: impl IntoIterator<Item = (u64, u64)>) -> Report {
        let call = |(at, took)| Call::new(Duration::from_millis(at), Duration::from_millis(took));
        let calls = calls.into_iter().map(call).collect();
        Report::new(
            Entries {
                calls,
                ..Entries::default()
            },
            1,
            Duration::from_secs(1),
        )
    }

    #[test]
    fn percentiles_are_of_the_calls_that_were_asked_about() {
        let mut report = report((1..=1000).map(|number| (number, number)));
        let all = report.latencies();
        assert_eq!(
            (all.p50, all.p999),
            (Duration::from_millis(500), Duration::from_millis(999))
        );
        assert_eq!((all.p99, all.max), (Duration::from_millis(990), Duration::from_secs(1)));
        assert_eq!(report.in_window().calls, 0, "nothing was wrong");
        report.window = Some((Duration::from_millis(1990), Duration::from_millis(2500)));
        // Those that began at 995 ms or later ended at 1990 ms or later.
        assert_eq!(report.in_window().calls, 6);
        assert_eq!(report.outage(), Some(Duration::from_millis(510)));
    }

    #[test]
    #[should_panic(expected = "of 2 calls 1 failed")]
    fn a_failed_call_is_not_clean() {
        let mut report = report([(1, 1)]);
        report.failures.push("it failed".to_owned());
        report.expect_clean();
    }
}

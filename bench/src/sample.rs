//! What one run of a loop measured.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{collections::BTreeMap, time::Duration};

/// What one call came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Operations that were done.
    pub(crate) done: u64,
    /// Operations that were not, each with its reason.
    pub(crate) failed: Vec<String>,
}

impl Outcome {
    pub(crate) fn of_one(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self {
                done: 1,
                failed: Vec::new(),
            },
            Err(reason) => Self {
                done: 0,
                failed: vec![reason],
            },
        }
    }
}

/// What one run measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// How long it was measured.
    pub time: Duration,
    /// Operations that were done in this time.
    pub operations: u64,
    /// Operations that failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Open loop: operations that should have begun in this time and had no answer long after it. Their latencies count as what
    /// had passed by then.
    pub unanswered: u64,
    /// How long calls took that did at least one operation; a batch is one call.
    pub latencies: Latencies,
}

impl Sample {
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            time,
            operations: 0,
            failures: BTreeMap::new(),
            unanswered: 0,
            latencies: Latencies::default(),
        }
    }

    pub(crate) fn count(&mut self, outcome: Outcome, latency: Duration) {
        self.operations += outcome.done;
        if outcome.done > 0 {
            self.latencies.record(latency);
        }
        self.count_failures(outcome.failed);
    }

    pub(crate) fn count_failures(&mut self, reasons: Vec<String>) {
        for reason in reasons {
            *self.failures.entry(reason).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.unanswered += other.unanswered;
        for (reason, count) in &other.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
        self.latencies.add(&other.latencies);
    }

    /// Operations in a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }

    /// Operations that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// A histogram of times with three significant digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record(nanoseconds.max(1));
    }

    fn add(&mut self, other: &Self) {
        for value in other.0.iter_recorded() {
            self.0
                .saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which this share of the calls ended, 0.0 to 1.0; zero where there was none.
    pub fn quantile(&self, share: f64) -> Duration {
        if self.0.is_empty() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

impl Default for Latencies {
    fn default() -> Self {
        // Invariant: the bounds and the digits are among those that the histogram takes.
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds"))
    }
}

/// As pairs of a value in nanoseconds and how often it occurred.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0
                .iter_recorded()
                .map(|value| (value.value_iterated_to(), value.count_at_value())),
        )
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latencies.0.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(latencies)
    }
}

/// Ten minutes: longer than any deadline of a measurement.
const LONGEST: u64 = 600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(latencies: impl IntoIterator<Item = u64>) -> Sample {
        let mut sample = Sample::new(Duration::from_secs(2));
        for milliseconds in latencies {
            sample.count(Outcome::of_one(Ok(())), Duration::from_millis(milliseconds));
        }
        sample
    }

    #[test]
    fn a_sample_survives_its_way_between_processes() {
        let mut before = sample(1..=1000);
        before.count(Outcome::of_one(Err("REFUSED".into())), Duration::from_millis(1));
        let text = serde_json::to_string(&before).expect("JSON");
        let after: Sample = serde_json::from_str(&text).expect("a sample");
        assert_eq!((after.operations, after.failed()), (1000, 1));
        assert_eq!(after.latencies.count(), 1000);
        for share in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(after.latencies.quantile(share), before.latencies.quantile(share));
        }
        assert!((after.rate() - 500.0).abs() < 1e-9);
    }

    #[test]
    fn what_failed_is_counted_and_has_no_latency() {
        let mut batch = Sample::new(Duration::from_secs(1));
        let failed = vec!["BUSY".to_owned(), "BUSY".to_owned()];
        batch.count(Outcome { done: 62, failed }, Duration::from_millis(3));
        let failed = vec!["GONE".to_owned()];
        batch.count(Outcome { done: 0, failed }, Duration::from_millis(900));
        assert_eq!((batch.operations, batch.failed(), batch.latencies.count()), (62, 3, 1));
        assert_eq!(batch.failures["BUSY"], 2);
        assert!(batch.latencies.longest() < Duration::from_millis(4));
    }

    #[test]
    fn samples_add_up() {
        let mut all = sample(1..=10);
        all.add(&sample(91..=100));
        assert_eq!(all.operations, 20);
        assert!(all.latencies.quantile(0.5) < Duration::from_millis(11));
        assert!(all.latencies.longest() >= Duration::from_millis(100));
    }
}

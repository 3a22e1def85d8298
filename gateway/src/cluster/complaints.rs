//! Log lines about calls that failed: one of many, so that a failing cluster does not fill the log.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// When somebody complained last, and how often nobody did since.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<(Option<Instant>, u64)>);

impl Complaints {
    /// Whether there is to be a line about this, and then how many there were without one since the last.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *said;
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_is_said_and_tells_how_many_were_not() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.admit(start), Some(0));
        for _ in 0..5 {
            assert_eq!(complaints.admit(start + PAUSE / 2), None);
        }
        assert_eq!(complaints.admit(start + PAUSE), Some(5));
        assert_eq!(complaints.admit(start + PAUSE * 2), Some(0));
    }
}

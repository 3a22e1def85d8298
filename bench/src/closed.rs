//! The closed loop: so many callers, each of which makes one call after another.

use crate::sample::{Outcome, Sample};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// Somebody who makes calls.
pub(crate) trait Call: Send + 'static {
    /// Makes one call and says what came of it.
    fn call(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// For how long it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Not counted: caches fill, processors wake up.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) time: Duration,
}

/// Runs the callers and counts the calls that end within the window's time.
pub(crate) async fn closed<C: Call>(callers: Vec<C>, window: Window) -> Sample {
    let begin = Instant::now() + window.warm_up;
    let end = begin + window.time;
    let book = Book::new(window.time);
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let book = book.clone();
        tasks.spawn(async move {
            loop {
                let started = Instant::now();
                if started >= end {
                    return;
                }
                let outcome = caller.call().await;
                let ended = Instant::now();
                let failed = !outcome.failed.is_empty();
                if ended >= begin && ended < end {
                    book.open().count(outcome, ended - started);
                }
                if failed {
                    // A caller that is refused at once must not keep the others from their turn.
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    tasks.join_all().await;
    book.close()
}

/// The sample that all callers write to.
#[derive(Clone)]
pub(crate) struct Book(Arc<Mutex<Sample>>);

impl Book {
    pub(crate) fn new(time: Duration) -> Self {
        Self(Arc::new(Mutex::new(Sample::new(time))))
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(self) -> Sample {
        self.open().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes some time for each call; every third fails.
    struct Steady {
        calls: u64,
        takes: Duration,
    }

    impl Call for Steady {
        async fn call(&mut self) -> Outcome {
            tokio::time::sleep(self.takes).await;
            self.calls += 1;
            Outcome::of_one(match self.calls % 3 {
                0 => Err("THIRD".to_owned()),
                _ => Ok(()),
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_end_within_the_time_count_and_no_others() {
        let callers = (0..4).map(|_| Steady {
            calls: 0,
            takes: Duration::from_millis(10),
        });
        let window = Window {
            warm_up: Duration::from_millis(100),
            time: Duration::from_millis(295),
        };
        let sample = closed(callers.collect(), window).await;
        // Each caller ends a call at 10, 20, …, 400 ms; from 100 to 390 ms are 30 calls, of which ten fail.
        assert_eq!((sample.operations, sample.failed()), (4 * 20, 4 * 10));
        assert_eq!(sample.failures["THIRD"], 40);
        assert_eq!(sample.latencies.count(), 80);
        let median = sample.latencies.quantile(0.5);
        assert!((9_990..=10_010).contains(&median.as_micros()), "{median:?}");
    }
}

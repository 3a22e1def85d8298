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

/// Runs the callers and counts the calls that end within the window's time. Where none does, because each takes longer, the window
/// lasts until those have ended that were under way.
pub(crate) async fn closed<C: Call>(callers: Vec<C>, window: Window) -> Sample {
    let begin = Instant::now() + window.warm_up;
    let end = begin + window.time;
    let book = Book::new(window.time);
    let late = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let (book, late) = (book.clone(), Arc::clone(&late));
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
                } else if ended >= end {
                    open(&late).push((outcome, ended - started, ended));
                }
                if failed {
                    // A caller that is refused at once must not keep the others from their turn.
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    tasks.join_all().await;
    let sample = book.close();
    if sample.operations > 0 || sample.failed() > 0 {
        return sample;
    }
    let late = std::mem::take(&mut *open(&late));
    let last = late.iter().map(|(.., ended)| *ended).max().unwrap_or(end);
    let mut sample = Sample::new(last - begin);
    for (outcome, took, _) in late {
        sample.count(outcome, took);
    }
    sample
}

fn open<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sample that all callers write to.
#[derive(Clone)]
pub(crate) struct Book(Arc<Mutex<Sample>>);

impl Book {
    pub(crate) fn new(time: Duration) -> Self {
        Self(Arc::new(Mutex::new(Sample::new(time))))
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Sample> {
        open(&self.0)
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
    #[tokio::test(start_paused = true)]
    async fn a_window_in_which_nothing_ends_lasts_until_something_has() {
        let callers = (1..=2).map(|number| Steady {
            calls: 0,
            takes: Duration::from_millis(400 * number),
        });
        let window = Window {
            warm_up: Duration::from_millis(50),
            time: Duration::from_millis(100),
        };
        let sample = closed(callers.collect(), window).await;
        assert_eq!((sample.operations, sample.failed()), (2, 0));
        assert_eq!(sample.time.as_millis(), 750);
    }
}

//! The open loop: calls begin at a rate that does not depend on how fast they are answered.
//!
//! A call's latency counts from the moment at which it should have begun. So a stall is seen by all calls that fall into it, and
//! not only by those that were under way when it began (coordinated omission).

use crate::{
    closed::{Book, Call, Window},
    sample::Sample,
};
use std::{num::NonZeroU64, sync::Arc, thread, time::Duration};
use tokio::{
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::Instant,
};

/// Has the callers make a call for each arrival, in order, whoever is free first, and counts those that were to begin within the
/// window's time, which starts `window.warm_up` after `start`.
///
/// Calls that wait for a free caller wait as they would in a program's own queue. What is not answered when as much time again
/// has passed is not asked for any more, and counts as unanswered. The sample's time lasts until the last answer, so that its rate
/// is what was really done.
pub(crate) async fn open<C: Call>(
    callers: Vec<C>,
    arrivals: UnboundedReceiver<Instant>,
    start: Instant,
    window: Window,
) -> Sample {
    let begin = start + window.warm_up;
    let end = begin + window.time;
    let give_up = end + window.time.max(LEAST_PATIENCE);
    let book = Book::new(window.time);
    let arrivals = Arc::new(Mutex::new(arrivals));
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let (book, arrivals) = (book.clone(), Arc::clone(&arrivals));
        tasks.spawn(async move {
            loop {
                let arrival = arrivals.lock().await.recv().await;
                let Some(intended) = arrival else { return };
                let counts = intended >= begin && intended < end;
                if Instant::now() >= give_up {
                    if counts {
                        let mut sample = book.open();
                        sample.unanswered += 1;
                        sample.latencies.record(intended.elapsed());
                        sample.time = sample.time.max(begin.elapsed());
                    }
                    continue;
                }
                let outcome = caller.call().await;
                if counts {
                    let mut sample = book.open();
                    sample.count(outcome, intended.elapsed());
                    sample.time = sample.time.max(begin.elapsed());
                }
            }
        });
    }
    tasks.join_all().await;
    book.close()
}

/// The moments at which calls should begin, evenly spaced, from now until the end of the window, each sent when it has come.
///
/// A thread of its own waits for them: the runtime's clock ticks in milliseconds.
pub(crate) fn arrivals(rate: f64, window: Window) -> (Instant, UnboundedReceiver<Instant>) {
    let (sender, receiver) = unbounded_channel();
    let start = Instant::now();
    let until = start + window.warm_up + window.time;
    thread::spawn(move || send_arrivals(&sender, start, until, rate));
    (start, receiver)
}

fn send_arrivals(sender: &UnboundedSender<Instant>, start: Instant, until: Instant, rate: f64) {
    // Where this is refused, a sleep takes 50 µs more; latencies count from the intended moment all the same.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    for number in 0_u64.. {
        let at = start + Duration::from_secs_f64(number as f64 / rate);
        if at >= until {
            return;
        }
        let now = Instant::now();
        if at > now {
            thread::sleep(at - now);
        }
        // Nobody listens any more when the measurement was interrupted.
        if sender.send(at).is_err() {
            return;
        }
    }
}

const LEAST_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Outcome;

    /// A server that answers after 1 ms, and stands still for a while.
    struct Stalling {
        from: Instant,
        until: Instant,
    }

    impl Call for Stalling {
        async fn call(&mut self) -> Outcome {
            if Instant::now() >= self.from {
                tokio::time::sleep_until(self.until).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            Outcome::of_one(Ok(()))
        }
    }

    fn every_ten_milliseconds(start: Instant, count: u32) -> UnboundedReceiver<Instant> {
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(async move {
            for number in 0..count {
                let at = start + Duration::from_millis(10) * number;
                tokio::time::sleep_until(at).await;
                let _ = sender.send(at);
            }
        });
        receiver
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_the_moment_at_which_a_call_should_have_begun() {
        let start = Instant::now();
        let stall = |from: u64, until: u64| Stalling {
            from: start + Duration::from_millis(from),
            until: start + Duration::from_millis(until),
        };
        let window = Window {
            warm_up: Duration::ZERO,
            time: Duration::from_secs(1),
        };
        // One caller, 100 calls; nothing is answered from 200 to 700 ms. Fifty calls fall into the stall, and those after it
        // wait until the caller has caught up.
        let arrivals = every_ten_milliseconds(start, 100);
        let sample = open(vec![stall(200, 700)], arrivals, start, window).await;
        assert_eq!((sample.operations, sample.failed(), sample.unanswered), (100, 0, 0));
        assert!(sample.latencies.longest() >= Duration::from_millis(500));
        // A loop that measured from the real start would see one long call and 99 short ones.
        let half = sample.latencies.quantile(0.5);
        assert!(half >= Duration::from_millis(40), "{half:?}");
        let tenth_longest = sample.latencies.quantile(0.9);
        assert!(tenth_longest >= Duration::from_millis(350), "{tenth_longest:?}");
        assert_eq!(sample.time, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_answered_is_counted() {
        let start = Instant::now();
        let stall = Stalling {
            from: start + Duration::from_millis(195),
            until: start + Duration::from_secs(60),
        };
        let window = Window {
            warm_up: Duration::ZERO,
            time: Duration::from_secs(1),
        };
        let sample = open(vec![stall], every_ten_milliseconds(start, 100), start, window).await;
        // The one that was under way when the server stood still has its answer after a minute.
        assert_eq!((sample.operations, sample.unanswered), (21, 79));
        assert_eq!(sample.latencies.count(), 100);
        assert!(sample.latencies.quantile(0.5) >= Duration::from_secs(59));
    }

    #[tokio::test(start_paused = true)]
    async fn arrivals_before_the_window_are_warm_up() {
        let start = Instant::now();
        let window = Window {
            warm_up: Duration::from_millis(500),
            time: Duration::from_millis(500),
        };
        let never = start + Duration::from_secs(3600);
        let quick = Stalling {
            from: never,
            until: never,
        };
        let sample = open(vec![quick], every_ten_milliseconds(start, 100), start, window).await;
        assert_eq!(sample.operations, 50);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_what_was_done_and_not_what_was_asked_for() {
        let start = Instant::now();
        let window = Window {
            warm_up: Duration::ZERO,
            time: Duration::from_secs(1),
        };
        // Each call takes 16 ms, and one comes every 10.
        let never = start + Duration::from_secs(3600);
        let slow = Slow(Stalling {
            from: never,
            until: never,
        });
        let sample = open(vec![slow], every_ten_milliseconds(start, 100), start, window).await;
        assert_eq!((sample.operations, sample.time), (100, Duration::from_millis(1600)));
        assert!((sample.rate() - 62.5).abs() < 1e-9);
    }

    /// The same, and 15 ms longer.
    struct Slow(Stalling);

    impl Call for Slow {
        async fn call(&mut self) -> Outcome {
            tokio::time::sleep(Duration::from_millis(15)).await;
            self.0.call().await
        }
    }

    #[tokio::test]
    async fn arrivals_come_at_their_rate_and_not_before_their_time() {
        let window = Window {
            warm_up: Duration::from_millis(20),
            time: Duration::from_millis(80),
        };
        let (start, mut receiver) = arrivals(1000.0, window);
        let mut count = 0;
        while let Some(at) = receiver.recv().await {
            assert!(Instant::now() >= at);
            assert_eq!(at, start + Duration::from_millis(count));
            count += 1;
        }
        assert_eq!(count, 100);
    }
}

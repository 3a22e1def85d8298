//! When a call is made again.

use crate::{connection::ConnectionError, error::Error};
use aws_lc_rs::rand;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

/// How often a call is made again that failed for a reason which may be over in a moment.
///
/// Such reasons are UNAVAILABLE, RESOURCE_EXHAUSTED with a delay, and a connection that broke or cannot be opened now.
/// The next attempt waits for as long as the gateway said, and a little longer, so that callers who were refused together
/// do not come back together; where nothing was said, the pauses begin at 50 ms and double up to 2 s. An attempt that could
/// not begin before the call's deadline is not waited for. No other error is ever a reason to make a call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
}

impl Retry {
    /// Makes a call at most so often; 0 is the same as 1.
    pub const fn attempts(attempts: u32) -> Self {
        Self { attempts }
    }

    /// Makes each call once.
    pub const fn off() -> Self {
        Self::attempts(1)
    }

    /// Makes a call until it succeeds, fails for good, or may not be made again. Each attempt gets the deadline of all.
    pub(crate) async fn run<T, F: Future<Output = Result<T, Error>>>(
        self,
        deadline: Instant,
        repeat: Repeat,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut made = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            made += 1;
            let again = match pause_after(&error, repeat, made) {
                Some(pause) if made < self.attempts => Instant::now() + pause,
                _ => return Err(error),
            };
            if again >= deadline {
                return Err(error);
            }
            sleep_until(again).await;
        }
    }
}

impl Default for Retry {
    /// Ten attempts: a gateway that is started again is waited for during some ten seconds.
    fn default() -> Self {
        Self::attempts(10)
    }
}

/// Whether a call may be made again although it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It may: it reads, or uses a key, or has a request id by which the gateway knows it again.
    Safe,
    /// Only where the gateway said that it was not done.
    Refused,
}

/// How long to wait before a call is made again; `None` where it is not.
fn pause_after(error: &Error, repeat: Repeat, made: u32) -> Option<Duration> {
    match error {
        Error::Unavailable(fault) => match (fault.code(), fault.retry_delay()) {
            (Code::Unavailable | Code::ResourceExhausted, Some(delay)) => Some(delay + share(delay / 4 + LEAST / 10)),
            (Code::Unavailable, None) if repeat == Repeat::Safe => Some(own_pause(made)),
            _ => None,
        },
        Error::Connection(error) => match error {
            ConnectionError::NoSocket { .. }
            | ConnectionError::NothingListens { .. }
            | ConnectionError::Unreachable { .. }
            | ConnectionError::NoAnswer { .. }
            | ConnectionError::Closed { .. } => Some(own_pause(made)),
            ConnectionError::Lost { .. } if repeat == Repeat::Safe => Some(own_pause(made)),
            _ => None,
        },
        _ => None,
    }
}

/// Between half of the pause and all of it.
fn own_pause(made: u32) -> Duration {
    let pause = LEAST.saturating_mul(1 << made.saturating_sub(1).min(16)).min(MOST);
    pause / 2 + share(pause / 2)
}

/// A random part of a time.
fn share(whole: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without random numbers the part is nothing, and callers come together.
    let _ = rand::fill(&mut bytes);
    whole.mul_f64(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
}

const LEAST: Duration = Duration::from_millis(50);

const MOST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    fn failed(code: Code, delay: Option<Duration>) -> Error {
        let mut details = ErrorDetails::new();
        details.set_error_info("A_REASON", "portcullis.v1", [("a".to_owned(), "b".to_owned())]);
        if delay.is_some() {
            details.set_retry_info(delay);
        }
        Status::with_error_details(code, "", details).into()
    }

    fn lost() -> Error {
        ConnectionError::Lost { detail: String::new() }.into()
    }

    /// How often a call is made that always fails, and how long that takes.
    async fn made(retry: Retry, limit: Duration, repeat: Repeat, error: Error) -> (u32, Duration) {
        let (count, started) = (Cell::new(0), Instant::now());
        let result: Result<(), _> = retry
            .run(started + limit, repeat, || {
                count.set(count.get() + 1);
                std::future::ready(Err(error.clone()))
            })
            .await;
        assert!(result.is_err());
        (count.get(), started.elapsed())
    }

    const LONG: Duration = Duration::from_secs(1000);
    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[tokio::test(start_paused = true)]
    async fn only_what_may_be_over_in_a_moment_is_tried_again() {
        let three = Retry::attempts(3);
        for (code, delay, attempts) in [
            (Code::Unavailable, None, 3),
            (Code::Unavailable, SECOND, 3),
            (Code::ResourceExhausted, SECOND, 3),
            (Code::ResourceExhausted, None, 1),
            (Code::Aborted, SECOND, 1),
            (Code::DeadlineExceeded, SECOND, 1),
            (Code::Internal, SECOND, 1),
            (Code::Cancelled, None, 1),
            (Code::PermissionDenied, None, 1),
            (Code::InvalidArgument, None, 1),
            (Code::Unauthenticated, None, 1),
        ] {
            let (count, _) = made(three, LONG, Repeat::Safe, failed(code, delay)).await;
            assert_eq!(count, attempts, "{code:?} {delay:?}");
        }
        assert_eq!(made(three, LONG, Repeat::Safe, lost()).await.0, 3);
        let refused = ConnectionError::ClientCertificateMissing.into();
        assert_eq!(made(three, LONG, Repeat::Safe, refused).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_done_is_not_done_twice_without_a_request_id() {
        let three = Retry::attempts(3);
        assert_eq!(made(three, LONG, Repeat::Refused, lost()).await.0, 1);
        let silent = failed(Code::Unavailable, None);
        assert_eq!(made(three, LONG, Repeat::Refused, silent).await.0, 1);
        let told = failed(Code::Unavailable, SECOND);
        assert_eq!(made(three, LONG, Repeat::Refused, told).await.0, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_gateways_delay_is_kept_and_the_deadline_is_not_passed() {
        let (count, took) = made(
            Retry::attempts(4),
            LONG,
            Repeat::Safe,
            failed(Code::Unavailable, SECOND),
        )
        .await;
        assert_eq!(count, 4);
        assert!(
            took >= 3 * Duration::from_secs(1) && took < 4 * Duration::from_secs(1),
            "{took:?}"
        );

        let limit = Duration::from_millis(2900);
        let error = || failed(Code::ResourceExhausted, SECOND);
        let (count, took) = made(Retry::attempts(100), limit, Repeat::Safe, error()).await;
        assert!(count == 3 && took < limit, "{count} attempts in {took:?}");
        let (count, took) = made(Retry::attempts(100), Duration::from_millis(900), Repeat::Safe, error()).await;
        assert_eq!((count, took), (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_of_ones_own_grow_to_a_bound() {
        let (_, took) = made(Retry::default(), LONG, Repeat::Safe, lost()).await;
        assert!(
            took > Duration::from_secs(3) && took < Duration::from_secs(12),
            "{took:?}"
        );
        assert_eq!(
            made(Retry::off(), LONG, Repeat::Safe, lost()).await,
            (1, Duration::ZERO)
        );
    }
}

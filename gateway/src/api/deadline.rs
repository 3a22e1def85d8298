//! The caller's deadline holds for a call wherever it is: also before its request has arrived, and in streams that say nothing.
//!
//! The services know the deadline and end by it themselves, with their audit entry. What is still not answered a little later is
//! ended here, for every service alike, and before the transport does: its own words for it would be CANCELLED, without a reason.

use super::{ApiError, Reason};
use crate::telemetry::RequestId;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, metadata::MetadataMap};
use tower::{Layer, Service};
use uuid::Uuid;

/// The time that the caller allows, less what the way back may take: an answer that says why is worth more than a deadline that
/// passes in silence.
pub(super) fn time_allowed(metadata: &MetadataMap) -> Option<Duration> {
    let allowed = stated(metadata.get(HEADER)?.to_str().ok()?)?;
    Some(allowed.saturating_sub(way_back(allowed)))
}

/// When a call is over that was not answered by its deadline.
fn end_of_call(headers: &HeaderMap) -> Option<Instant> {
    let allowed = stated(headers.get(HEADER)?.to_str().ok()?)?;
    Some(Instant::now() + allowed.saturating_sub(way_back(allowed) / 2))
}

/// Reads a `grpc-timeout` (gRPC over HTTP/2, "Timeout"): at most eight digits and a unit.
fn stated(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn way_back(allowed: Duration) -> Duration {
    (allowed / 10).min(WAY_BACK)
}

/// Ends the calls of every service below at their deadlines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = InTime<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InTime { inner }
    }
}

/// See [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub(crate) struct InTime<S> {
    inner: S,
}

impl<S, A, B> Service<Request<A>> for InTime<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<InTimeBody<B>>;
    type Error = S::Error;
    type Future = InTimeFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let deadline = end_of_call(request.headers()).map(|at| Deadline {
            at,
            sleep: Box::pin(sleep_until(at)),
            request: request
                .extensions()
                .get::<RequestId>()
                .map_or_else(Uuid::now_v7, |id| id.0),
        });
        InTimeFuture {
            inner: Box::pin(self.inner.call(request)),
            deadline,
        }
    }
}

/// When a call is over.
struct Deadline {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
    request: Uuid,
}

impl Deadline {
    /// The end of the call, once its time is over. The clock decides, so that a timer that is late changes nothing.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if Instant::now() < self.at && self.sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let error = ApiError::new(
            Reason::DeadlineExceeded,
            "the request was not answered before its deadline",
        );
        Poll::Ready(error.into_status(&self.request.to_string()))
    }
}

/// A response that is awaited.
pub(crate) struct InTimeFuture<F> {
    inner: Pin<Box<F>>,
    deadline: Option<Deadline>,
}

impl<F, B, E> Future for InTimeFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<InTimeBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(response) = this.inner.as_mut().poll(context) {
            let deadline = this.deadline.take();
            return Poll::Ready(response.map(|response| {
                response.map(|body| InTimeBody {
                    body: Some(body),
                    deadline,
                })
            }));
        }
        let Some(deadline) = &mut this.deadline else {
            return Poll::Pending;
        };
        deadline.poll_passed(context).map(|status| {
            Ok(status.into_http::<()>().map(|()| InTimeBody {
                body: None,
                deadline: None,
            }))
        })
    }
}

/// A response's body, until the deadline.
pub(crate) struct InTimeBody<B> {
    // Absent once the deadline ended it.
    body: Option<B>,
    deadline: Option<Deadline>,
}

impl<B> Body for InTimeBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let Some(deadline) = &mut this.deadline else {
            return Poll::Pending;
        };
        deadline.poll_passed(context).map(|status| {
            this.body = None;
            let mut trailers = HeaderMap::new();
            // Fails on words that are no header, which these are.
            status.add_header(&mut trailers).ok()?;
            Some(Ok(Frame::trailers(trailers)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

const HEADER: &str = "grpc-timeout";
const WAY_BACK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        convert::Infallible,
        future::{pending, poll_fn},
    };
    use tonic::Code;
    use tonic_types::StatusExt;
    use tower::{ServiceExt, service_fn};

    /// A body that never says anything.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn request(timeout: &str) -> Request<()> {
        let request = Request::builder().header(HEADER, timeout).body(());
        request.expect("a request")
    }

    fn require_deadline_exceeded(headers: &HeaderMap) {
        let status = Status::from_header_map(headers).expect("a status");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let reason = status.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("DEADLINE_EXCEEDED"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_a_little_before_the_transport_would_end_it() {
        let unanswered = service_fn(|_| pending::<Result<Response<Silent>, Infallible>>());
        let begun = Instant::now();
        let answer = DeadlineLayer.layer(unanswered).oneshot(request("1S")).await;
        let Ok(answer) = answer;
        require_deadline_exceeded(answer.headers());
        assert!(answer.into_body().is_end_stream());
        let took = begun.elapsed();
        assert!(
            took > Duration::from_millis(980) && took < Duration::from_secs(1),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_says_nothing_ends_at_its_deadline() {
        let silent = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Silent)) });
        let Ok(answer) = DeadlineLayer.layer(silent).oneshot(request("100m")).await;
        let mut body = answer.into_body();
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let frame = frame.expect("a frame").expect("no error").into_trailers();
        require_deadline_exceeded(&frame.unwrap_or_else(|_| panic!("no trailers")));
        assert!(body.is_end_stream());
    }

    #[test]
    fn the_callers_time_is_read_and_a_little_is_kept_for_the_way_back() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(HEADER, text.parse().expect("ASCII"));
            time_allowed(&metadata)
        };
        assert_eq!(read("1S"), Some(Duration::from_millis(980)));
        assert_eq!(read("100m"), Some(Duration::from_millis(90)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7200) - WAY_BACK));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600) - WAY_BACK)
        );
        for wrong in ["", "S", "1", "1x", "-1S", "123456789S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}

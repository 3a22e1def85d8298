//! Streams end with their caller's certificate, and with the gateway. A call that has not begun is refused by `Call::of`, one
//! that is under way is finished. A stream has a moment to end by itself; one that goes on waiting is ended here, whatever service
//! it belongs to. The gateway's own streams see by themselves that it stops, and finish what they have read; others know nothing of
//! it.

use super::{ApiError, Reason, STREAMS};
use crate::{identity::Peer, telemetry::RequestId};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    future::pending,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use uuid::Uuid;

/// Ends streams of every service below.
#[derive(Debug, Clone)]
pub(crate) struct EndingLayer {
    stop: CancellationToken,
}

impl EndingLayer {
    /// `stop` is cancelled when the gateway stops.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self { stop: stop.clone() }
    }
}

impl<S> Layer<S> for EndingLayer {
    type Service = Ending<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Ending {
            inner,
            stop: self.stop.clone(),
        }
    }
}

/// See [`EndingLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Ending<S> {
    inner: S,
    stop: CancellationToken,
}

impl<S, A, B> Service<http::Request<A>> for Ending<S>
where
    S: Service<http::Request<A>, Response = http::Response<B>>,
{
    type Response = http::Response<EndingBody<B>>;
    type Error = S::Error;
    type Future = EndingFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<A>) -> Self::Future {
        let peer = request.extensions().get::<Arc<Peer>>();
        let until = Until {
            peer: peer.filter(|peer| peer.certificate().is_some()).cloned(),
            stop: (!STREAMS.contains(&request.uri().path())).then(|| self.stop.clone()),
            request: request
                .extensions()
                .get::<RequestId>()
                .map_or_else(Uuid::now_v7, |id| id.0),
        };
        EndingFuture {
            inner: Box::pin(self.inner.call(request)),
            until: Some(until),
        }
    }
}

/// How long a stream may go on.
struct Until {
    // Where it has a certificate.
    peer: Option<Arc<Peer>>,
    // Where the service itself does not know that the gateway stops.
    stop: Option<CancellationToken>,
    request: Uuid,
}

impl Until {
    /// Waits for the end; why it came, as the trailers of a response.
    async fn end(self) -> Option<http::HeaderMap> {
        let ended = async {
            match &self.peer {
                Some(peer) => {
                    peer.end_token().cancelled().await;
                    sleep(LAST_WORDS).await;
                    peer.ended().map(ApiError::from)
                }
                None => pending().await,
            }
        };
        let stopped = async {
            match &self.stop {
                Some(stop) => stop.cancelled().await,
                None => pending().await,
            }
        };
        let error = tokio::select! {
            error = ended => error?,
            () = stopped => stopping(),
        };
        let mut trailers = http::HeaderMap::new();
        // Fails on words that are no header, which these are.
        error
            .into_status(&self.request.to_string())
            .add_header(&mut trailers)
            .ok()?;
        Some(trailers)
    }
}

/// What callers hear of a gateway that stops.
pub(super) fn stopping() -> ApiError {
    let words = "the gateway stops: repeat the request, on a new connection";
    ApiError::new(Reason::GatewayStopping, words).retry_after(Duration::from_secs(1))
}

/// The response on its way.
pub(crate) struct EndingFuture<F> {
    inner: Pin<Box<F>>,
    until: Option<Until>,
}

impl<F, B, E> Future for EndingFuture<F>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    type Output = Result<http::Response<EndingBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let response = ready!(this.inner.as_mut().poll(context))?;
        let until = this.until.take();
        Poll::Ready(Ok(response.map(|body| EndingBody {
            body,
            until,
            end: None,
            is_done: false,
        })))
    }
}

/// A response's body, whose end may come before it is whole.
pub(crate) struct EndingBody<B> {
    body: B,
    until: Option<Until>,
    // Made of it when the body first has to wait: most never do.
    end: Option<Pin<Box<dyn Future<Output = Option<http::HeaderMap>> + Send>>>,
    is_done: bool,
}

impl<B> Body for EndingBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.is_done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if let Some(until) = this.until.take() {
            this.end = Some(Box::pin(until.end()));
        }
        let Some(end) = &mut this.end else { return Poll::Pending };
        let trailers = ready!(end.as_mut().poll(context));
        this.is_done = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a service may take to end a stream itself: to answer what it has accepted.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ClientCertificate, EndReason, Principal, SpiffeId};
    use std::{convert::Infallible, future::poll_fn, time::SystemTime};
    use tonic::Status;
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

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_ends_with_its_callers_certificate_and_says_why() {
        let id = SpiffeId::parse("spiffe://example.org/a").expect("an id");
        let certificate = ClientCertificate {
            chain: Vec::new(),
            valid_until: SystemTime::now() + Duration::from_secs(3600),
        };
        let peer = Arc::new(Peer::with_certificate(
            Principal::of_workload(&id),
            String::new(),
            certificate,
        ));
        let mut request = http::Request::new(());
        request.extensions_mut().insert(Arc::clone(&peer));
        let silent = service_fn(|_| async { Ok::<_, Infallible>(http::Response::new(Silent)) });
        let layer = EndingLayer::new(&CancellationToken::new());
        let status = end_of(layer.layer(silent).oneshot(request), || {
            peer.end(EndReason::CertificateRevoked);
        });
        let status = status.await;
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        let reason = status.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("CERTIFICATE_REVOKED"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_knows_nothing_of_the_gateway_ends_with_it() {
        let silent = service_fn(|_| async { Ok::<_, Infallible>(http::Response::new(Silent)) });
        let stop = CancellationToken::new();
        let answer = EndingLayer::new(&stop).layer(silent).oneshot(http::Request::new(()));
        let begun = tokio::time::Instant::now();
        let status = end_of(answer, || stop.cancel()).await;
        assert_eq!(status.code(), tonic::Code::Unavailable);
        let reason = status.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("GATEWAY_STOPPING"));
        assert!(begun.elapsed() < LAST_WORDS);
    }

    /// The status with which a stream ends after something was done.
    async fn end_of(
        answer: impl Future<Output = Result<http::Response<EndingBody<Silent>>, Infallible>>,
        act: impl FnOnce(),
    ) -> Status {
        let Ok(answer) = answer.await;
        let mut body = answer.into_body();
        let waiting = tokio::spawn(async move {
            let end = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            (end, body.is_end_stream())
        });
        tokio::task::yield_now().await;
        act();
        let (end, is_end) = waiting.await.expect("a task");
        assert!(is_end);
        let trailers = end.expect("a frame").expect("no error").into_trailers();
        Status::from_header_map(&trailers.unwrap_or_else(|_| panic!("no trailers"))).expect("a status")
    }
}

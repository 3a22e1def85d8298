//! Streams end with their caller's certificate. A call that has not begun is refused by `Call::of`, one that is under way is
//! finished. A stream has a moment to end by itself; one that goes on waiting is ended here, whatever service it belongs to.

use super::ApiError;
use crate::identity::Peer;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::sleep;
use tonic::Status;
use tower::{Layer, Service};
use uuid::Uuid;

/// Ends streams of every service below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndingLayer;

impl<S> Layer<S> for EndingLayer {
    type Service = Ending<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Ending { inner }
    }
}

/// See [`EndingLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Ending<S> {
    inner: S,
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
        let peer = peer.filter(|peer| peer.certificate().is_some()).cloned();
        EndingFuture {
            inner: Box::pin(self.inner.call(request)),
            peer,
        }
    }
}

/// The response on its way.
pub(crate) struct EndingFuture<F> {
    inner: Pin<Box<F>>,
    peer: Option<Arc<Peer>>,
}

impl<F, B, E> Future for EndingFuture<F>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    type Output = Result<http::Response<EndingBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let response = ready!(this.inner.as_mut().poll(context))?;
        let peer = this.peer.take();
        Poll::Ready(Ok(response.map(|body| EndingBody {
            body,
            peer,
            ended: None,
            is_done: false,
        })))
    }
}

/// A response's body, whose end may come before it is whole.
pub(crate) struct EndingBody<B> {
    body: B,
    peer: Option<Arc<Peer>>,
    // Made when the body first has to wait: most never do.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
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
        let Some(peer) = &this.peer else { return Poll::Pending };
        let ended = this.ended.get_or_insert_with(|| {
            let ended = peer.end_token().clone().cancelled_owned();
            Box::pin(async move {
                ended.await;
                sleep(LAST_WORDS).await;
            })
        });
        ready!(ended.as_mut().poll(context));
        this.is_done = true;
        Poll::Ready(status(peer).map(|status| Ok(Frame::trailers(status))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why the peer has ended, as the trailers of a response.
fn status(peer: &Peer) -> Option<http::HeaderMap> {
    let status: Status = ApiError::from(peer.ended()?).into_status(&Uuid::now_v7().to_string());
    let mut trailers = http::HeaderMap::new();
    // Fails on words that are no header, which these are.
    status.add_header(&mut trailers).ok()?;
    Some(trailers)
}

/// How long a service may take to end a stream itself: to answer what it has accepted.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ClientCertificate, EndReason, Principal, SpiffeId};
    use std::{convert::Infallible, future::poll_fn, time::SystemTime};
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
        let response = EndingLayer.layer(silent).oneshot(request).await.expect("a response");
        let mut body = response.into_body();
        let waiting = tokio::spawn(async move {
            let end = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            (end, body.is_end_stream())
        });
        tokio::task::yield_now().await;
        peer.end(EndReason::CertificateRevoked);
        let (end, is_end) = waiting.await.expect("a task");
        let trailers = end.expect("a frame").expect("no error").into_trailers();
        let status = Status::from_header_map(&trailers.unwrap_or_else(|_| panic!("no trailers"))).expect("a status");
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        let reason = status.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("CERTIFICATE_REVOKED"));
        assert!(is_end);
    }
}

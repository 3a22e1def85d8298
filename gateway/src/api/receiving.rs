//! Bounds on requests that are still arriving. They are buffered before it is known what they ask for, so they are bounded
//! in time, for each connection, and in all.

use crate::identity::Peer;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// How many bytes of requests may be arriving.
#[derive(Debug, Clone)]
pub(crate) struct Receiving {
    all: Arc<AtomicUsize>,
}

impl Receiving {
    /// Nothing is arriving yet.
    pub(crate) fn new() -> Self {
        Self { all: Arc::default() }
    }

    /// Puts a request's body under the bounds.
    pub(crate) fn bound<B: Body + Unpin>(&self, request: http::Request<B>) -> http::Request<Arriving<B>> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        request.map(|body| Arriving {
            body,
            held: Held {
                bytes: 0,
                peer,
                all: Arc::clone(&self.all),
            },
            patience: Box::pin(sleep(PATIENCE)),
        })
    }
}

/// A request's body as it arrives.
pub(crate) struct Arriving<B> {
    body: B,
    held: Held,
    patience: Pin<Box<Sleep>>,
}

/// The bytes that one request holds; given back when its body is done with.
struct Held {
    bytes: usize,
    peer: Option<Arc<Peer>>,
    all: Arc<AtomicUsize>,
}

impl Held {
    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        let all = self.all.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let here = self
            .peer
            .as_ref()
            .map_or(0, |peer| peer.arriving.fetch_add(bytes, Ordering::Relaxed) + bytes);
        if here > MOST_OF_A_CONNECTION || all > MOST_IN_ALL {
            return Err(Status::resource_exhausted(
                "too many bytes of unfinished requests are arriving",
            ));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(peer) = &self.peer {
            peer.arriving.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Error = Status> + Unpin,
{
    type Data = B::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                return this
                    .patience
                    .as_mut()
                    .poll(context)
                    .map(|()| Some(Err(Status::deadline_exceeded("the request did not arrive in time"))));
            }
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = this.held.take(bytes::Buf::remaining(data))
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
const MOST_OF_A_CONNECTION: usize = 32 << 20;
const MOST_IN_ALL: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AuthenticationMethod, Principal, SpiffeId};
    use bytes::Bytes;
    use std::{collections::VecDeque, future::poll_fn};

    /// A body of so many pieces of a megabyte, after which nothing comes.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.get_mut()
                .0
                .pop_front()
                .map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
        }
    }

    fn request(peer: &Arc<Peer>, pieces: usize) -> http::Request<Pieces> {
        let mut request = http::Request::new(Pieces(vec![Bytes::from(vec![0; 1 << 20]); pieces].into()));
        request.extensions_mut().insert(Arc::clone(peer));
        request
    }

    fn peer() -> Arc<Peer> {
        let id = SpiffeId::parse("spiffe://example.org/caller").expect("an id");
        Arc::new(Peer::new(
            Principal::of_workload(&id),
            AuthenticationMethod::ClientCertificate,
            String::new(),
        ))
    }

    async fn next(body: &mut Arriving<Pieces>) -> Result<(), Status> {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(status)) => Err(status),
            None => panic!("the body ended"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_holds_so_much_and_gives_it_back() {
        let (receiving, peer) = (Receiving::new(), peer());
        let mut first = receiving.bound(request(&peer, 20)).into_body();
        for _ in 0..20 {
            next(&mut first).await.expect("within the bound");
        }
        let mut second = receiving.bound(request(&peer, 20)).into_body();
        for _ in 0..12 {
            next(&mut second).await.expect("within the bound");
        }
        let refused = next(&mut second).await.expect_err("beyond the bound");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop((first, second));
        assert_eq!(
            (
                peer.arriving.load(Ordering::Relaxed),
                receiving.all.load(Ordering::Relaxed)
            ),
            (0, 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_arrive_is_given_up() {
        let mut body = Receiving::new().bound(request(&peer(), 1)).into_body();
        next(&mut body).await.expect("a piece");
        let refused = next(&mut body).await.expect_err("nothing more comes");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
    }
}

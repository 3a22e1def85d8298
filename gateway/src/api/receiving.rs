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

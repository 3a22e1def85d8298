//! Bounds on requests that are still arriving. They are buffered before it is known what they ask for, so they are bounded
//! in time, for each connection, and in all.
//!
//! A connection's bound is on what its messages announce: one that does not fit is refused when it begins, and those that have begun
//! arrive whole. Were it on what has come of them, many large ones would all be refused in their midst. The bound on all connections is
//! on what has come: to announce costs nothing, and must not take the room of others.
//!
//! A request of one message is bounded in time as a whole, a stream message by message: it may be idle for as long as it likes, but not
//! in the middle of a message.
//!
//! When the gateway stops, nothing is under way for a request that has not arrived: it is refused, unless its rest comes at once.

use super::{ApiError, Reason, STREAMS, ending::stopping, error::SOON};
use crate::{identity::Peer, telemetry::RequestId};
use bytes::Bytes;
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
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

/// How many bytes of requests may be arriving.
#[derive(Debug, Clone)]
pub(crate) struct Receiving {
    all: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Receiving {
    /// Nothing is arriving yet; `stop` is cancelled when the gateway stops.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self {
            all: Arc::default(),
            stop: stop.clone(),
        }
    }

    /// Puts a request's body under the bounds.
    pub(crate) fn bound<B: Body + Unpin>(&self, request: http::Request<B>) -> http::Request<Arriving<B>> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let is_stream = STREAMS.contains(&request.uri().path());
        let id = request
            .extensions()
            .get::<RequestId>()
            .map_or_else(Uuid::now_v7, |id| id.0);
        request.map(|body| Arriving {
            body,
            held: Held {
                announced: 0,
                came: 0,
                peer,
                all: Arc::clone(&self.all),
            },
            messages: Messages::default(),
            is_stream,
            patience: Box::pin(sleep(PATIENCE)),
            stop: self.stop.clone(),
            stopped: None,
            request: id,
        })
    }
}

/// A request's body as it arrives.
pub(crate) struct Arriving<B> {
    body: B,
    held: Held,
    messages: Messages,
    // Whether there may be many.
    is_stream: bool,
    patience: Pin<Box<Sleep>>,
    stop: CancellationToken,
    request: Uuid,
    // Made when the body first has to wait: most never do.
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Follows the length-prefixed messages of a body (gRPC over HTTP/2, "Length-Prefixed-Message").
#[derive(Debug, Default)]
struct Messages {
    // Of the prefix of the message that is arriving: a flag and four bytes of length.
    prefix: [u8; 5],
    prefix_length: usize,
    // The message's length, and how much of it is still to come, once its prefix is there.
    length: usize,
    missing: usize,
}

impl Messages {
    /// Takes the next bytes; returns how many of the last ones are of a message that is not complete.
    fn take(&mut self, mut bytes: &[u8]) -> Progress {
        let mut ended = false;
        let mut unfinished = 0;
        while !bytes.is_empty() {
            if self.prefix_length < self.prefix.len() {
                let taken = bytes.len().min(self.prefix.len() - self.prefix_length);
                self.prefix[self.prefix_length..][..taken].copy_from_slice(&bytes[..taken]);
                self.prefix_length += taken;
                unfinished += taken;
                bytes = &bytes[taken..];
                if self.prefix_length == self.prefix.len() {
                    let [_, length @ ..] = self.prefix;
                    self.length = u32::from_be_bytes(length) as usize;
                    self.missing = self.length;
                }
            } else {
                let taken = bytes.len().min(self.missing);
                self.missing -= taken;
                unfinished += taken;
                bytes = &bytes[taken..];
            }
            if self.prefix_length == self.prefix.len() && self.missing == 0 {
                self.prefix_length = 0;
                (ended, unfinished) = (true, 0);
            }
        }
        Progress { ended, unfinished }
    }

    /// How many bytes the message that is arriving will have with its prefix, as far as that is known.
    fn announced(&self) -> usize {
        if self.prefix_length == self.prefix.len() {
            self.prefix_length + self.length
        } else {
            self.prefix_length
        }
    }

    /// Whether the next byte is the first of a message.
    fn is_between(&self) -> bool {
        self.prefix_length == 0
    }
}

/// What some bytes of a stream brought.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    /// Whether a message ended in them, and with it all that was held.
    ended: bool,
    /// How many of them belong to a message that has not ended.
    unfinished: usize,
}

/// What one message takes of the bounds while it arrives; given back when it is there, or given up.
struct Held {
    announced: usize,
    came: usize,
    peer: Option<Arc<Peer>>,
    all: Arc<AtomicUsize>,
}

impl Held {
    /// Whether there is room for so many more bytes of a message that will have so many in all.
    fn take(&mut self, bytes: usize, announced: usize) -> bool {
        let more = announced.min(MOST_OF_A_CONNECTION).saturating_sub(self.announced);
        self.announced += more;
        self.came += bytes;
        let all = self.all.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let here = self
            .peer
            .as_ref()
            .map_or(0, |peer| peer.arriving.fetch_add(more, Ordering::Relaxed) + more);
        // A message that has begun ends, whatever else is announced after it.
        (more == 0 || here <= MOST_OF_A_CONNECTION) && all <= MOST_IN_ALL
    }

    fn give_back(&mut self) {
        let (announced, came) = (std::mem::take(&mut self.announced), std::mem::take(&mut self.came));
        self.all.fetch_sub(came, Ordering::Relaxed);
        if let Some(peer) = &self.peer {
            peer.arriving.fetch_sub(announced, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<B> Arriving<B> {
    /// Why no more of the body is waited for.
    fn poll_given_up(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.patience.as_mut().poll(context).is_ready() {
            return Poll::Ready(Status::deadline_exceeded("the request did not arrive in time"));
        }
        let stopped = self.stopped.get_or_insert_with(|| {
            let stop = self.stop.clone();
            Box::pin(async move {
                stop.cancelled().await;
                sleep(LAST_BYTES).await;
            })
        });
        let request = self.request;
        stopped
            .as_mut()
            .poll(context)
            .map(|()| stopping().into_status(&request.to_string()))
    }

    /// Counts bytes that came, and no longer those of messages that are complete.
    fn note(&mut self, data: &Bytes) -> Result<(), Status> {
        let begins = self.messages.is_between();
        let Progress { ended, unfinished } = self.messages.take(data);
        if ended {
            self.held.give_back();
        }
        if self.is_stream && (begins || ended) {
            // The patience is for one message.
            self.patience.as_mut().reset(Instant::now() + PATIENCE);
        }
        if self.held.take(unfinished, self.messages.announced()) {
            return Ok(());
        }
        let message = "too many bytes of requests are arriving, on this connection or in all";
        let error = ApiError::new(Reason::RequestsSaturated, message).retry_after(SOON);
        Err(error.into_status(&self.request.to_string()))
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
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
            Poll::Pending if this.is_stream && this.messages.is_between() => return Poll::Pending,
            Poll::Pending => return this.poll_given_up(context).map(|status| Some(Err(status))),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = this.note(data)
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

/// How long after the gateway was told to stop bytes may come that were on their way.
const LAST_BYTES: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_OF_A_CONNECTION: usize = 32 << 20;
const MOST_IN_ALL: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AuthenticationMethod, Principal, SpiffeId};
    use std::{collections::VecDeque, future::poll_fn};
    use tonic_types::StatusExt;

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

    /// The first pieces of a message of so many megabytes.
    fn large(peer: &Arc<Peer>, megabytes: u32, pieces: usize) -> http::Request<Pieces> {
        let prefix = [&[0][..], &(megabytes << 20).to_be_bytes()].concat();
        let mut request = request(peer, pieces);
        request.body_mut().0.push_front(Bytes::from(prefix));
        request
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_holds_so_much_of_which_all_arrives_and_what_does_not_fit_is_refused_when_it_begins() {
        let (receiving, peer) = (Receiving::new(&CancellationToken::new()), peer());
        let mut bodies: Vec<_> = (0..6)
            .map(|_| receiving.bound(large(&peer, 5, 5)).into_body())
            .collect();
        for body in &mut bodies {
            next(body).await.expect("room for what it announces");
        }
        let refused = next(&mut receiving.bound(large(&peer, 5, 5)).into_body()).await;
        let refused = refused.expect_err("beyond the bound");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.get_details_retry_info().is_some() && refused.get_details_error_info().is_some());
        for body in &mut bodies {
            for _ in 0..5 {
                next(body).await.expect("a message that has begun");
            }
        }
        drop(bodies);
        let held = [&peer.arriving, &*receiving.all].map(|held| held.load(Ordering::Relaxed));
        assert_eq!(held, [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_on_some_connections_takes_no_room_of_others() {
        let receiving = Receiving::new(&CancellationToken::new());
        let mut silent = Vec::new();
        for _ in 0..2 * MOST_IN_ALL / MOST_OF_A_CONNECTION {
            let peer = peer();
            let mut body = receiving.bound(large(&peer, 30, 1)).into_body();
            next(&mut body).await.expect("the announcement");
            silent.push(body);
        }
        let mut body = receiving.bound(large(&peer(), 20, 20)).into_body();
        for _ in 0..=20 {
            next(&mut body).await.expect("another's message");
        }
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![7; length.into()]].concat();
        let bytes = [message(3), message(0), message(200), message(1)].concat();
        for piece in 1..bytes.len() {
            let mut messages = Messages::default();
            let mut held = 0;
            let mut ends = 0;
            for chunk in bytes.chunks(piece) {
                let progress = messages.take(chunk);
                if progress.ended {
                    held = 0;
                    ends += 1;
                }
                held += progress.unfinished;
                assert_eq!(held == 0, messages.is_between());
            }
            assert!(messages.is_between() && ends >= 1, "in pieces of {piece}");
        }
        let mut messages = Messages::default();
        let cut = [message(3), message(200)[..10].to_vec()].concat();
        assert_eq!(
            messages.take(&cut),
            Progress {
                ended: true,
                unfinished: 10
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_idle_between_messages_and_not_inside_one() {
        let (receiving, peer) = (Receiving::new(&CancellationToken::new()), peer());
        let message = |length: u32| [&[0][..], &length.to_be_bytes(), &vec![0; length as usize]].concat();
        let mut pieces: VecDeque<_> = (0..100).map(|_| Bytes::from(message(1 << 20))).collect();
        pieces.push_back(Bytes::from(message(1000)[..500].to_vec()));
        let mut request = http::Request::new(Pieces(pieces));
        *request.uri_mut() = STREAMS[0].parse().expect("a path");
        request.extensions_mut().insert(Arc::clone(&peer));
        let mut body = receiving.bound(request).into_body();
        for _ in 0..100 {
            // More in all than a connection may hold at once, and slower in all than a request may be.
            tokio::time::advance(PATIENCE / 2).await;
            next(&mut body).await.expect("a message");
            assert_eq!(peer.arriving.load(Ordering::Relaxed), 0);
        }
        let idle = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context).is_ready())).await;
        assert!(idle, "half a message has come");
        assert_eq!(peer.arriving.load(Ordering::Relaxed), 1005);
        assert_eq!(receiving.all.load(Ordering::Relaxed), 500);
        let refused = next(&mut body).await.expect_err("the rest does not come");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
        drop(body);
        assert_eq!(peer.arriving.load(Ordering::Relaxed), 0);

        let mut request = http::Request::new(Pieces(VecDeque::new()));
        *request.uri_mut() = STREAMS[0].parse().expect("a path");
        let mut silent = receiving.bound(request).into_body();
        let patient = tokio::time::timeout(PATIENCE * 100, next(&mut silent)).await;
        assert!(patient.is_err(), "a silent stream was ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_arrive_is_given_up() {
        let receiving = Receiving::new(&CancellationToken::new());
        let mut body = receiving.bound(request(&peer(), 1)).into_body();
        next(&mut body).await.expect("a piece");
        let refused = next(&mut body).await.expect_err("nothing more comes");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_has_not_arrived_when_the_gateway_stops_is_refused_a_moment_later() {
        let stop = CancellationToken::new();
        let mut body = Receiving::new(&stop).bound(request(&peer(), 2)).into_body();
        next(&mut body).await.expect("a piece");
        stop.cancel();
        next(&mut body).await.expect("a piece that was on its way");
        let begun = Instant::now();
        let refused = next(&mut body).await.expect_err("nothing more comes");
        assert_eq!(
            (refused.code(), begun.elapsed() < PATIENCE / 10),
            (tonic::Code::Unavailable, true)
        );
        let reason = refused.get_details_error_info().map(|info| info.reason);
        assert_eq!(reason.as_deref(), Some("GATEWAY_STOPPING"));
    }
}

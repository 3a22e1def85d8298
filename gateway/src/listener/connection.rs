//! An accepted connection of an identified peer, and all that are open.

use super::{places::Place, trust::Trust};
use crate::{identity::Peer, telemetry::OpenConnection};
use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// An accepted connection of an identified peer.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Arc<Peer>,
    handle: Handle,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    // Set once everything was said.
    farewell: Option<Pin<Box<Sleep>>>,
    _closed: DropGuard,
    _entry: Option<Entry>,
    _place: Place,
    _open: OpenConnection,
}

/// What is known of a connection outside of it.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Is cancelled when the connection is closed.
    pub closed: CancellationToken,
    /// Closes the connection in the middle of whatever it does.
    pub cut: CancellationToken,
}

#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        peer: Arc<Peer>,
        entry: Option<Entry>,
        place: Place,
        open: OpenConnection,
    ) -> Self {
        let handle = Handle {
            closed: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        Self {
            stream,
            peer,
            cut: Box::pin(handle.cut.clone().cancelled_owned()),
            _closed: handle.closed.clone().drop_guard(),
            handle,
            farewell: None,
            _entry: entry,
            _place: place,
            _open: open,
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// What outlives it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.handle.cut.is_cancelled() || self.cut.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// What came of writing; a peer that reads nothing does not keep the connection from being cut.
    fn unless_cut<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_pending() {
            self.poll_cut(context)?;
        }
        written
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
    }
}

/// The peers of all open TLS connections, so that they can be judged again.
#[derive(Debug, Default)]
pub struct OpenConnections {
    next: AtomicU64,
    peers: Mutex<HashMap<u64, Arc<Peer>>>,
}

/// A peer's place among the open connections, for as long as its connection lives.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    open: Arc<OpenConnections>,
}

impl OpenConnections {
    pub(super) fn enter(self: &Arc<Self>, peer: &Arc<Peer>) -> Entry {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Arc::clone(peer));
        Entry {
            number,
            open: Arc::clone(self),
        }
    }

    /// Judges every peer again and ends those that are no longer believed; returns how many.
    pub(super) fn judge(&self, trust: &Trust) -> usize {
        // Not under the lock: signatures are checked.
        let peers: Vec<_> = self.lock().values().cloned().collect();
        peers.iter().filter(|peer| judge(peer, trust)).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

/// Ends a peer that is no longer believed; says whether it did.
pub(super) fn judge(peer: &Peer, trust: &Trust) -> bool {
    let Some(certificate) = peer.certificate() else {
        return false;
    };
    if peer.ended().is_some() {
        return false;
    }
    let Err(error) = trust.examine_again(certificate) else {
        return false;
    };
    tracing::warn!(principal = %peer.principal, address = peer.address, reason = %error, "a connection is ended");
    peer.end(error.end_reason());
    true
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().remove(&self.number);
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(context)?;
        match &mut this.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        this.unless_cut(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        this.unless_cut(flushed, context)
    }

    /// Closes in order: what the peer still sends is read for a moment. Closing a socket with unread bytes in it would reset the
    /// connection, and the peer would lose what it has not read, such as why its stream ended.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.farewell.is_none() {
            let shut = match &mut this.stream {
                Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
                Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            };
            ready!(this.unless_cut(shut, context))?;
        }
        let farewell = this.farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL)));
        if farewell.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut unread = [0; 4096];
        for _ in 0..READS_AT_ONCE {
            let mut buffer = ReadBuf::new(&mut unread);
            let read = match &mut this.stream {
                Stream::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
                Stream::Tls(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            };
            // Also a peer that went away is gone.
            if ready!(read).is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        // Others want to be served too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        };
        this.unless_cut(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

const FAREWELL: Duration = Duration::from_secs(1);
const READS_AT_ONCE: u32 = 64;

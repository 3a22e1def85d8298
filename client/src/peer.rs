//! What the other side of a connection was seen to do.
//!
//! With TLS 1.3 the client's handshake is over before the server has looked at the client's certificate. A server that
//! refuses it sends an alert, which the client finds when it reads, or only after a failed write. HTTP/2 libraries keep
//! at most the text of it. So each connection is watched here, below HTTP/2, where the alert is still a value.

use rustls::AlertDescription;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// What the peer did last, as far as it matters for telling why a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nothing yet.
    Silent,
    /// It sent application data, so it has accepted the client.
    Heard,
    /// It ended the connection with a TLS alert.
    Alert(AlertDescription),
    /// It ended the connection before it had sent anything.
    Gone,
}

/// The watch over a client's connections. Only the newest one counts.
#[derive(Clone)]
pub(crate) struct Watch(Arc<watch::Sender<Sighting>>);

impl Watch {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Sighting {
            connection: 0,
            peer: Peer::Silent,
        })))
    }

    /// Starts to watch a new connection and forgets the one before.
    pub(crate) fn begin(&self) -> Observer {
        let mut connection = 0;
        self.0.send_modify(|sighting| {
            connection = sighting.connection.wrapping_add(1);
            *sighting = Sighting {
                connection,
                peer: Peer::Silent,
            };
        });
        Observer {
            watch: self.clone(),
            connection,
        }
    }

    /// The peer of the newest connection.
    pub(crate) fn peer(&self) -> Peer {
        self.0.borrow().peer
    }

    /// Waits until the peer of the newest connection is no longer silent.
    pub(crate) async fn first_sign(&self) -> Peer {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(|sighting| sighting.peer != Peer::Silent).await {
            Ok(sighting) => sighting.peer,
            // The sender lives in `self`, so this is not reached; a closed watch has nothing more to tell.
            Err(_) => Peer::Gone,
        }
    }
}

/// Reports on one connection.
pub(crate) struct Observer {
    watch: Watch,
    connection: u64,
}

impl Observer {
    /// Notes what the peer did. An alert is the last word; other signs count only while the peer was silent.
    fn note(&self, peer: Peer) {
        self.watch.0.send_if_modified(|sighting| {
            let news = match (sighting.peer, peer) {
                (Peer::Alert(_), _) => false,
                (_, Peer::Alert(_)) => true,
                (before, _) => before == Peer::Silent,
            };
            let current = sighting.connection == self.connection;
            if current && news {
                sighting.peer = peer;
            }
            current && news
        });
    }
}

struct Sighting {
    connection: u64,
    peer: Peer,
}

/// A stream whose peer is watched.
pub(crate) struct Watched<S> {
    stream: S,
    observer: Observer,
    heard: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    pub(crate) fn new(stream: S, observer: Observer) -> Self {
        Self {
            stream,
            observer,
            heard: false,
        }
    }

    fn failed(&self, error: &io::Error) {
        self.observer.note(match alert(error) {
            Some(alert) => Peer::Alert(alert),
            None => Peer::Gone,
        });
    }

    /// After a failed write: reads what the peer had sent before it closed, in search of the reason.
    fn last_words(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        if self.heard {
            return error;
        }
        let mut bytes = [0; 1];
        match Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut bytes)) {
            Poll::Ready(Err(reason)) if alert(&reason).is_some() => {
                self.failed(&reason);
                reason
            }
            _ => {
                self.failed(&error);
                error
            }
        }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        result.map(|result| result.map_err(|error| self.last_words(cx, error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        match &result {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => this.failed(error),
            Poll::Ready(Ok(())) if this.heard => {}
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                this.heard = true;
                this.observer.note(Peer::Heard);
            }
            Poll::Ready(Ok(())) => this.observer.note(Peer::Gone),
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The TLS alert inside an I/O error, if there is one.
pub(crate) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn data_from_the_peer_is_heard() {
        let watch = Watch::new();
        let (near, mut far) = duplex(16);
        let mut near = Watched::new(near, watch.begin());
        assert_eq!(watch.peer(), Peer::Silent);
        far.write_all(b"x").await.expect("written");
        near.read_u8().await.expect("read");
        assert_eq!(watch.first_sign().await, Peer::Heard);
    }

    #[tokio::test]
    async fn an_end_before_any_data_is_gone() {
        let watch = Watch::new();
        let (near, far) = duplex(16);
        let mut near = Watched::new(near, watch.begin());
        drop(far);
        assert!(near.read_u8().await.is_err());
        assert_eq!(watch.first_sign().await, Peer::Gone);
    }

    #[tokio::test]
    async fn a_failed_write_before_any_data_is_gone() {
        let watch = Watch::new();
        let (near, far) = duplex(16);
        let mut near = Watched::new(near, watch.begin());
        drop(far);
        assert!(near.write_all(b"x").await.is_err());
        assert_eq!(watch.first_sign().await, Peer::Gone);
    }

    #[test]
    fn an_older_connection_reports_no_more() {
        let watch = Watch::new();
        let older = watch.begin();
        let newer = watch.begin();
        older.note(Peer::Gone);
        assert_eq!(watch.peer(), Peer::Silent);
        newer.note(Peer::Heard);
        assert_eq!(watch.peer(), Peer::Heard);
    }

    #[test]
    fn an_alert_is_the_last_word() {
        let watch = Watch::new();
        let observer = watch.begin();
        observer.note(Peer::Heard);
        observer.note(Peer::Gone);
        assert_eq!(watch.peer(), Peer::Heard);
        observer.note(Peer::Alert(AlertDescription::CertificateExpired));
        observer.note(Peer::Gone);
        assert_eq!(watch.peer(), Peer::Alert(AlertDescription::CertificateExpired));
    }
}

//! Accepts connections on the Unix socket and on TCP with TLS, and gives each a principal.
//!
//! - `unix`: the socket's file.
//! - `trust`: what the TLS listener shows and whom it believes; exchanged as a whole by a reload.
//! - `strangers`: connections that have not shown who they are.
//! - `places`: how many connections may be open.
//! - `connection`: those that are, and how they end with their certificate.

mod connection;
mod places;
mod strangers;
mod trust;
pub(crate) mod unix;

pub use connection::{Connection, Handle, OpenConnections};
pub use places::Places;
pub use trust::TlsState;

use crate::{
    config::{Problem, TlsListenerSettings, UnixListenerSettings},
    identity::{AuthenticationMethod, Peer, Principal},
    telemetry::{HandshakeFailure, Listener, Telemetry},
};
use arc_swap::ArcSwap;
use connection::Stream;
use rustix::{io::ioctl_fionread, net::sockopt};
use rustls_pki_types::UnixTime;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use strangers::Strangers;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The Unix socket.
    #[error("cannot listen on {path}: {reason}")]
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The TCP address.
    #[error("cannot listen on {address}: {source}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Certificates, keys or revocation lists.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Credentials(Vec<Problem>),
}

/// Open listeners. Connections go to the channel until the token is cancelled.
pub struct Listeners {
    /// Where the Unix socket is.
    pub unix: Option<PathBuf>,
    /// Where TLS is, with the port that was chosen.
    pub tls: Option<SocketAddr>,
    /// How many connections may be open on the Unix socket.
    pub unix_places: Arc<Places>,
    /// How many connections may be open over TLS.
    pub tls_places: Arc<Places>,
    unix_socket: Option<UnixListener>,
    tls_socket: Option<(TcpListener, Arc<TlsControl>)>,
    telemetry: Arc<Telemetry>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listeners")
            .field("unix", &self.unix)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Listeners {
    /// Opens what is configured, and reads certificates and keys; at most `limit` connections are open at once on each.
    pub async fn open(
        unix: Option<&UnixListenerSettings>,
        tls: Option<&TlsListenerSettings>,
        limit: u32,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Self, ListenError> {
        let tls_socket = match tls {
            None => None,
            Some(settings) => {
                let state = TlsState::read(settings).map_err(ListenError::Credentials)?;
                let failed = |source| ListenError::Tcp {
                    address: settings.address,
                    source,
                };
                let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
                Some((listener, Arc::new(TlsControl::new(state, telemetry))))
            }
        };
        // Last, so that a failure leaves no socket behind.
        let unix_socket = unix.map(unix::open).transpose()?;
        Ok(Self {
            unix: unix.map(|settings| settings.path.clone()),
            tls: tls_socket.as_ref().and_then(|(listener, _)| listener.local_addr().ok()),
            // One bound for each listener, so that neither keeps the other's callers out.
            unix_places: Arc::new(Places::new(limit)),
            tls_places: Arc::new(Places::new(limit)),
            unix_socket,
            tls_socket,
            telemetry: Arc::clone(telemetry),
        })
    }

    /// What changes on the TLS listener while it is open.
    pub fn tls_control(&self) -> Option<Arc<TlsControl>> {
        self.tls_socket.as_ref().map(|(_, control)| Arc::clone(control))
    }

    /// Accepts connections in the background until `stop`.
    pub fn accept(self, stop: &CancellationToken) -> mpsc::Receiver<Connection> {
        let (sender, connections) = mpsc::channel(ACCEPTED);
        if let Some(listener) = self.unix_socket {
            let accepting = accept_unix(listener, sender.clone(), self.unix_places, self.telemetry);
            tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        }
        if let Some((listener, control)) = self.tls_socket {
            let accepting = accept_tls(listener, control, sender, self.tls_places);
            tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        }
        connections
    }
}

/// What changes on the TLS listener while it is open.
#[derive(Debug)]
pub struct TlsControl {
    state: ArcSwap<TlsState>,
    open: Arc<OpenConnections>,
    telemetry: Arc<Telemetry>,
}

impl TlsControl {
    fn new(state: TlsState, telemetry: &Arc<Telemetry>) -> Self {
        telemetry.certificate_expires(state.expires);
        Self {
            state: ArcSwap::from_pointee(state),
            open: Arc::default(),
            telemetry: Arc::clone(telemetry),
        }
    }

    /// From now on, handshakes go by this state, and open connections are judged by it; returns how many were ended.
    pub fn replace(&self, state: TlsState) -> usize {
        self.telemetry.certificate_expires(state.expires);
        self.state.store(Arc::new(state));
        self.judge_again()
    }

    /// Judges the open connections again, by the state that is in force; returns how many were ended.
    pub fn judge_again(&self) -> usize {
        self.open.judge(&self.state.load().trust)
    }

    /// When the state in force has to be judged by again, because a revocation list will be out of date.
    pub fn next_change(&self) -> Option<SystemTime> {
        self.state.load().next_change()
    }
}

async fn accept_unix(
    listener: UnixListener,
    connections: mpsc::Sender<Connection>,
    places: Arc<Places>,
    telemetry: Arc<Telemetry>,
) {
    loop {
        let place = places.take().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let Ok(credentials) = stream.peer_cred() else { continue };
        let address = match credentials.pid() {
            Some(pid) => format!("unix:pid={pid}"),
            None => "unix".to_owned(),
        };
        let peer = Peer::new(
            Principal::of_unix_peer(&credentials),
            AuthenticationMethod::UnixPeer,
            address,
        );
        let connection = Connection::new(
            Stream::Unix(stream),
            Arc::new(peer),
            None,
            place,
            telemetry.metrics().connected(Listener::Unix),
        );
        if connections.send(connection).await.is_err() {
            return;
        }
    }
}

async fn accept_tls(
    listener: TcpListener,
    control: Arc<TlsControl>,
    connections: mpsc::Sender<Connection>,
    places: Arc<Places>,
) {
    // Whoever has not shown a certificate yet takes no connection's place, and one address cannot take all of these.
    let strangers = Arc::new(Strangers::new(HANDSHAKES, HANDSHAKES_OF_AN_ADDRESS));
    let mut crowd = Crowd::default();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let stream = Arc::new(stream);
        let (stranger, lost) = strangers.admit(address.ip(), {
            let stream = Arc::clone(&stream);
            move || ioctl_fionread(&*stream).is_ok_and(|waiting| waiting > 0)
        });
        if let Some(address) = lost {
            control.telemetry.metrics().handshake_failed(HandshakeFailure::TooMany);
            crowd.tell(address);
        }
        // Apart from the loop: a slow or silent client must not keep others waiting.
        let (control, connections, places) = (Arc::clone(&control), connections.clone(), Arc::clone(&places));
        tokio::spawn(stranger.dropped().run_until_cancelled_owned(async move {
            let shaken = async {
                // Silence is not given as long as a handshake that has begun.
                timeout(FIRST_BYTE_LIMIT, stream.readable()).await??;
                // Lets go of the other share of the stream.
                stranger.has_spoken();
                let stream = Arc::into_inner(stream).ok_or_else(|| io::Error::other("the stream is shared"))?;
                let state = control.state.load_full();
                let (stream, peer) = timeout(HANDSHAKE_LIMIT, handshake(&state, stream, address)).await??;
                Ok((stream, peer, state))
            };
            let shaken: io::Result<_> = shaken.await;
            drop(stranger);
            let metrics = control.telemetry.metrics();
            match shaken {
                Ok((stream, peer, state)) => {
                    let Some(place) = places.try_take() else {
                        metrics.handshake_failed(HandshakeFailure::Full);
                        return tracing::warn!(%address, "a TLS connection was refused: as many as may be are open");
                    };
                    let entry = control.open.enter(&peer);
                    // What was loaded in the meantime did not see this one among the open.
                    let now = control.state.load_full();
                    if !Arc::ptr_eq(&state, &now) {
                        connection::judge(&peer, &now.trust);
                    }
                    let connection = Connection::new(
                        Stream::Tls(Box::new(stream)),
                        peer,
                        Some(entry),
                        place,
                        metrics.connected(Listener::Tls),
                    );
                    let _ = connections.send(connection).await;
                }
                Err(reason) => {
                    metrics.handshake_failed(match reason.kind() {
                        io::ErrorKind::TimedOut => HandshakeFailure::Slow,
                        _ => HandshakeFailure::Refused,
                    });
                    tracing::info!(%address, %reason, "a TLS connection was refused");
                }
            }
        }));
    }
}

/// Connections that lost their place among the strangers, told now and then: a flood must not become one of log lines.
#[derive(Debug, Default)]
struct Crowd {
    dropped: u64,
    told: Option<Instant>,
}

impl Crowd {
    fn tell(&mut self, address: IpAddr) {
        self.dropped += 1;
        if self.told.is_none_or(|told| told.elapsed() >= CROWD_PAUSE) {
            let dropped = std::mem::take(&mut self.dropped);
            self.told = Some(Instant::now());
            tracing::warn!(dropped, last = %address, "too many handshakes are under way: the oldest of them were dropped");
        }
    }
}

async fn handshake(
    state: &TlsState,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<(TlsStream<TcpStream>, Arc<Peer>)> {
    stream.set_nodelay(true)?;
    // Peers that vanished are found by the kernel; idle ones are welcome to stay.
    sockopt::set_socket_keepalive(&stream, true)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&state.config));
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            tell_why(stream).await;
            return Err(error);
        }
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let (client, others) = chain
        .split_first()
        .ok_or_else(|| io::Error::other("the client gave no certificate"))?;
    // Not the verifier's answer: a resumed session has none, and its certificate may be bad by now.
    let examined = state
        .trust
        .examine(client, others, UnixTime::now())
        .map_err(io::Error::other)?;
    let peer = Peer::with_certificate(examined.principal, address.to_string(), examined.certificate);
    Ok((stream, Arc::new(peer)))
}

/// Lets the alert reach the client: closing a socket with unread bytes in it would reset the connection, and the client would
/// never learn why it was refused.
async fn tell_why(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = timeout(FAREWELL, drain).await;
}

/// Out of descriptors, say: trying again at once would spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

const CROWD_PAUSE: Duration = Duration::from_secs(1);
const ACCEPTED: usize = 64;
const HANDSHAKES: usize = 1024;
const HANDSHAKES_OF_AN_ADDRESS: usize = 512;
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(2);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

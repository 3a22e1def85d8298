//! Accepts connections on the Unix socket and on TCP with TLS, and gives each a principal.

use crate::{
    config::{TlsListenerSettings, UnixListenerSettings},
    identity::{AuthenticationMethod, Peer, Principal},
};
use rustix::net::sockopt;
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    collections::HashMap,
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

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
    /// A certificate or key.
    #[error("{path}: {reason}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// An accepted connection of an identified peer.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Arc<Peer>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
    }
}

/// Open listeners. Connections go to the channel until the token is cancelled.
pub struct Listeners {
    /// Where the Unix socket is.
    pub unix: Option<PathBuf>,
    /// Where TLS is, with the port that was chosen.
    pub tls: Option<SocketAddr>,
    unix_socket: Option<UnixListener>,
    tls_socket: Option<(TcpListener, TlsAcceptor)>,
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
    /// Opens what is configured, and reads certificates and keys.
    pub async fn open(
        unix: Option<&UnixListenerSettings>,
        tls: Option<&TlsListenerSettings>,
    ) -> Result<Self, ListenError> {
        let tls_socket = match tls {
            None => None,
            Some(settings) => {
                let config = server_config(settings)?;
                let failed = |source| ListenError::Tcp {
                    address: settings.address,
                    source,
                };
                let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
                Some((listener, TlsAcceptor::from(Arc::new(config))))
            }
        };
        // Last, so that a failure leaves no socket behind.
        let unix_socket = unix.map(open_unix).transpose()?;
        Ok(Self {
            unix: unix.map(|settings| settings.path.clone()),
            tls: tls_socket.as_ref().and_then(|(listener, _)| listener.local_addr().ok()),
            unix_socket,
            tls_socket,
        })
    }

    /// Accepts connections in the background until `stop`; at most `limit` are open at once.
    pub fn accept(self, limit: u32, stop: &CancellationToken) -> mpsc::Receiver<io::Result<Connection>> {
        let (sender, connections) = mpsc::channel(ACCEPTED);
        // One bound for each listener, so that neither keeps the other's callers out.
        let permits = || Arc::new(Semaphore::new(limit as usize));
        if let Some(listener) = self.unix_socket {
            let (sender, permits) = (sender.clone(), permits());
            tokio::spawn(
                stop.clone()
                    .run_until_cancelled_owned(accept_unix(listener, sender, permits)),
            );
        }
        if let Some((listener, acceptor)) = self.tls_socket {
            tokio::spawn(
                stop.clone()
                    .run_until_cancelled_owned(accept_tls(listener, acceptor, sender, permits())),
            );
        }
        connections
    }
}

/// Binds the socket; one that a dead gateway left behind is replaced, one that answers is not.
fn open_unix(settings: &UnixListenerSettings) -> Result<UnixListener, ListenError> {
    let path = &settings.path;
    let failed = |reason: String| ListenError::Unix {
        path: path.clone(),
        reason,
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    }
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(failed("something else is there already".to_owned()));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed("another process serves on it".to_owned()));
        }
        fs::remove_file(path).map_err(|error| failed(error.to_string()))?;
    }
    // Bound where nobody else can connect, opened to others, then moved to its place.
    let directory = path.parent().unwrap_or(Path::new("."));
    let hidden = tempdir_in(directory).map_err(|error| failed(error.to_string()))?;
    let bound = hidden.path.join("socket");
    let listener = UnixListener::bind(&bound).map_err(|error| failed(error.to_string()))?;
    fs::set_permissions(&bound, fs::Permissions::from_mode(settings.mode))
        .and_then(|()| fs::rename(&bound, path))
        .map_err(|error| failed(error.to_string()))?;
    Ok(listener)
}

/// A directory of the owner's alone, removed when dropped.
struct HiddenDirectory {
    path: PathBuf,
}

impl Drop for HiddenDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn tempdir_in(directory: &Path) -> io::Result<HiddenDirectory> {
    use std::os::unix::fs::DirBuilderExt;
    // Short, because a socket's path has at most 107 bytes.
    let path = directory.join(format!(".{:x}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(HiddenDirectory { path })
}

async fn accept_unix(
    listener: UnixListener,
    connections: mpsc::Sender<io::Result<Connection>>,
    permits: Arc<Semaphore>,
) {
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
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
        let peer = Arc::new(peer);
        let connection = Connection {
            stream: Stream::Unix(stream),
            peer,
            _permit: permit,
        };
        if connections.send(Ok(connection)).await.is_err() {
            return;
        }
    }
}

async fn accept_tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<io::Result<Connection>>,
    permits: Arc<Semaphore>,
) {
    // Whoever has not shown a certificate yet takes no connection's place, and one address cannot take all of these.
    let strangers = Arc::new(Strangers::default());
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let Some(stranger) = Strangers::admit(&strangers, address.ip()) else {
            tracing::warn!(%address, "a TLS connection was refused: too many handshakes are under way");
            continue;
        };
        // Apart from the loop: a slow or silent client must not keep others waiting.
        let (acceptor, connections, permits) = (acceptor.clone(), connections.clone(), Arc::clone(&permits));
        tokio::spawn(async move {
            let shaken = async {
                // Silence is not given as long as a handshake that has begun.
                timeout(FIRST_BYTE_LIMIT, stream.readable()).await??;
                timeout(HANDSHAKE_LIMIT, handshake(&acceptor, stream, address)).await?
            };
            let shaken: io::Result<_> = shaken.await;
            drop(stranger);
            match shaken {
                Ok((stream, peer)) => {
                    let Ok(permit) = permits.try_acquire_owned() else {
                        return tracing::warn!(%address, "a TLS connection was refused: as many as may be are open");
                    };
                    let connection = Connection {
                        stream: Stream::Tls(Box::new(stream)),
                        peer,
                        _permit: permit,
                    };
                    let _ = connections.send(Ok(connection)).await;
                }
                Err(reason) => tracing::info!(%address, %reason, "a TLS connection was refused"),
            }
        });
    }
}

/// TCP connections whose handshake is not done, by address.
#[derive(Debug, Default)]
struct Strangers(Mutex<HashMap<IpAddr, usize>>);

struct Stranger(Arc<Strangers>, IpAddr);

impl Strangers {
    fn admit(strangers: &Arc<Self>, address: IpAddr) -> Option<Stranger> {
        let mut counts = strangers.0.lock().unwrap_or_else(|lock| lock.into_inner());
        if counts.values().sum::<usize>() >= HANDSHAKES {
            return None;
        }
        let count = counts.entry(address).or_default();
        if *count >= HANDSHAKES_OF_AN_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Stranger(Arc::clone(strangers), address))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<(TlsStream<TcpStream>, Arc<Peer>)> {
    stream.set_nodelay(true)?;
    // Peers that vanished are found by the kernel; idle ones are welcome to stay.
    sockopt::set_socket_keepalive(&stream, true)?;
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => {
            tell_why(stream).await;
            return Err(error);
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| io::Error::other("the client gave no certificate"))?;
    let principal = Principal::of_certificate(certificate).map_err(io::Error::other)?;
    let peer = Peer::new(principal, AuthenticationMethod::ClientCertificate, address.to_string());
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

/// TLS 1.3 with a client certificate of a known authority, and HTTP/2.
fn server_config(settings: &TlsListenerSettings) -> Result<ServerConfig, ListenError> {
    let wrong = |path: &Path, reason: String| ListenError::Credentials {
        path: path.to_owned(),
        reason,
    };
    let certificates = read_certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.private_key)
        .map_err(|error| wrong(&settings.private_key, format!("expected a private key in PEM: {error}")))?;
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(&settings.client_authorities)? {
        authorities
            .add(certificate)
            .map_err(|error| wrong(&settings.client_authorities, format!("not a usable authority: {error}")))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong(&settings.client_authorities, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| wrong(&settings.certificate, error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| {
            wrong(
                &settings.certificate,
                format!("certificate and key do not fit: {error}"),
            )
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let wrong = |reason: String| ListenError::Credentials {
        path: path.to_owned(),
        reason,
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(format!("expected certificates in PEM: {error}")));
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(wrong("it holds no certificate in PEM".to_owned())),
        certificates => certificates,
    }
}

/// Out of descriptors, say: trying again at once would spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

const ACCEPTED: usize = 64;
const HANDSHAKES: usize = 1024;
const HANDSHAKES_OF_AN_ADDRESS: usize = 512;
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(2);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

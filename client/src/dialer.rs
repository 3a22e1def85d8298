//! Opening a connection to the gateway.

use crate::{
    client::CONNECT_TIMEOUT,
    connection::ConnectionError,
    credentials::{ALPN_HTTP2, Credentials, CredentialsError, Loaded},
    endpoint::{Address, Endpoint, HttpsAddress},
    error::Error,
    peer::{Watch, Watched},
};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Opens connections to one endpoint, each with the credentials as they are in their files at that moment.
pub(crate) struct Dialer {
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    watch: Watch,
    /// What the newest connection read from the credentials' files.
    loaded: Mutex<Option<Arc<Loaded>>>,
}

/// An open connection, ready for HTTP/2.
pub(crate) type Connection = Watched<Box<dyn Stream>>;

/// What HTTP/2 runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Dialer {
    /// An `https` endpoint needs credentials; a Unix socket does not look at them.
    pub(crate) fn new(endpoint: Endpoint, credentials: Option<Credentials>, watch: Watch) -> Result<Self, Error> {
        match (endpoint.address(), &credentials) {
            (Address::Https(_), None) => Err(CredentialsError::Missing.into()),
            _ => Ok(Self {
                endpoint,
                credentials,
                watch,
                loaded: Mutex::default(),
            }),
        }
    }

    /// Opens a connection within [`CONNECT_TIMEOUT`].
    pub(crate) async fn dial(&self) -> Result<Connection, Error> {
        let observer = self.watch.begin();
        let stream = timeout(CONNECT_TIMEOUT, self.open())
            .await
            .map_err(|_| self.no_answer())??;
        Ok(Watched::new(stream, observer))
    }

    /// Whether the credentials' files hold something else than what the newest connection was opened with.
    pub(crate) async fn is_out_of_date(&self) -> bool {
        let loaded = self.loaded().clone();
        match (&self.credentials, loaded) {
            (Some(credentials), Some(loaded)) => credentials.differ_from(&loaded).await,
            _ => false,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn no_answer(&self) -> ConnectionError {
        ConnectionError::NoAnswer {
            endpoint: self.endpoint.clone(),
        }
    }

    fn loaded(&self) -> MutexGuard<'_, Option<Arc<Loaded>>> {
        self.loaded.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    async fn open(&self) -> Result<Box<dyn Stream>, Error> {
        match self.endpoint.address() {
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).await;
                Ok(Box::new(socket.map_err(|error| {
                    ConnectionError::from_socket(&self.endpoint, path, error)
                })?))
            }
            Address::Https(address) => self.open_tls(address).await,
        }
    }

    async fn open_tls(&self, address: &HttpsAddress) -> Result<Box<dyn Stream>, Error> {
        let credentials = self.credentials.as_ref().ok_or(CredentialsError::Missing)?;
        let (config, loaded) = credentials.load().await?;
        *self.loaded() = Some(Arc::new(loaded));
        let socket = self.open_tcp(address).await?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(address.server_name().clone(), socket)
            .await
            .map_err(|error| ConnectionError::from_handshake(&self.endpoint, credentials.trust_bundle(), error))?;
        let protocol = stream.get_ref().1.alpn_protocol();
        if protocol != Some(ALPN_HTTP2) {
            let found = match protocol {
                Some(other) => format!("it chose the protocol {:?}", String::from_utf8_lossy(other)),
                None => "it chose no protocol".to_owned(),
            };
            return Err(ConnectionError::NotTheGateway {
                endpoint: self.endpoint.clone(),
                found,
            }
            .into());
        }
        Ok(Box::new(stream))
    }

    async fn open_tcp(&self, address: &HttpsAddress) -> Result<TcpStream, ConnectionError> {
        let addresses: Vec<_> = lookup_host((address.host(), address.port()))
            .await
            .map_err(|error| ConnectionError::UnknownHost {
                host: address.host().to_owned(),
                source: Arc::new(error),
            })?
            .collect();
        let network = |error| ConnectionError::from_network(&self.endpoint, error);
        let socket = TcpStream::connect(addresses.as_slice()).await.map_err(network)?;
        socket.set_nodelay(true).map_err(network)?;
        Ok(socket)
    }
}

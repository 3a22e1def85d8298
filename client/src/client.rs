//! The connection to a gateway and its service clients.

use crate::{
    connection::ConnectionError,
    credentials::Credentials,
    dialer::Dialer,
    endpoint::{Address, Endpoint},
    error::Error,
    peer::{Peer, Watch},
    transport::Transport,
    v1::{
        cluster_service_client::ClusterServiceClient, crypto_service_client::CryptoServiceClient,
        key_service_client::KeyServiceClient, object_service_client::ObjectServiceClient,
    },
};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::transport::Channel;

/// A connection to a gateway.
///
/// Clones share the connection. When it breaks, the calls under way fail and the next call opens it again.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Connects and waits until the gateway has accepted the client, for at most [`CONNECT_TIMEOUT`].
    ///
    /// An `https` endpoint needs `credentials`; over a Unix socket the gateway knows the caller by its user id, and
    /// they are not used.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] when a file is missing or wrong, [`Error::Connection`] when there is no connection, or
    /// when the gateway refuses the client's certificate.
    pub async fn connect(endpoint: Endpoint, credentials: Option<Credentials>) -> Result<Self, Error> {
        let watch = Watch::new();
        let dialer = Arc::new(Dialer::new(endpoint.clone(), credentials, watch.clone())?);
        let opened = timeout(CONNECT_TIMEOUT, async {
            let channel = open_channel(dialer.clone()).await?;
            watch.first_sign().await;
            Ok(channel)
        })
        .await
        .map_err(|_| dialer.no_answer())?;
        match (watch.peer(), opened) {
            (Peer::Alert(alert), _) => Err(ConnectionError::from_alert(&endpoint, alert).into()),
            (Peer::Gone, _) => Err(ConnectionError::Closed { endpoint }.into()),
            (_, Err(error)) => Err(error),
            (Peer::Heard | Peer::Silent, Ok(channel)) => Ok(Self {
                transport: Transport::new(channel, endpoint, watch),
            }),
        }
    }

    /// The same connection with a deadline for each call that has none of its own.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            transport: self.transport.with_deadline(deadline),
        }
    }

    /// Key rings, keys and their versions.
    pub fn keys(&self) -> KeyServiceClient<Transport> {
        KeyServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// What keys do.
    pub fn crypto(&self) -> CryptoServiceClient<Transport> {
        CryptoServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Certificates and data objects of key rings.
    pub fn objects(&self) -> ObjectServiceClient<Transport> {
        ObjectServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The connection itself, for services that are not Portcullis's own, such as gRPC health and reflection.
    pub fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// The HSM members behind the gateway.
    pub fn cluster(&self) -> ClusterServiceClient<Transport> {
        ClusterServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

/// How long opening a connection may take, until the gateway's first sign of life.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that a client takes: 16 MiB.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A channel over the dialer's connections. The URI serves for the HTTP/2 headers; where to connect is the dialer's.
async fn open_channel(dialer: Arc<Dialer>) -> Result<Channel, Error> {
    let origin = match dialer.endpoint().address() {
        Address::Unix(_) => Uri::from_static("http://localhost"),
        Address::Https(address) => address.origin().clone(),
    };
    // tonic's own TLS is not used; it would refuse an `https` URI here if another crate switched it on.
    let target = tonic::transport::Endpoint::from(Uri::from_static("http://localhost")).origin(origin);
    let connector = tower::service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    target
        .connect_with_connector(connector)
        .await
        .map_err(|error| Error::from_chain(&error))
}

//! The connection to a gateway, and what is done over it.

use crate::{
    credentials::Credentials,
    endpoint::Endpoint,
    error::Error,
    link::Links,
    pipeline::Pipeline,
    retry::{Repeat, Retry},
    transport::Transport,
    v1::{
        cluster_service_client::ClusterServiceClient, crypto_service_client::CryptoServiceClient,
        key_service_client::KeyServiceClient, object_service_client::ObjectServiceClient,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

/// A connection to a gateway.
///
/// The methods named after the API's calls are the way to make them. Each has a deadline ([`DEFAULT_DEADLINE`], unless
/// [`with_deadline`](Self::with_deadline) says otherwise), and is made again within it where that is safe and may help
/// ([`Retry`]). Uses of keys ([`sign`](Self::sign), [`encrypt`](Self::encrypt), …) of all clones and tasks share one stream, which
/// costs the gateway and the caller a part of what a call of its own does; a stream that ends is opened again. What they send is
/// given its checksum, and what they receive is checked. Changes ([`create_key`](Self::create_key), …) get a `request_id` if
/// they have none, so that no key is made twice.
///
/// Whoever drops the future of a call no longer gets its answer; the gateway may do the work nevertheless.
///
/// Clones share the connection. It is opened again when it breaks, with the certificate as it is in its files then; and it is
/// replaced while it is in use when those files change.
///
/// [`keys`](Self::keys), [`crypto`](Self::crypto), [`objects`](Self::objects) and [`cluster`](Self::cluster) are the generated
/// clients: each call goes to the gateway once and as it is, and has a deadline only if one was set. They are for batches, for
/// programs that must see every refusal, and for tests.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    pipeline: Arc<Pipeline>,
    deadline: Duration,
    retry: Retry,
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
        let transport = Transport::new(Links::open(endpoint, credentials).await?);
        Ok(Self {
            pipeline: Arc::new(Pipeline::over(transport.clone())),
            transport,
            deadline: DEFAULT_DEADLINE,
            retry: Retry::default(),
        })
    }

    /// The same connection with another deadline for each call, all its attempts included. The generated clients give it
    /// to calls that have none of their own.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            transport: self.transport.with_deadline(deadline),
            deadline,
            ..self
        }
    }

    /// The same connection with another number of attempts for each call.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The same connection with a stream of its own for uses of keys. A stream has at most as many operations under way as
    /// [`PIPELINED_OPERATIONS`]; beyond that, callers wait for each other.
    #[must_use]
    pub fn with_own_stream(self) -> Self {
        Self {
            pipeline: Arc::new(Pipeline::over(Transport::new(self.transport.links()))),
            ..self
        }
    }

    /// Key rings, keys and their versions: the generated client.
    pub fn keys(&self) -> KeyServiceClient<Transport> {
        KeyServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// What keys do: the generated client.
    pub fn crypto(&self) -> CryptoServiceClient<Transport> {
        CryptoServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Certificates and data objects of key rings: the generated client.
    pub fn objects(&self) -> ObjectServiceClient<Transport> {
        ObjectServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The HSM members behind the gateway: the generated client.
    pub fn cluster(&self) -> ClusterServiceClient<Transport> {
        ClusterServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The connection itself, for services that are not Portcullis's own, such as gRPC health and reflection.
    pub fn transport(&self) -> Transport {
        self.transport.clone()
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Makes attempts at a call within its deadline.
    pub(crate) async fn attempts<T, F: Future<Output = Result<T, Error>>>(
        &self,
        repeat: Repeat,
        mut attempt: impl FnMut(Instant) -> F,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.deadline;
        self.retry.run(deadline, repeat, || attempt(deadline)).await
    }
}

/// Makes a call of its own, and waits for its answer until the deadline.
pub(crate) async fn unary<M, T, F: Future<Output = Result<Response<T>, Status>>>(
    message: M,
    deadline: Instant,
    call: impl FnOnce(Request<M>) -> F,
) -> Result<T, Error> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    match timeout_at(deadline, call(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Error::TimedOut(None)),
    }
}

/// How long opening a connection may take, until the gateway's first sign of life.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take, all its attempts included, where nothing else was said.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// How many operations of a stream may be under way: as many as a gateway takes where its configuration says nothing.
pub const PIPELINED_OPERATIONS: usize = 256;

/// The largest answer that a client takes: 16 MiB.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

//! One connection to the gateway, with a runtime of its own.
//!
//! Nothing runs between calls: whoever has the connection drives everything on it until its answer is there. So a connection that broke
//! meanwhile is noticed by the next call.

use super::endpoint::{Address, Endpoint};
use crate::{config::CredentialFiles, error::Error};
use cryptoki_sys::{CKR_DEVICE_ERROR, CKR_GENERAL_ERROR};
use hyper_util::rt::TokioIo;
use portcullis_proto::v1::{
    OperationError, PipelineRequest, PipelineResponse, crypto_service_client::CryptoServiceClient,
    pipeline_request::Request as Asked, pipeline_response::Response as Answer,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs,
    future::Future,
    io,
    net::ToSocketAddrs,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime::Runtime,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

/// An open connection.
pub(super) struct Connection {
    runtime: Runtime,
    channel: Channel,
    stream: Option<Stream>,
    descriptor: RawFd,
    used: u64,
}

/// The stream of operations on a connection. One operation at a time is on it.
struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    answers: Streaming<PipelineResponse>,
}

/// Why a call has no result.
pub(super) enum Failure {
    /// The gateway refused it, or says to come back later.
    Answered(Answered),
    /// The connection is of no use any more. What was asked may have been done.
    Broken(String),
    /// There was no answer in time.
    Late,
    /// There will be no connection before somebody repairs the set-up.
    Misconfigured(String),
}

/// What the gateway answered instead of a result.
pub(super) struct Answered {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) retry_delay: Option<Duration>,
}

impl Connection {
    /// Opens a connection.
    pub(super) fn open(
        endpoint: &Endpoint,
        credentials: Option<&CredentialFiles>,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Failure::Broken(format!("no runtime: {error}")))?;
        let opened = match endpoint.address() {
            Address::Unix(path) => runtime.block_on(within(limit, async {
                let socket = UnixStream::connect(path)
                    .await
                    .map_err(|error| refused(endpoint, &error))?;
                let descriptor = socket.as_raw_fd();
                let origin = http::Uri::from_static("http://localhost");
                Ok((channel(TokioIo::new(socket), origin).await?, descriptor))
            })),
            Address::Https {
                host,
                port,
                name,
                origin,
            } => {
                // Both before the runtime is entered: an asynchronous look-up, or file, would need a thread.
                let config = tls_config(credentials)?;
                let addresses: Vec<_> = (host.as_str(), *port)
                    .to_socket_addrs()
                    .map_err(|error| refused(endpoint, &error))?
                    .collect();
                runtime.block_on(within(limit, async {
                    let socket = TcpStream::connect(addresses.as_slice())
                        .await
                        .map_err(|error| refused(endpoint, &error))?;
                    socket.set_nodelay(true).map_err(|error| refused(endpoint, &error))?;
                    let descriptor = socket.as_raw_fd();
                    let stream = TlsConnector::from(Arc::new(config))
                        .connect(name.clone(), socket)
                        .await
                        .map_err(|error| in_handshake(endpoint, &error))?;
                    Ok((channel(TokioIo::new(stream), origin.clone()).await?, descriptor))
                }))
            }
        };
        let (channel, descriptor) = opened?;
        Ok(Self {
            runtime,
            channel,
            stream: None,
            descriptor,
            used: 0,
        })
    }

    /// The socket's descriptor, for a child that must close its copy.
    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Performs an operation on the stream, which is opened with it if it is not there.
    pub(super) fn perform(&mut self, asked: Asked, deadline: Instant) -> Result<Answer, Failure> {
        self.used += 1;
        let left = deadline.saturating_duration_since(Instant::now());
        let request = PipelineRequest {
            id: self.used,
            timeout: (left - (left / 16).min(WAY_BACK)).try_into().ok(),
            request: Some(asked),
        };
        let (channel, place) = (self.channel.clone(), &mut self.stream);
        self.runtime.block_on(within(left, async {
            let id = request.id;
            // It is put back when the answer is there: a stream that ended with a status takes nothing more.
            let mut stream = match place.take() {
                Some(stream) => {
                    let sent = stream.requests.try_send(request);
                    sent.map_err(|_| Failure::Broken("the stream had ended".into()))?;
                    stream
                }
                None => {
                    let (requests, messages) = mpsc::channel(1);
                    // Sent before the stream is there, so that it travels with its beginning. There is room for one.
                    drop(requests.try_send(request));
                    let mut service = CryptoServiceClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
                    let answers = service.pipeline(ReceiverStream::new(messages)).await?.into_inner();
                    Stream { requests, answers }
                }
            };
            let answer = loop {
                match stream.answers.message().await? {
                    Some(PipelineResponse { id: answered, response }) if answered == id => break response,
                    Some(_) => {}
                    None => return Err(Failure::Broken("the stream ended".into())),
                }
            };
            *place = Some(stream);
            match answer {
                Some(Answer::Error(error)) => Err(Failure::from(error)),
                Some(answer) => Ok(answer),
                None => Err(Failure::Broken(
                    "the gateway's answer is of a kind that is not known here".into(),
                )),
            }
        }))
    }

    /// Makes a call of its own.
    pub(super) fn call<T, F>(&self, deadline: Instant, call: impl FnOnce(Channel) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let left = deadline.saturating_duration_since(Instant::now());
        let call = call(self.channel.clone());
        self.runtime
            .block_on(within(left, async { Ok(call.await?.into_inner()) }))
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        Self::from(Answered {
            reason: error.reason,
            message: error.message,
            retry_delay: error.retry_delay.and_then(|delay| delay.try_into().ok()),
        })
    }
}

impl From<Answered> for Failure {
    fn from(answered: Answered) -> Self {
        // These are the connection's: another one is made to whoever serves then, with the certificate that is in its file then.
        match answered.reason.as_str() {
            "GATEWAY_STOPPING" | "CERTIFICATE_EXPIRED" | "CERTIFICATE_REVOKED" | "CERTIFICATE_UNTRUSTED" => {
                Self::Broken(format!("the gateway: {}: {}", answered.reason, answered.message))
            }
            _ => Self::Answered(answered),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        match details.error_info() {
            Some(info) => Self::from(Answered {
                reason: info.reason.clone(),
                message: status.message().to_owned(),
                retry_delay: details.retry_info().and_then(|info| info.retry_delay),
            }),
            // Made here, or by something between here and the gateway.
            None if status.code() == Code::DeadlineExceeded => Self::Late,
            None if was_refused(&status) => {
                Self::Misconfigured(format!("the gateway refused the certificate: {}", words(&status)))
            }
            None => Self::Broken(format!("{:?}: {}", status.code(), words(&status))),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(answered) => Self::from_reason(&answered.reason, &answered.message),
            Failure::Broken(detail) => Self::new(CKR_DEVICE_ERROR, detail),
            Failure::Late => Self::new(CKR_DEVICE_ERROR, "the gateway did not answer in time"),
            Failure::Misconfigured(detail) => Self::new(CKR_GENERAL_ERROR, detail),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or(Err(Failure::Late))
}

/// A channel over one connection. Where that breaks, it is not opened again: the pool opens another one.
async fn channel<S>(stream: TokioIo<S>, origin: http::Uri) -> Result<Channel, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    tonic::transport::Endpoint::from(http::Uri::from_static("http://localhost"))
        .origin(origin)
        .connect_with_connector(connector)
        .await
        .map_err(|error| Failure::Broken(format!("no HTTP/2 connection: {error}")))
}

fn refused(endpoint: &Endpoint, error: &std::io::Error) -> Failure {
    Failure::Broken(format!("cannot connect to {endpoint}: {error}"))
}

/// What TLS says of certificates is not changed by trying again; that the connection ended may be.
fn in_handshake(endpoint: &Endpoint, error: &std::io::Error) -> Failure {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let message = format!("no TLS connection to {endpoint}: {error}");
    match is_tls {
        true => Failure::Misconfigured(message),
        false => Failure::Broken(message),
    }
}

/// Whether the other end ended the TLS connection for the certificate of this one. In TLS 1.3 that comes after the handshake, and what
/// carries HTTP/2 keeps the words of it alone.
fn was_refused(status: &Status) -> bool {
    let words = words(status);
    let alert = words.split("received fatal alert: ").nth(1);
    alert.is_some_and(|alert| ALERTS.iter().any(|known| alert.starts_with(known)))
}

fn words(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(one) = cause {
        words = format!("{words}: {one}");
        cause = one.source();
    }
    words
}

fn tls_config(files: Option<&CredentialFiles>) -> Result<ClientConfig, Failure> {
    let files = files.ok_or_else(|| Failure::Misconfigured("an https endpoint needs credentials".into()))?;
    let content = |path: &Path| Failure::Misconfigured(format!("{} does not hold what it should", path.display()));
    let chain = certificates(&files.certificate)?;
    let text = Zeroizing::new(read(&files.private_key)?);
    // The parser's error may quote the file, so it goes no further.
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| content(&files.private_key))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.trust_bundle)? {
        roots.add(certificate).map_err(|_| content(&files.trust_bundle))?;
    }
    let unusable = |error: rustls::Error| {
        let path = files.certificate.display();
        Failure::Misconfigured(format!("the certificate in {path} cannot be used: {error}"))
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = read(path)?;
    let certificates: Option<Vec<_>> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().ok();
    let certificates = certificates.filter(|certificates| !certificates.is_empty());
    certificates.ok_or_else(|| Failure::Misconfigured(format!("{} holds no certificates in PEM", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Misconfigured(format!("cannot read {}: {error}", path.display())))
}

/// The alerts about certificates (RFC 8446, section 6.2).
const ALERTS: &[&str] = &[
    "UnknownCA",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateExpired",
    "CertificateRevoked",
    "CertificateUnknown",
    "CertificateRequired",
    "AccessDenied",
];

const WAY_BACK: Duration = Duration::from_millis(100);

/// A page of keys with many versions is long.
pub(super) const LARGEST_ANSWER: usize = 64 << 20;

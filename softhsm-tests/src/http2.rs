//! HTTP/2 without a client of gRPC: calls that keep no deadline of their own, requests that never end, connections that do not
//! hear what the gateway says.

use crate::{Identity, SHORT};
use h2::{
    Reason, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use prost::bytes::Bytes;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, net::SocketAddr, path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, copy, duplex, split},
    net::{TcpSocket, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Status, codegen::http};

/// A connection.
pub struct Http2 {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose request is not complete.
pub struct Begun {
    answer: ResponseFuture,
    request: SendStream<Bytes>,
}

impl Http2 {
    /// Over a gateway's Unix socket.
    pub async fn over_socket(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.expect("a connection");
        Self::over(stream, WINDOW).await
    }

    /// Over a gateway's Unix socket; takes no byte of any answer.
    pub async fn that_takes_nothing(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.expect("a connection");
        Self::over(stream, 0).await
    }

    /// Over TLS; does not hear that it is to end (GOAWAY), and answers no PING.
    pub async fn that_does_not_hear(address: SocketAddr, identity: &Identity) -> Self {
        let (stream, gateway) = duplex(1 << 16);
        let (mut from, mut to) = split(tls(address, identity, None).await);
        let (mut requests, answers) = split(stream);
        tokio::spawn(async move { copy(&mut requests, &mut to).await });
        tokio::spawn(async move {
            let mut answers = answers;
            while let Ok(Some((head, payload))) = read_frame(&mut from).await {
                if matches!(head[3], GOAWAY | PING) {
                    continue;
                }
                let frame = [&head[..], &payload].concat();
                if answers.write_all(&frame).await.is_err() {
                    break;
                }
            }
            let _ = answers.shutdown().await;
        });
        Self::over(gateway, WINDOW).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, window: u32) -> Self {
        let mut builder = Builder::new();
        builder.initial_window_size(window);
        let handshake: Result<(_, Connection<_, Bytes>), _> = builder.handshake(stream).await;
        let (requests, connection) = handshake.expect("HTTP/2");
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Begins a call of a method, such as `portcullis.v1.KeyService/GetKey`, with a `grpc-timeout`.
    pub async fn begin(&self, method: &str, timeout: Option<&str>) -> Result<Begun, h2::Error> {
        let mut request = http::Request::post(format!("http://localhost/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let request = request.body(()).expect("a request");
        let mut requests = self.requests.clone().ready().await?;
        let (answer, request) = requests.send_request(request, false)?;
        Ok(Begun { answer, request })
    }

    /// Makes a call; its status.
    pub async fn call(&self, method: &str, message: &[u8], timeout: Option<&str>) -> Result<Status, h2::Error> {
        let mut call = self.begin(method, timeout).await?;
        call.send(&framed(message), true);
        call.status().await
    }

    /// Waits until the gateway has closed the connection.
    pub async fn closed(self) {
        drop(self.requests);
        let ended = timeout(crate::LONG, self.connection).await;
        let _ = ended.expect("the connection stays open").expect("no panic");
    }
}

impl Begun {
    /// Sends bytes of the request.
    pub fn send(&mut self, bytes: &[u8], is_all: bool) {
        self.request
            .send_data(Bytes::copy_from_slice(bytes), is_all)
            .expect("the request goes on");
    }

    /// How the call ends.
    pub async fn status(self) -> Result<Status, h2::Error> {
        // Kept until then: a request that is dropped is reset.
        let _request = self.request;
        let answer = timeout(crate::LONG, self.answer).await.expect("an answer")?;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return Ok(status);
        }
        let mut body = answer.into_body();
        while let Some(data) = timeout(crate::LONG, body.data()).await.expect("an answer that goes on") {
            let length = match data {
                // What gRPC makes of a stream that was ended without an error.
                Err(error) if error.reason() == Some(Reason::NO_ERROR) => break,
                data => data?.len(),
            };
            body.flow_control().release_capacity(length)?;
        }
        let trailers = timeout(SHORT, body.trailers())
            .await
            .expect("trailers")?
            .expect("trailers");
        Ok(Status::from_header_map(&trailers).expect("a status"))
    }
}

/// A message with its prefix, as a request's body has it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// A connection by TLS, with a receive buffer of so many bytes.
pub async fn tls(address: SocketAddr, identity: &Identity, buffer: Option<u32>) -> TlsStream<tokio::net::TcpStream> {
    let read = |path: &Path| CertificateDer::from_pem_file(path).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(identity.private_key()).expect("a private key");
    let mut authorities = RootCertStore::empty();
    authorities.add(read(identity.trust_bundle())).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(authorities)
        .with_client_auth_cert(vec![read(&identity.certificate())], key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(buffer) = buffer {
        socket.set_recv_buffer_size(buffer).expect("a buffer");
    }
    let stream = socket.connect(address).await.expect("a connection");
    let name = ServerName::from(address.ip());
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.expect("a TLS connection")
}

/// A frame's head and payload (RFC 9113, section 4.1); `None` at the end.
async fn read_frame<S: AsyncRead + Unpin>(from: &mut ReadHalf<S>) -> io::Result<Option<([u8; 9], Vec<u8>)>> {
    let mut head = [0; 9];
    if let Err(error) = from.read_exact(&mut head).await {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(None),
            _ => Err(error),
        };
    }
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await?;
    Ok(Some((head, payload)))
}

const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u32 = 1 << 20;

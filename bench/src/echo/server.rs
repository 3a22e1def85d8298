//! The process that answers: tonic's server with a codec that takes bytes as they are.

use super::Question;
use crate::helper::Questions;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{Request, Response};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::Ipv4Addr,
    path::Path,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService},
    transport::{Server, server::Connected},
};
use tower::{Service, service_fn};

/// Answers questions until there are no more.
pub(crate) fn serve() -> io::Result<()> {
    let (_, mut questions) = Questions::begin()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let echo = Echo::default();
    while let Some(question) = questions.next()? {
        match question {
            Question::ListenUnix { path } => {
                let listening = echo.listen_unix(&runtime, &path);
                questions.answer(listening.map(|()| 0_u16).map_err(|error| error.to_string()))?;
            }
            Question::ListenTls {
                certificate,
                private_key,
                client_authority,
            } => {
                let listening = echo.listen_tls(&runtime, &certificate, &private_key, &client_authority);
                questions.answer(listening.map_err(|error| error.to_string()))?;
            }
            Question::Answer { method, message } => {
                let message = hex::decode(message).map_err(|error| error.to_string());
                questions.answer(message.map(|message| echo.answer(&method, message.into())))?;
            }
        }
    }
    runtime.shutdown_background();
    Ok(())
}

/// Answers the methods of `CryptoService` without reading more of a request than its id.
#[derive(Clone, Default)]
struct Echo {
    answers: Arc<RwLock<HashMap<String, Bytes>>>,
}

impl Echo {
    fn answer(&self, method: &str, message: Bytes) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.insert(format!("/{}/{method}", Self::NAME), message);
    }

    fn answer_to(&self, path: &str) -> Option<Bytes> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.get(path).cloned()
    }

    fn listen_unix(&self, runtime: &Runtime, path: &Path) -> io::Result<()> {
        let _inside = runtime.enter();
        let listener = UnixListener::bind(path)?;
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if sender.send(Ok(Connection(Box::pin(socket)))).await.is_err() {
                    return;
                }
            }
        });
        self.serve(connections);
        Ok(())
    }

    fn listen_tls(
        &self,
        runtime: &Runtime,
        certificate: &str,
        private_key: &str,
        client_authority: &str,
    ) -> io::Result<u16> {
        let _inside = runtime.enter();
        let config = tls(certificate, private_key, client_authority).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = TcpListener::from_std(listener)?;
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if socket.set_nodelay(true).is_ok()
                        && let Ok(stream) = acceptor.accept(socket).await
                    {
                        let _ = sender.send(Ok(Connection(Box::pin(stream)))).await;
                    }
                });
            }
        });
        self.serve(connections);
        Ok(port)
    }

    fn serve(&self, connections: mpsc::Receiver<io::Result<Connection>>) {
        let server = Server::builder().add_service(self.clone());
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(connections)));
    }
}

fn tls(
    certificate: &str,
    private_key: &str,
    client_authority: &str,
) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(client_authority.as_bytes())?)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(private_key.as_bytes())?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

impl NamedService for Echo {
    const NAME: &'static str = "portcullis.v1.CryptoService";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let echo = self.clone();
        Box::pin(async move {
            let Some(answer) = echo.answer_to(&path) else {
                return Ok(Status::unimplemented("nothing is known to answer").into_http());
            };
            let mut grpc = Grpc::new(AsItIs);
            let response = if path.ends_with("/Pipeline") {
                let method = service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
                    let (echo, path) = (echo.clone(), path.clone());
                    // What is to be answered changes while a stream is open.
                    let answers = request.into_inner().map(move |message| {
                        let answer = echo.answer_to(&path).unwrap_or_default();
                        Ok(with_id(&message?, &answer))
                    });
                    async move { Ok::<_, Status>(tonic::Response::new(answers)) }
                });
                grpc.streaming(method, request).await
            } else {
                let method = service_fn(move |_: tonic::Request<Bytes>| {
                    let answer = answer.clone();
                    async move { Ok::<_, Status>(tonic::Response::new(answer)) }
                });
                grpc.unary(method, request).await
            };
            Ok(response)
        })
    }
}

/// The answer behind the field `id` of the request, which is its first: a varint (protobuf encoding).
fn with_id(request: &[u8], answer: &[u8]) -> Bytes {
    let id = match request.first() {
        Some(&ID_FIELD) => {
            let more = request[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
            request.get(..more + 2).unwrap_or_default()
        }
        _ => &[],
    };
    let mut message = BytesMut::with_capacity(id.len() + answer.len());
    message.extend_from_slice(id);
    message.extend_from_slice(answer);
    message.freeze()
}

/// Field 1, a varint.
const ID_FIELD: u8 = 0x08;

/// Messages as bytes.
#[derive(Clone, Copy)]
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A connection over either transport.
struct Connection(Pin<Box<dyn Socket>>);

trait Socket: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Socket for S {}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_id_of_its_request() {
        assert_eq!(with_id(&[0x08, 5, 0x1a, 9], &[1, 2])[..], [0x08, 5, 1, 2]);
        assert_eq!(with_id(&[0x08, 0xac, 0x02, 0x1a], &[1])[..], [0x08, 0xac, 0x02, 1]);
        assert_eq!(with_id(&[0x1a, 0], &[1])[..], [1]);
        assert_eq!(with_id(&[], &[1])[..], [1]);
        assert_eq!(with_id(&[0x08, 0x80], &[1])[..], [1]);
    }
}

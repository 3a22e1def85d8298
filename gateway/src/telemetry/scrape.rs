//! The endpoint that Prometheus reads: `GET /metrics` over plain HTTP/1.1, on loopback or a Unix socket.
//!
//! It has no authentication, so it is bounded: few connections, little time, one request each.

use crate::{
    config::{PrometheusAddress, UnixListenerSettings},
    listener,
};
use http::{Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use std::{convert::Infallible, fs, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// An open endpoint, until it is closed or dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    stop: CancellationToken,
    socket: Option<PathBuf>,
    _guard: DropGuard,
}

impl Endpoint {
    /// Opens it and serves.
    pub(super) async fn open(address: &PrometheusAddress, registry: Registry) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let socket = match address {
            PrometheusAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                tracing::info!(%address, "metrics are served");
                spawn(&stop, async move {
                    loop {
                        match listener.accept().await {
                            Ok((stream, _)) => serve(stream, &registry, &permits),
                            Err(_) => sleep(ACCEPT_PAUSE).await,
                        }
                    }
                });
                None
            }
            PrometheusAddress::Unix(path, mode) => {
                let socket = UnixListenerSettings {
                    path: path.clone(),
                    mode: *mode,
                };
                let listener = listener::unix::open(&socket).map_err(io::Error::other)?;
                tracing::info!(path = %path.display(), "metrics are served");
                spawn(&stop, async move {
                    loop {
                        match listener.accept().await {
                            Ok((stream, _)) => serve(stream, &registry, &permits),
                            Err(_) => sleep(ACCEPT_PAUSE).await,
                        }
                    }
                });
                Some(path.clone())
            }
        };
        Ok(Self {
            _guard: stop.clone().drop_guard(),
            stop,
            socket,
        })
    }

    /// Closes it and takes its socket away.
    pub(super) fn close(&self) {
        self.stop.cancel();
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

fn spawn(stop: &CancellationToken, accept: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
}

/// Answers one request; beyond so many at once, none.
fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, registry: &Registry, permits: &Arc<Semaphore>) {
    let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
        return;
    };
    let registry = registry.clone();
    tokio::spawn(async move {
        let service = service_fn(|request: Request<Incoming>| {
            let registry = registry.clone();
            async move { Ok::<_, Infallible>(answer(&request, registry).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .max_buf_size(MOST_OF_A_REQUEST)
            .serve_connection(TokioIo::new(stream), service);
        // Whoever goes away or takes too long has no metrics; there is nobody to tell.
        let _ = timeout(PATIENCE, connection).await;
        drop(permit);
    });
}

async fn answer(request: &Request<Incoming>, registry: Registry) -> Response<String> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are only to be read\n");
    }
    // Apart, because what is asked may take a lock or a system call.
    let gathered = tokio::task::spawn_blocking(move || TextEncoder::new().encode_to_string(&registry.gather()));
    match gathered.await {
        Ok(Ok(text)) => {
            let mut response = Response::new(text);
            let format = header::HeaderValue::from_static(TEXT_FORMAT);
            response.headers_mut().insert(header::CONTENT_TYPE, format);
            response
        }
        _ => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be shown\n"),
    }
}

fn plain(status: StatusCode, words: &str) -> Response<String> {
    let mut response = Response::new(words.to_owned());
    *response.status_mut() = status;
    response
}

const CONNECTIONS: usize = 8;
const MOST_OF_A_REQUEST: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

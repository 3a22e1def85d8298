//! The channel under the service clients.

use crate::{
    connection::ConnectionError,
    endpoint::Endpoint,
    error::Error,
    peer::{Peer, Watch},
};
use http::HeaderValue;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tonic::{body::Body, codegen::StdError, transport::Channel};
use tower::Service;

/// The channel under the service clients: one HTTP/2 connection, opened again when it breaks.
///
/// Gives each call the client's default deadline unless it has one of its own, and a failed connection the reason that
/// the gateway gave. Clones share the connection.
#[derive(Clone)]
pub struct Transport {
    channel: Channel,
    endpoint: Endpoint,
    watch: Watch,
    deadline: Option<HeaderValue>,
}

impl Transport {
    pub(crate) fn new(channel: Channel, endpoint: Endpoint, watch: Watch) -> Self {
        Self {
            channel,
            endpoint,
            watch,
            deadline: None,
        }
    }

    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        // tonic knows how the header is written.
        let mut request = tonic::Request::new(());
        request.set_timeout(deadline.min(LONGEST_DEADLINE));
        let deadline = request.metadata().as_ref().get(GRPC_TIMEOUT).cloned();
        Self { deadline, ..self }
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx).map_err(StdError::from)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(deadline) = &self.deadline {
            request
                .headers_mut()
                .entry(GRPC_TIMEOUT)
                .or_insert_with(|| deadline.clone());
        }
        let call = self.channel.call(request);
        let (endpoint, watch) = (self.endpoint.clone(), self.watch.clone());
        Box::pin(async move {
            call.await.map_err(|error| match watch.peer() {
                Peer::Alert(alert) => Error::from(ConnectionError::from_alert(&endpoint, alert)).into(),
                Peer::Silent | Peer::Heard | Peer::Gone => StdError::from(error),
            })
        })
    }
}

/// About three years, far below what the header cannot hold.
const LONGEST_DEADLINE: Duration = Duration::from_secs(100_000_000);

const GRPC_TIMEOUT: &str = "grpc-timeout";

//! The channel under the service clients.

use crate::{
    connection::ConnectionError,
    error::Error,
    link::{Link, Links},
    peer::Peer,
};
use http::HeaderValue;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;
use tonic::{body::Body, codegen::StdError};
use tower::Service;

/// The channel under the service clients: one HTTP/2 connection, opened again when it breaks, and replaced when the
/// client's certificate was renewed.
///
/// Gives each call the client's default deadline unless it has one of its own, and a failed connection the reason that
/// the gateway gave. Clones share the connection.
#[derive(Clone)]
pub struct Transport {
    links: Arc<Links>,
    news: watch::Receiver<Link>,
    link: Link,
    deadline: Option<HeaderValue>,
}

impl Transport {
    pub(crate) fn new(links: Arc<Links>) -> Self {
        let mut news = links.subscribe();
        let link = news.borrow_and_update().clone();
        Self {
            links,
            news,
            link,
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

    pub(crate) fn links(&self) -> Arc<Links> {
        Arc::clone(&self.links)
    }

    /// Goes over to the newest link; says whether that is another one.
    pub(crate) fn follow(&mut self) -> bool {
        // The sender lives in `self`, so this cannot fail.
        let replaced = self.news.has_changed().unwrap_or(false);
        if replaced {
            self.link = self.news.borrow_and_update().clone();
        }
        replaced
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.follow();
        self.link.channel.poll_ready(cx).map_err(StdError::from)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(deadline) = &self.deadline {
            request
                .headers_mut()
                .entry(GRPC_TIMEOUT)
                .or_insert_with(|| deadline.clone());
        }
        let call = self.link.channel.call(request);
        let (endpoint, watch) = (self.links.endpoint().clone(), self.link.watch.clone());
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

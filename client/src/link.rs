//! A client's connection, and its replacement while it is in use.

use crate::{
    client::CONNECT_TIMEOUT,
    connection::ConnectionError,
    credentials::Credentials,
    dialer::Dialer,
    endpoint::{Address, Endpoint},
    error::Error,
    peer::{Peer, Watch},
};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

/// An HTTP/2 connection that is opened again when it breaks, and the watch over its peer.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) channel: Channel,
    pub(crate) watch: Watch,
    dialer: Arc<Dialer>,
}

impl Link {
    /// Connects and waits until the gateway has spoken, for at most [`CONNECT_TIMEOUT`].
    async fn open(endpoint: &Endpoint, credentials: Option<&Credentials>) -> Result<Self, Error> {
        let watch = Watch::new();
        let dialer = Arc::new(Dialer::new(endpoint.clone(), credentials.cloned(), watch.clone())?);
        let opened = timeout(CONNECT_TIMEOUT, async {
            let channel = open_channel(dialer.clone()).await?;
            watch.first_sign().await;
            Ok(channel)
        })
        .await
        .map_err(|_| dialer.no_answer())?;
        match (watch.peer(), opened) {
            (Peer::Alert(alert), _) => Err(ConnectionError::from_alert(endpoint, alert).into()),
            (Peer::Gone, _) => Err(ConnectionError::Closed {
                endpoint: endpoint.clone(),
            }
            .into()),
            (_, Err(error)) => Err(error),
            (Peer::Heard | Peer::Silent, Ok(channel)) => Ok(Self { channel, watch, dialer }),
        }
    }
}

/// The link that all clones of a client share.
pub(crate) struct Links {
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    current: watch::Sender<Link>,
}

impl Links {
    /// Opens the first link. Where there is a certificate, the link is replaced when its files have changed.
    pub(crate) async fn open(endpoint: Endpoint, credentials: Option<Credentials>) -> Result<Arc<Self>, Error> {
        let link = Link::open(&endpoint, credentials.as_ref()).await?;
        let over_tls = matches!(endpoint.address(), Address::Https(_));
        let links = Arc::new(Self {
            endpoint,
            credentials,
            current: watch::Sender::new(link),
        });
        if over_tls {
            tokio::spawn(renew(Arc::downgrade(&links)));
        }
        Ok(links)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The present link, and all that come after it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Link> {
        self.current.subscribe()
    }

    /// Puts a new link into the place of one whose certificate was renewed. The old one ends when its calls are done, and
    /// stays where the new one is not accepted.
    async fn replace_if_renewed(&self) -> Result<(), Error> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let dialer = self.current.borrow().dialer.clone();
        if dialer.is_out_of_date().await {
            let link = Link::open(&self.endpoint, Some(credentials)).await?;
            self.current.send_replace(link);
        }
        Ok(())
    }
}

/// Looks at the certificate's files for as long as there is a client.
async fn renew(links: Weak<Links>) {
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        let Some(links) = links.upgrade() else { return };
        pause = match links.replace_if_renewed().await {
            Ok(()) => LOOK,
            // Half of the files may be in their places, or the gateway does not know the authority yet.
            Err(_) => (2 * pause).min(LONGEST_PAUSE),
        };
    }
}

/// A channel over the dialer's connections. The URI serves for the HTTP/2 headers; where to connect is the dialer's.
async fn open_channel(dialer: Arc<Dialer>) -> Result<Channel, Error> {
    let origin = match dialer.endpoint().address() {
        Address::Unix(_) => Uri::from_static("http://localhost"),
        Address::Https(address) => address.origin().clone(),
    };
    // tonic's own TLS is not used; it would refuse an `https` URI here if another crate switched it on.
    let target = tonic::transport::Endpoint::from(Uri::from_static("http://localhost"))
        .origin(origin)
        .http2_keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN);
    let connector = tower::service_fn(move |_: Uri| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    target
        .connect_with_connector(connector)
        .await
        .map_err(|error| Error::from_chain(&error))
}

/// How often the files of a certificate are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The longest time between two attempts to use new files.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection with calls under way on which nothing came for so long is asked for a sign of life.
const PING_AFTER: Duration = Duration::from_secs(15);

/// How long that sign may take: then the connection is dead, and its calls fail.
const PONG_WITHIN: Duration = Duration::from_secs(10);

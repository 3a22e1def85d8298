//! The way through a gateway: connections, keys, and callers.

mod caller;
pub(crate) mod keys;
mod request;

pub(crate) use caller::{Caller, told};
pub(crate) use request::{Proven, Request};

use crate::{
    error::Error,
    operation::{Mode, Transport},
};
use portcullis_client::{Client, Credentials, Endpoint, Retry};
use std::time::Duration;

/// Where a gateway listens, and who asks it.
#[derive(Debug, Clone)]
pub struct Address {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The client's certificate, for mTLS.
    pub credentials: Option<Credentials>,
}

impl Address {
    pub(crate) fn transport(&self) -> Transport {
        if self.endpoint.to_string().starts_with("unix:") {
            Transport::Unix
        } else {
            Transport::Mtls
        }
    }
}

/// Open connections to one address: a gateway's, or the echo's.
pub(crate) struct Route {
    pub(crate) transport: Transport,
    clients: Vec<Client>,
}

impl Route {
    pub(crate) async fn connect(address: &Address, connections: usize, deadline: Duration) -> Result<Self, Error> {
        let mut clients = Vec::new();
        for _ in 0..connections.max(1) {
            let client = Client::connect(address.endpoint.clone(), address.credentials.clone()).await?;
            // Each refusal is to be seen, and counted.
            clients.push(client.with_deadline(deadline).with_retry(Retry::off()));
        }
        Ok(Self {
            transport: address.transport(),
            clients,
        })
    }

    /// The first connection.
    pub(crate) fn client(&self) -> &Client {
        &self.clients[0]
    }

    /// The connection of the first, second, third … caller.
    pub(crate) fn connection(&self, number: usize) -> &Client {
        &self.clients[number % self.clients.len()]
    }

    /// So many callers who ask for the same, spread over the connections.
    pub(crate) fn callers(&self, mode: Mode, request: &Request, count: usize) -> Vec<Caller> {
        let callers = (0..count).map(|number| {
            let connection = number % self.clients.len();
            match mode {
                Mode::Unary => Caller::unary(&self.clients[connection], request),
                Mode::Batch => Caller::batch(&self.clients[connection], request),
                Mode::Pipelined => Caller::pipelined(&self.clients[connection], request),
            }
        });
        callers.collect()
    }
}

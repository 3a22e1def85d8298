//! The echo: what gRPC itself costs over a transport, which is the floor of all that goes through a gateway.
//!
//! A process of its own serves the methods that callers use, and answers each with the bytes that the gateway answered once. So
//! the client, the messages and the transport are the same, and only the gateway's work is missing.

mod pki;
mod server;

pub(crate) use server::serve;

use crate::{
    error::Error,
    helper::Helper,
    operation::{Mode, Transport},
    through::{Address, Proven},
};
use pki::Pki;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The process that answers.
pub(crate) struct Echo {
    helper: Helper,
    address: Address,
    // Sockets and certificates.
    _directory: TempDir,
}

/// What that process is asked.
#[derive(Serialize, Deserialize)]
enum Question {
    /// Listen on a socket.
    ListenUnix { path: PathBuf },
    /// Listen on a port of the loopback interface; the answer names it. All in PEM.
    ListenTls {
        certificate: String,
        private_key: String,
        client_authority: String,
    },
    /// Answer a method so from now on; hexadecimal.
    Answer { method: String, message: String },
}

impl Echo {
    pub(crate) async fn start(program: &Path, transport: Transport) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("portcullis-bench-").tempdir();
        let directory = directory.map_err(|source| Error::File {
            path: std::env::temp_dir(),
            source,
        })?;
        let mut helper = Helper::start("the echo", program, &[crate::HELPER, "echo"], &[]).await?;
        let address = match transport {
            Transport::Unix => {
                let path = directory.path().join("echo.sock");
                let question = Question::ListenUnix { path: path.clone() };
                helper.ask::<_, u16>(&question).await?;
                Address {
                    endpoint: portcullis_client::Endpoint::unix(path),
                    credentials: None,
                }
            }
            Transport::Mtls => {
                let pki = Pki::make(directory.path())?;
                let question = Question::ListenTls {
                    certificate: pki.server_certificate,
                    private_key: pki.server_key,
                    client_authority: pki.authority,
                };
                let port: u16 = helper.ask(&question).await?;
                let endpoint = format!("https://localhost:{port}").parse();
                Address {
                    endpoint: endpoint.map_err(|error| Error::Helper {
                        what: "the echo",
                        problem: format!("its address: {error}"),
                    })?,
                    credentials: Some(pki.client),
                }
            }
        };
        Ok(Self {
            helper,
            address,
            _directory: directory,
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// From now on a mode's method is answered as the gateway answered.
    pub(crate) async fn answer(&mut self, proven: &Proven, mode: Mode) -> Result<(), Error> {
        let (method, message) = proven.message(mode);
        let question = Question::Answer {
            method,
            message: hex::encode(message),
        };
        self.helper.ask(&question).await
    }

    pub(crate) async fn end(self) -> Result<(), Error> {
        self.helper.end().await
    }
}

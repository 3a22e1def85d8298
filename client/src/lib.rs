//! The Rust client of the Portcullis gateway.
//!
//! The way of a call, and the module of each step:
//!
//! 1. [`Endpoint`] (`endpoint`) says where the gateway listens: a Unix socket, or TLS at a host and port. There is no
//!    third way, because the gateway has no plaintext TCP listener.
//! 2. [`Credentials`] (`credentials`) are the paths of the client's certificate chain, its private key and the trust
//!    bundle. The files are read anew for each connection, so a renewed certificate is used by the next one.
//! 3. The dialer (`dialer`) opens a connection: the socket, TLS 1.3, and the check that HTTP/2 was agreed on.
//! 4. The watch over the peer (`peer`) remembers what the other side did last. With TLS 1.3 a gateway refuses a client
//!    certificate after the client's handshake is over, so the reason comes in the place of the first answer.
//! 5. [`Client`] (`client`) opens the first connection, waits until the gateway has spoken, and hands out the generated
//!    service clients over a [`Transport`] (`transport`), which adds the default deadline to calls and the reason to
//!    failed connections.
//! 6. [`Error`] (`error`) groups what can go wrong by what the caller can do about it: [`Fault`] is an error that the
//!    gateway answered, [`ConnectionError`] (`connection`) what kept the client from getting an answer.
//!
//! The messages are those of [`v1`]. They have no `Debug`: they carry plaintexts and signatures.

#![forbid(unsafe_code)]

mod client;
mod connection;
mod credentials;
mod dialer;
mod endpoint;
mod error;
mod peer;
mod transport;

pub use client::{CONNECT_TIMEOUT, Client, MAX_ANSWER_BYTES};
pub use connection::{CertificateRefusal, ConnectionError, ServerCertificateFault};
pub use credentials::Credentials;
pub use credentials::{CredentialsError, CredentialsPart};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Fault};
pub use portcullis_proto::v1;
pub use tonic::{Code, Status};
pub use transport::Transport;

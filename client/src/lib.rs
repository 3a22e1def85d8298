//! The Rust client of the Portcullis gateway.
//!
//! # First steps
//!
//! Make a key and sign with it (`examples/sign.rs`):
//!
//! ```no_run
#![doc = include_str!("../examples/sign.rs")]
//! ```
//!
//! Seal a file of any size (`examples/seal.rs`; see [`envelope`]):
//!
//! ```no_run
#![doc = include_str!("../examples/seal.rs")]
//! ```
//!
//! Both are programs as they stand here, and a test runs them against a gateway.
//!
//! # The way of a call
//!
//! The steps, and the module of each:
//!
//! 1. [`Endpoint`] (`endpoint`) says where the gateway listens: a Unix socket, or TLS at a host and port. There is no
//!    third way, because the gateway has no plaintext TCP listener.
//! 2. [`Credentials`] (`credentials`) are the paths of the client's certificate chain, its private key and the trust
//!    bundle. The files are read anew for each connection, so a renewed certificate is used by the next one.
//! 3. The dialer (`dialer`) opens a connection: the socket, TLS 1.3, and the check that HTTP/2 was agreed on.
//! 4. The watch over the peer (`peer`) remembers what the other side did last. With TLS 1.3 a gateway refuses a client
//!    certificate after the client's handshake is over, so the reason comes in the place of the first answer.
//! 5. The link (`link`) is the connection that all share: opened again when it breaks, replaced by a new one when the
//!    certificate's files have changed. The generated service clients run over it as a [`Transport`] (`transport`), which
//!    adds the reason to failed connections.
//! 6. [`Client`] (`client`) has a method for each call of the API. Uses of keys (`operation`) share a stream (`pipeline`);
//!    the other calls (`management`) are made one by one. Both have a deadline, and are made again ([`Retry`], `retry`)
//!    where that is safe and may help.
//! 7. [`Error`] (`error`) groups what can go wrong by what the caller can do about it: [`Fault`] is an error that the
//!    gateway answered, [`ConnectionError`] (`connection`) what kept the client from getting an answer.
//!
//! [`envelope`] seals data of any size with data keys from the gateway.
//!
//! The messages are those of [`v1`]. They have no `Debug`: they carry plaintexts and signatures.

#![forbid(unsafe_code)]

mod client;
mod connection;
mod credentials;
mod dialer;
mod endpoint;
pub mod envelope;
mod error;
mod link;
mod management;
mod operation;
mod peer;
mod pipeline;
mod retry;
mod transport;

pub use client::{CONNECT_TIMEOUT, Client, DEFAULT_DEADLINE, MAX_ANSWER_BYTES, PIPELINED_OPERATIONS};
pub use connection::{CertificateRefusal, ConnectionError, ServerCertificateFault};
pub use credentials::Credentials;
pub use credentials::{CredentialsError, CredentialsPart};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Fault};
pub use portcullis_proto::v1;
pub use retry::Retry;
pub use tonic::{Code, Status};
pub use transport::Transport;

//! Why a measurement could not be made.

use std::{io, path::PathBuf};

/// Why a measurement could not be made. Operations that fail while it is made are counted instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be measured.
    #[error("{0}")]
    Usage(String),
    /// The gateway refused something that the measurement needs, such as its keys.
    #[error(transparent)]
    Gateway(Box<portcullis_client::Error>),
    /// An answer of the gateway or of the module was not what it should be.
    #[error("{operation}: {problem}")]
    WrongAnswer {
        /// What was asked for.
        operation: String,
        /// What is wrong.
        problem: String,
    },
    /// The process that drives the PKCS#11 module, or the echo, failed.
    #[error("{what}: {problem}")]
    Helper {
        /// Which of them.
        what: &'static str,
        /// What it said.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no PIN for the direct way.
    #[error("no PIN for the direct way: {0}")]
    Pin(String),
    /// Somebody pressed Ctrl-C; what became of the keys that had been made.
    #[error("interrupted. {0}")]
    Interrupted(String),
}

impl From<portcullis_client::Error> for Error {
    fn from(error: portcullis_client::Error) -> Self {
        Self::Gateway(Box::new(error))
    }
}

impl From<portcullis_client::Status> for Error {
    fn from(status: portcullis_client::Status) -> Self {
        portcullis_client::Error::from(status).into()
    }
}

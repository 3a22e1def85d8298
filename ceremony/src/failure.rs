//! Why the program ends without having done its work, and with which code.

use crate::{bundle::Fault, exit::Exit, problem::Problems, transcript::JournalError};
use std::{io, path::PathBuf};

/// A failure of the program. What goes wrong in a ceremony and can be decided upon is an exception of the ceremony instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command line names what is not fit for the command.
    #[error("{0}")]
    Usage(String),
    /// A script or an environment is not valid.
    #[error("{} is not valid:\n{problems}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Problems,
    },
    /// The host, its clock, its media or its people are not as they must be.
    #[error("{0}")]
    Environment(String),
    /// A bundle, its transcript or a signature is not valid.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The transcript cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file cannot be read or written.
    #[error("cannot {what}: {source}")]
    File {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A question cannot be put, or its answer not be read.
    #[error("cannot speak with those who answer: {0}")]
    Front(io::Error),
}

impl Failure {
    /// The code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Invalid { .. } => Exit::Invalid,
            Self::Fault(_) | Self::Journal(JournalError::Differ { .. }) => Exit::TranscriptInvalid,
            Self::Environment(_) | Self::Journal(_) | Self::File { .. } | Self::Front(_) => Exit::Environment,
        }
    }

    /// Of a file.
    pub(crate) fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::File {
            what: what.into(),
            source,
        }
    }
}

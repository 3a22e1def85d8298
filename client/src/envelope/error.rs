//! What can be wrong with sealed data.

use crate::error::Error;
use std::io;

/// Why data could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The gateway refused, or could not be asked.
    #[error(transparent)]
    Gateway(#[from] Error),
    /// The beginning is not that of sealed data.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It was sealed under another key than the one that was given.
    #[error("it was sealed under {found}, not under {expected}")]
    OtherKey {
        /// The key that was given.
        expected: String,
        /// The key that its header names.
        found: String,
    },
    /// The data key is one, but not of this data; or the header was changed.
    #[error("its header was changed: the data key that it brings is not that of the data")]
    NotAuthentic,
    /// A part of the data was changed, or exchanged with another part.
    #[error(
        "it was changed, or its end is missing: the chunk that begins at byte {at} of the plaintext is not authentic"
    )]
    Damaged {
        /// How many bytes of plaintext are before it. They are authentic.
        at: u64,
    },
    /// The end is missing. What was released is authentic, and is not all.
    #[error("its end is missing: the first {at} bytes of the plaintext are authentic, and more must follow")]
    CutOff {
        /// How many bytes of plaintext were found authentic.
        at: u64,
    },
    /// Something follows the end.
    #[error("something was appended to it: its plaintext ends after {at} bytes")]
    Trailing {
        /// How many bytes of plaintext were found authentic, the last ones included.
        at: u64,
    },
    /// More was written than one message may have, or than its writer had announced.
    #[error("a message can have {most} bytes at most")]
    TooLong {
        /// How many there may be.
        most: u64,
    },
    /// The source or the destination failed.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for EnvelopeError {
    /// What a reader or writer of this module said by way of an I/O error is told as it was.
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<EnvelopeError> for io::Error {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Io(error) => error,
            error => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Why bytes are not the beginning of sealed data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// They are the beginning of something else.
    #[error("it is not sealed data")]
    NotSealed,
    /// They end too early.
    #[error("it is cut off within its header")]
    CutOff,
    /// A later version made them.
    #[error("its format {format} with suite {suite} is not known: expected format 1 with suite 1")]
    Unknown {
        /// The number of the format.
        format: u8,
        /// The number of the suite.
        suite: u8,
    },
    /// A field has a length that it cannot have.
    #[error("its {what} has {found} bytes: expected 1 to 1024")]
    Length {
        /// The field.
        what: &'static str,
        /// Its length.
        found: usize,
    },
    /// A field is not the name of a key version.
    #[error("its header names no key version")]
    Name,
}

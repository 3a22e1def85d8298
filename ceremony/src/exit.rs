//! How the program ends: codes that a drill can tell apart.

use crate::progress::Outcome;
use std::process::ExitCode;

/// The exit codes. Their numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Everything was done.
    Done,
    /// The command line is wrong.
    Usage,
    /// The script or the environment is not valid.
    Invalid,
    /// The host, its clock, its media or its people are not as they must be.
    Environment,
    /// A bundle, its transcript or a signature is not valid.
    TranscriptInvalid,
    /// The ceremony waits to be taken up again.
    Paused,
    /// The ceremony was aborted, and nothing remains of it.
    AbortedClean,
    /// The ceremony was aborted, and something may remain.
    AbortedWithResidue,
    /// The ceremony is held at another time.
    Postponed,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Environment => 4,
            Self::TranscriptInvalid => 9,
            Self::Paused => 10,
            Self::AbortedClean => 20,
            Self::AbortedWithResidue => 21,
            Self::Postponed => 30,
        }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::AbortedClean => Self::AbortedClean,
            Outcome::AbortedWithResidue => Self::AbortedWithResidue,
            Outcome::Postponed => Self::Postponed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

//! How the program ends: codes that a drill can tell apart.

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
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Invalid => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

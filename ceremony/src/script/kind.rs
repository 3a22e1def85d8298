//! The kinds of ceremonies.

use super::Action;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which ceremony a script is. The list is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// People gather, host and tokens are looked at and recorded, and nothing is changed.
    Inspection,
}

impl Kind {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspection => "inspection",
        }
    }

    /// The steps that a script of this kind must have, in this order; others may stand between them.
    pub(crate) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Inspection => &["roll-call", "read-aloud", "attest-time", "attest-host", "close"],
        }
    }

    /// Whether a step may stand in a script of this kind. What changes a token belongs to the kinds that are there for it.
    pub(crate) fn permits(self, action: &Action) -> bool {
        match self {
            Self::Inspection => !action.changes_a_token(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

//! Why the cluster did not do something.

use crate::crypto::signature::VerifyError;
use portcullis_hsm::worker::protocol::Obstacle;
use std::time::Duration;

/// Why the cluster did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// No member that could is ready.
    #[error("no HSM member that can serve this is ready, or all that are ready failed")]
    Unavailable {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// All members that could have as much to do as they may.
    #[error("all HSM members have as much work as they may have")]
    Saturated {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// Whoever asks has as much under way as one principal may, while others have work too.
    #[error("this principal has its share of the HSM members' work under way")]
    ShareTaken {
        /// When a retry may help.
        retry_after: Duration,
    },
    /// The only member that serves was to be drained.
    #[error("it is the only member that serves: drained, nobody would")]
    LastMember,
    /// A worker that was to take another's place did not come into service.
    #[error("not all workers were replaced, and those that were not serve on: {0}")]
    RollFailed(String),
    /// It was not done in time.
    #[error("the operation was not done before its deadline")]
    DeadlinePassed,
    /// The one member that held a resident key no longer shows it.
    #[error("the resident key is not on its member: the token lost it, or is another one")]
    ResidentMissing,
    /// No member can.
    #[error("the members {} do not support {what}", members.join(", "))]
    Unsupported {
        /// What is missing.
        what: String,
        /// The members that were asked.
        members: Vec<String>,
    },
    /// No member's token can hold the domain keys under which keys are wrapped.
    #[error(
        "the members {} cannot keep keys with protection WRAPPED: {}; use protection RESIDENT",
        members.join(", "),
        words(obstacles)
    )]
    NothingSeals {
        /// The members that serve.
        members: Vec<String>,
        /// What their workers found.
        obstacles: Vec<Obstacle>,
    },
    /// The ciphertext or its associated data are wrong.
    #[error("the ciphertext or its associated data are wrong")]
    DecryptionFailed,
    /// What was to be imported is not what it should be.
    #[error("{0}")]
    ImportRefused(String),
    /// The key may not be exported, or not so.
    #[error("{0}")]
    ExportRefused(String),
    /// A stored token or row is not authentic.
    #[error("{0}")]
    NotAuthentic(String),
    /// The HSM refused what the gateway thought was right.
    #[error("an HSM member refused the operation: {0}")]
    Refused(String),
    /// A signature was made that no software here can check: it is not released, and no member is blamed for it.
    #[error("the signature cannot be verified and is not released: {0}")]
    Unverifiable(VerifyError),
    /// A member answered something else than was asked.
    #[error("an HSM member's worker answered out of turn")]
    Protocol,
}

impl ClusterError {
    /// Whether no member was there to do it, which says nothing about what was asked.
    pub fn is_for_want_of_a_member(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Saturated { .. } | Self::ShareTaken { .. } | Self::DeadlinePassed
        )
    }
}

fn words(obstacles: &[Obstacle]) -> String {
    let each = obstacles.iter().map(|one| format!("{} [{}]", one.message, one.code));
    each.collect::<Vec<_>>().join("; ")
}

//! The life of a key version (SP 800-57 part 1) and what each state permits.

use portcullis_hsm::algorithm::Operation;
use std::fmt;

/// The state of a version. The numbers are those of `KeyVersionState` in the API and stand in authenticated rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// Made, not yet in use.
    PreActive = 1,
    /// In use.
    Active = 2,
    /// Suspended.
    Disabled = 3,
    /// Processes old data only.
    Deactivated = 4,
    /// Known or suspected to be known to others.
    Compromised = 5,
    /// Waits for its destruction.
    DestroyScheduled = 6,
    /// Is being destroyed.
    Destroying = 7,
    /// Gone.
    Destroyed = 8,
    /// Waits for its key material.
    PendingImport = 9,
}

impl VersionState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::PreActive,
        Self::Active,
        Self::Disabled,
        Self::Deactivated,
        Self::Compromised,
        Self::DestroyScheduled,
        Self::Destroying,
        Self::Destroyed,
        Self::PendingImport,
    ];

    /// The state with this number, if it is known.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as i64 == number)
    }

    /// Whether the secret half may be used for an operation: protecting new data needs an active version, processing old
    /// data also works with a deactivated one.
    pub fn permits(self, operation: Operation) -> bool {
        match operation {
            Operation::Sign | Operation::Encrypt | Operation::MacSign | Operation::Wrap => self == Self::Active,
            Operation::Decrypt | Operation::MacVerify | Operation::Unwrap | Operation::Derive => {
                matches!(self, Self::Active | Self::Deactivated)
            }
        }
    }

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreActive => "PRE_ACTIVE",
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
            Self::Deactivated => "DEACTIVATED",
            Self::Compromised => "COMPROMISED",
            Self::DestroyScheduled => "DESTROY_SCHEDULED",
            Self::Destroying => "DESTROYING",
            Self::Destroyed => "DESTROYED",
            Self::PendingImport => "PENDING_IMPORT",
        }
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_versions_protect_and_deactivated_ones_still_process() {
        for state in VersionState::ALL {
            assert_eq!(state.permits(Operation::Sign), state == VersionState::Active, "{state}");
            assert_eq!(
                state.permits(Operation::Encrypt),
                state == VersionState::Active,
                "{state}"
            );
            let processes = matches!(state, VersionState::Active | VersionState::Deactivated);
            assert_eq!(state.permits(Operation::Decrypt), processes, "{state}");
        }
    }
}

//! The life of a key version (SP 800-57 part 1): what each state permits, and where it can go.

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

/// Whether a state lets the secret half do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Yes.
    Granted,
    /// Only with the permission to use compromised keys and a reason, which the audit log keeps.
    BreakGlass,
    /// No.
    Refused,
}

/// What a caller can do to a version's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Takes it into use.
    Activate,
    /// Suspends it.
    Disable,
    /// Ends a suspension.
    Enable,
    /// Ends its protecting use.
    Deactivate,
    /// Notes that others may know it.
    MarkCompromised,
    /// Starts the time until its destruction.
    ScheduleDestruction,
    /// Stops that.
    CancelDestruction,
}

/// What happened to a version before, as far as it decides where it can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// It was in use.
    pub activated: bool,
    /// Its protecting use was ended.
    pub deactivated: bool,
    /// It was marked as compromised.
    pub compromised: bool,
    /// It has key material.
    pub material: bool,
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

    /// The state with this name, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether the secret half may be used for an operation: protecting new data needs an active version, processing old
    /// data also works with a deactivated one, and with a compromised one in an emergency.
    pub fn permission(self, operation: Operation) -> Permission {
        let protects = matches!(
            operation,
            Operation::Sign | Operation::Encrypt | Operation::MacSign | Operation::Wrap
        );
        match (self, protects) {
            (Self::Active, _) | (Self::Deactivated, false) => Permission::Granted,
            (Self::Compromised, false) => Permission::BreakGlass,
            _ => Permission::Refused,
        }
    }

    /// Whether a version in this state may leave under another key: a copy of it must be worth having.
    pub fn export_permission(self) -> Permission {
        match self {
            Self::Active | Self::Deactivated => Permission::Granted,
            _ => Permission::Refused,
        }
    }

    /// Where a verb leads from here; `None` where it does not apply. Scheduling what is scheduled or gone leads nowhere
    /// else: the wish is fulfilled, or another time is wished for. What is found to be compromised while it waits for its
    /// destruction goes on waiting, and is marked.
    ///
    /// What happened before is never undone: enabling a version that was deactivated makes it DEACTIVATED again, and a
    /// cancelled destruction of a compromised version leaves it COMPROMISED.
    pub fn after(self, verb: Verb, past: Past) -> Option<Self> {
        match (verb, self) {
            (Verb::Activate, Self::PreActive) => Some(Self::Active),
            (Verb::Disable, Self::Active) => Some(Self::Disabled),
            (Verb::Enable, Self::Disabled) => Some(match past {
                Past { deactivated: true, .. } => Self::Deactivated,
                Past { activated: false, .. } => Self::PreActive,
                Past { .. } => Self::Active,
            }),
            (Verb::Deactivate, Self::Active | Self::Disabled) => Some(Self::Deactivated),
            (Verb::MarkCompromised, Self::PreActive | Self::Active | Self::Disabled | Self::Deactivated) => {
                Some(Self::Compromised)
            }
            (Verb::MarkCompromised, Self::DestroyScheduled) if past.material => Some(self),
            (
                Verb::ScheduleDestruction,
                Self::PreActive
                | Self::Active
                | Self::Disabled
                | Self::Deactivated
                | Self::Compromised
                | Self::PendingImport,
            ) => Some(Self::DestroyScheduled),
            (Verb::ScheduleDestruction, Self::DestroyScheduled | Self::Destroying | Self::Destroyed) => Some(self),
            (Verb::CancelDestruction, Self::DestroyScheduled) => Some(match past {
                Past { material: false, .. } => Self::PendingImport,
                Past { compromised: true, .. } => Self::Compromised,
                Past { .. } => Self::Disabled,
            }),
            _ => None,
        }
    }

    /// Whether it waits for its destruction, or is being destroyed.
    pub fn waits_for_destruction(self) -> bool {
        matches!(self, Self::DestroyScheduled | Self::Destroying)
    }

    /// Whether being brought to a state without an HSM takes something away from a version that is in this one.
    pub fn is_restricted_by(self, to: Self) -> bool {
        match to {
            Self::Disabled => matches!(self, Self::PreActive | Self::Active | Self::Deactivated),
            Self::Deactivated => self == Self::Active,
            Self::Compromised => matches!(
                self,
                Self::PreActive | Self::Active | Self::Disabled | Self::Deactivated
            ),
            _ => false,
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

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 7] = [
        Self::Activate,
        Self::Disable,
        Self::Enable,
        Self::Deactivate,
        Self::MarkCompromised,
        Self::ScheduleDestruction,
        Self::CancelDestruction,
    ];

    /// Whether it can only take away what a version may do, so that it needs no HSM.
    pub fn only_restricts(self) -> bool {
        matches!(self, Self::Disable | Self::MarkCompromised)
    }

    /// The states in which it applies, for messages.
    pub fn applies_to(self) -> &'static str {
        match self {
            Self::Activate => "PRE_ACTIVE",
            Self::Disable => "ACTIVE",
            Self::Enable => "DISABLED",
            Self::Deactivate => "ACTIVE, DISABLED",
            Self::MarkCompromised => "PRE_ACTIVE, ACTIVE, DISABLED, DEACTIVATED, DESTROY_SCHEDULED",
            Self::ScheduleDestruction => "PRE_ACTIVE, ACTIVE, DISABLED, DEACTIVATED, COMPROMISED, PENDING_IMPORT",
            Self::CancelDestruction => "DESTROY_SCHEDULED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_versions_protect_and_deactivated_ones_still_process() {
        for state in VersionState::ALL {
            for operation in Operation::ALL {
                let protects = matches!(
                    operation,
                    Operation::Sign | Operation::Encrypt | Operation::MacSign | Operation::Wrap
                );
                let expected = match state {
                    VersionState::Active => Permission::Granted,
                    VersionState::Deactivated if !protects => Permission::Granted,
                    VersionState::Compromised if !protects => Permission::BreakGlass,
                    _ => Permission::Refused,
                };
                assert_eq!(state.permission(*operation), expected, "{operation} when {state}");
            }
        }
    }

    #[test]
    fn what_waits_for_its_destruction_is_marked_and_goes_on_waiting() {
        let past = Past {
            activated: true,
            deactivated: false,
            compromised: false,
            material: true,
        };
        let scheduled = VersionState::DestroyScheduled;
        assert_eq!(scheduled.after(Verb::MarkCompromised, past), Some(scheduled));
        let marked = Past {
            compromised: true,
            ..past
        };
        let cancelled = scheduled.after(Verb::CancelDestruction, marked);
        assert_eq!(cancelled, Some(VersionState::Compromised));
        // Nothing can be known to others before there is key material.
        let empty = Past {
            material: false,
            ..past
        };
        assert_eq!(scheduled.after(Verb::MarkCompromised, empty), None);
    }

    #[test]
    fn no_sequence_of_verbs_undoes_a_compromise_or_a_deactivation() {
        // Every state that can be reached, with the past that led to it.
        let start = |state, activated, material| {
            let past = Past {
                activated,
                deactivated: false,
                compromised: false,
                material,
            };
            (state, past)
        };
        let mut reached = vec![
            start(VersionState::PreActive, false, true),
            start(VersionState::Active, true, true),
            start(VersionState::PendingImport, false, false),
        ];
        let mut next = 0;
        while let Some(&(state, past)) = reached.get(next) {
            next += 1;
            for verb in Verb::ALL {
                let Some(after) = state.after(verb, past) else {
                    continue;
                };
                if past.compromised {
                    let final_states = [
                        VersionState::Compromised,
                        VersionState::DestroyScheduled,
                        VersionState::Destroying,
                        VersionState::Destroyed,
                    ];
                    assert!(final_states.contains(&after), "{verb:?} makes {state} {after}");
                }
                assert!(
                    !past.deactivated || after != VersionState::Active,
                    "{verb:?} on {state}"
                );
                let past = Past {
                    activated: past.activated || after == VersionState::Active,
                    deactivated: past.deactivated || after == VersionState::Deactivated,
                    compromised: past.compromised || verb == Verb::MarkCompromised,
                    ..past
                };
                if !reached.contains(&(after, past)) {
                    reached.push((after, past));
                }
            }
        }
        assert!(reached.len() > 12, "{reached:?}");
    }
}

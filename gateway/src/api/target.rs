//! What a request means to do with a key: by which mechanism, with which version, and whether its caller may.
//!
//! All paths go the same way: the mechanism and the version are chosen first, by [`Wish`], then the policy is asked about exactly
//! these, by [`decide`]. What is wrong with the choice is told only to those who may use the key. Whatever else is asked about the
//! same use ([`Target::material`]) is asked under the same circumstances.

use super::{
    ApiError, Reason,
    call::{Call, Second},
    convert,
    justification::Justification,
    lookup::find_version,
};
use crate::{
    crypto::ciphertext::Authenticated,
    keys::{
        change::ChangeError,
        directory::{KeyDirectory, KeyRecord, Material, VersionRecord},
        name::KeyName,
        state::{Permission, VersionState},
    },
    policy::{Action, Circumstances, Resource},
};
use portcullis_hsm::algorithm::{Mechanism, Operation};
use std::{collections::BTreeMap, fmt};

/// What a request wants to do with a key.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    operation: Operation,
    mechanism: Result<Mechanism, ApiError>,
    number: Option<u32>,
    context: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Wish<'a> {
    /// An operation by the mechanism with this number; where the caller left it out, by the only one that the key permits.
    pub(super) fn new(record: &KeyRecord, operation: Operation, mechanism: i32) -> Self {
        Self::by(operation, choose_mechanism(record, operation, mechanism))
    }

    /// An operation by a mechanism that follows from something else than the key.
    pub(super) fn by(operation: Operation, mechanism: Result<Mechanism, ApiError>) -> Self {
        Self {
            operation,
            mechanism,
            number: None,
            context: None,
        }
    }

    /// With a version; without one, it is the primary one.
    pub(super) fn with_version(self, number: Option<u32>) -> Self {
        Self { number, ..self }
    }

    /// With what is authenticated.
    pub(super) fn authenticating(self, authenticated: &'a Authenticated) -> Self {
        Self {
            context: authenticated.context(),
            ..self
        }
    }

    /// The mechanism, if one could be chosen.
    pub(super) fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism.as_ref().ok().copied()
    }
}

/// Whose permission is asked for: that of the call's own action, or that of the second thing that it does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// The call's own.
    Own,
    /// The second.
    Second(Second<'a>),
}

/// A use that the policy allows. Whether the version exists is not told yet.
#[derive(Debug)]
pub(super) struct Decided<'r, 'a> {
    record: &'r KeyRecord,
    operation: Operation,
    mechanism: Mechanism,
    number: Option<u32>,
    circumstances: Circumstances<'a>,
}

/// A use that the policy allows, of a version that exists.
#[derive(Debug)]
pub(super) struct Target<'r, 'a> {
    /// The version.
    pub(super) version: &'r VersionRecord,
    /// The mechanism.
    pub(super) mechanism: Mechanism,
    record: &'r KeyRecord,
    operation: Operation,
    circumstances: Circumstances<'a>,
}

/// What key material is taken for: the one place where a version's state is asked whether it permits that.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// An operation with the key.
    Operation(Operation),
    /// The key itself leaves, wrapped.
    Export,
}

impl Purpose {
    fn permission(self, state: VersionState) -> Permission {
        match self {
            Self::Operation(operation) => state.permission(operation),
            Self::Export => state.export_permission(),
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation(operation) => operation.fmt(formatter),
            Self::Export => formatter.write_str("EXPORT"),
        }
    }
}

/// A version whose key material a call uses.
#[derive(Debug)]
pub(super) struct InUse {
    key: KeyName,
    number: u32,
    purpose: Purpose,
    // The state that permitted it.
    state: VersionState,
}

/// Asks the policy for a use of a key, by exactly the mechanism and with the version that are to be used.
pub(super) fn decide<'r, 'a>(
    call: &mut Call,
    asked: Asked<'_>,
    record: &'r KeyRecord,
    wish: Wish<'a>,
) -> Result<Decided<'r, 'a>, ApiError> {
    let number = wish.number;
    let circumstances = Circumstances {
        mechanism: wish.mechanism(),
        encryption_context: wish.context,
        primary_version: Some(number.is_none_or(|number| number == record.key.primary_version)),
    };
    let exact = match find_version(record, number) {
        Ok(version) => record.key.name.version(version.row.number),
        Err(_) => record.key.name.to_string(),
    };
    match asked {
        Asked::Own => {
            call.finds(exact);
            if let Some(mechanism) = wish.mechanism() {
                call.note_mechanism(mechanism);
            }
            call.authorise_key(record.facts(), circumstances)?;
        }
        Asked::Second(second) => call.authorise_also(second, exact, Resource::Key(record.facts()), circumstances)?,
    }
    Ok(Decided {
        record,
        operation: wish.operation,
        mechanism: wish.mechanism?,
        number,
        circumstances,
    })
}

/// The use of a version by the call itself.
pub(super) fn authorise<'r, 'a>(
    call: &mut Call,
    record: &'r KeyRecord,
    wish: Wish<'a>,
) -> Result<Target<'r, 'a>, ApiError> {
    decide(call, Asked::Own, record, wish)?.target()
}

impl<'r, 'a> Decided<'r, 'a> {
    /// The mechanism.
    pub(super) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// With the version, if it exists.
    pub(super) fn target(self) -> Result<Target<'r, 'a>, ApiError> {
        Ok(Target {
            version: find_version(self.record, self.number)?,
            mechanism: self.mechanism,
            record: self.record,
            operation: self.operation,
            circumstances: self.circumstances,
        })
    }
}

impl<'r> Target<'r, '_> {
    /// The version's name.
    pub(super) fn name(&self) -> String {
        self.record.key.name.version(self.version.row.number)
    }

    /// The key material, if the version's state permits the operation.
    ///
    /// A compromised version processes old data only for a caller who may use compromised keys, which is asked under the
    /// circumstances of the use itself, and gives a reason, which the audit log keeps.
    pub(super) fn material(&self, call: &mut Call, break_glass_reason: &str) -> Result<&'r Material, ApiError> {
        self.take(call, Purpose::Operation(self.operation), break_glass_reason)
    }

    /// The key material, if the version's state permits that it leaves.
    pub(super) fn material_to_export(&self, call: &mut Call) -> Result<&'r Material, ApiError> {
        self.take(call, Purpose::Export, "")
    }

    fn take(&self, call: &mut Call, purpose: Purpose, break_glass_reason: &str) -> Result<&'r Material, ApiError> {
        let reason = Justification::read("break_glass_reason", break_glass_reason)?;
        let state = self.version.state();
        let forbidden = |message: String| {
            ApiError::new(Reason::KeyStateForbidsOperation, message)
                .with("version", self.name())
                .with("state", state.name())
        };
        let in_use = || InUse {
            key: self.record.key.name.clone(),
            number: self.version.row.number,
            purpose,
            state,
        };
        match (purpose.permission(state), &self.version.material) {
            (Permission::Granted, Some(material)) => {
                call.uses(in_use());
                Ok(material)
            }
            (Permission::BreakGlass, Some(material)) => {
                let action = Action::UseCompromisedVersion;
                if reason.as_str().is_empty() {
                    return Err(forbidden(format!(
                        "{} is {state}: {purpose} needs break_glass_reason and the permission {action}",
                        self.name()
                    )));
                }
                let named = call.named().to_owned();
                let second = Second { action, named: &named };
                call.note_reason(&reason);
                call.authorise_also(
                    second,
                    self.name(),
                    Resource::Key(self.record.facts()),
                    self.circumstances,
                )?;
                call.uses(in_use());
                Ok(material)
            }
            _ => {
                let name = self.name();
                Err(forbidden(format!("{name} is {state}, which does not permit {purpose}")))
            }
        }
    }

    /// Counts an AES-GCM encryption before it is made, if the version may still make one.
    pub(super) async fn count_encryption(&self, call: &Call) -> Result<(), ApiError> {
        let uses = call.gateway().directory.uses();
        uses.admit_encryption(&self.version.uses, call.deadline()).await?;
        self.version.uses.note();
        Ok(())
    }
}

impl InUse {
    /// Refuses the result of what the version's state no longer permits.
    pub(super) async fn require_still_permitted(&self, directory: &KeyDirectory) -> Result<(), ApiError> {
        let Some(state) = self.forbidden_by(directory).await else {
            return Ok(());
        };
        let (name, purpose) = (self.key.version(self.number), self.purpose);
        let message = format!("{name} became {state} before the result was there, which does not permit {purpose}");
        Err(ApiError::new(Reason::KeyStateForbidsOperation, message)
            .with("version", name)
            .with("state", state.name()))
    }

    /// Refuses a change that is about to be committed and uses what the version's state no longer permits.
    pub(super) async fn require_before_commit(&self, directory: &KeyDirectory) -> Result<(), ChangeError> {
        match self.forbidden_by(directory).await {
            None => Ok(()),
            Some(state) => Err(ChangeError::State {
                name: self.key.version(self.number),
                state: state.name(),
                required: self.state.name(),
            }),
        }
    }

    /// The state that the version came to while the work waited for an HSM, if it forbids the use. What is not in memory was not
    /// changed by this gateway.
    async fn forbidden_by(&self, directory: &KeyDirectory) -> Option<VersionState> {
        let record = directory.in_memory(&self.key).await?;
        let state = record.version(self.number)?.state();
        let permitted = state == self.state || self.purpose.permission(state) == Permission::Granted;
        (!permitted).then_some(state)
    }
}

/// The mechanism of an operation: the caller's, if the key permits it, else the only one that the key permits.
fn choose_mechanism(record: &KeyRecord, operation: Operation, wanted: i32) -> Result<Mechanism, ApiError> {
    let wanted = convert::mechanism(wanted)?;
    let permitted = || record.profile.uses.mechanisms(operation);
    let mut some = permitted();
    match (wanted, some.next(), some.next()) {
        (_, None, _) => {
            let uses: Vec<_> = record.profile.uses.iter().map(|one| one.to_string()).collect();
            let uses = uses.join(", ");
            let message = format!("the key does not permit {operation}; it permits {uses}");
            Err(ApiError::new(Reason::AlgorithmMismatch, message).with("permitted", uses))
        }
        (Some(chosen), ..) if permitted().any(|one| one == chosen) => Ok(chosen),
        (None, Some(only), None) => Ok(only),
        (wanted, ..) => {
            let names = permitted().map(|one| one.name()).collect::<Vec<_>>().join(", ");
            let message = match wanted {
                Some(chosen) => format!("the key does not permit {operation} with {chosen}; it permits {names}"),
                None => format!("the key permits several mechanisms for {operation} ({names}): name one"),
            };
            Err(ApiError::new(Reason::AlgorithmMismatch, message).with("permitted", names))
        }
    }
}

//! Finding the key that a call names, without telling those who may not know whether it exists; and whether its state lets
//! it be used.

use super::{ApiError, Reason, call::Call};
use crate::{
    keys::{
        alias::Alias,
        directory::{DirectoryError, KeyRecord, Material, VersionRecord},
        name::{AliasName, KeyName, KeyOrVersionName},
        state::Permission,
    },
    policy::{Action, Circumstances, Resource},
};
use portcullis_hsm::algorithm::Operation;
use std::sync::Arc;

/// How much a record must be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its tags were checked.
    Checked,
    /// Its tags were checked, unless no HSM can: for taking something away from a version.
    AnythingWithoutHsm,
}

/// The record of the key that a call is about. The call must still be authorised, with the key's facts.
///
/// A caller whom no rule could ever allow the call's action is refused before anything is looked up. That a key does not
/// exist, or that its record is not authentic, is told only to those who may read the ring's keys or may do the call's action
/// on the whole ring; others are refused in the same words as if it existed.
pub(super) async fn find_key(call: &mut Call, name: &KeyName) -> Result<Arc<KeyRecord>, ApiError> {
    find_key_with(call, name, Trust::Checked).await
}

/// As [`find_key`], with as much trust as is needed.
pub(super) async fn find_key_with(call: &mut Call, name: &KeyName, trust: Trust) -> Result<Arc<KeyRecord>, ApiError> {
    call.concerns(name.to_string());
    find(call, call.action(), name, trust).await
}

/// The record of the second key of a call that does two things, in the same way. The second action must still be authorised.
pub(super) async fn find_second_key(call: &Call, action: Action, name: &KeyName) -> Result<Arc<KeyRecord>, ApiError> {
    find(call, action, name, Trust::Checked).await
}

async fn find(call: &Call, action: Action, name: &KeyName, trust: Trust) -> Result<Arc<KeyRecord>, ApiError> {
    call.require_chance(action, &name.to_string())?;
    let directory = Arc::clone(&call.gateway().directory);
    let found = match trust {
        Trust::Checked => directory.key(name, call.deadline()).await,
        Trust::AnythingWithoutHsm => directory.key_to_restrict(name, call.deadline()).await,
    };
    found.map_err(|error| hidden(call, action, name, &name.to_string(), error))
}

/// The key or version that a text names, directly or by an alias.
pub(super) async fn version_named(call: &mut Call, text: &str) -> Result<KeyOrVersionName, ApiError> {
    if AliasName::parse(text).is_ok() {
        call.concerns(text.to_owned());
    }
    second_version_named(call, call.action(), text).await
}

/// As [`version_named`], for the second key of a call that does two things.
pub(super) async fn second_version_named(
    call: &Call,
    action: Action,
    text: &str,
) -> Result<KeyOrVersionName, ApiError> {
    let alias = match AliasName::parse(text) {
        Ok(alias) => alias,
        Err(_) => return Ok(KeyOrVersionName::parse(text)?),
    };
    call.require_chance(action, text)?;
    let documents = Arc::clone(&call.gateway().documents);
    let found = documents
        .find::<Alias>(&alias.ring, alias.alias.as_str(), call.deadline())
        .await
        .and_then(|found| found.ok_or_else(|| DirectoryError::NoKey(alias.to_string())))
        .and_then(|found| {
            found
                .content
                .target(&alias.ring)
                .ok_or_else(|| DirectoryError::NotAuthentic {
                    name: alias.to_string(),
                    what: "its target".to_owned(),
                })
        });
    // Hidden like a key of the alias's name.
    let name = KeyName {
        ring: alias.ring.clone(),
        key: alias.alias.clone(),
    };
    found.map_err(|error| hidden(call, action, &name, text, error))
}

/// The key that a text names, directly or by an alias.
pub(super) async fn key_named(call: &mut Call, text: &str) -> Result<KeyName, ApiError> {
    match AliasName::parse(text) {
        Ok(_) => Ok(version_named(call, text).await?.key),
        Err(_) => Ok(KeyName::parse(text)?),
    }
}

/// The version that a name means.
pub(super) fn find_version(record: &KeyRecord, number: Option<u32>) -> Result<&VersionRecord, ApiError> {
    match number {
        None => Ok(record.primary()),
        Some(number) => record.version(number).ok_or_else(|| {
            let name = record.key.name.version(number);
            ApiError::new(Reason::KeyVersionNotFound, format!("{name} does not exist")).with("version", name)
        }),
    }
}

/// The key material of a version whose state permits an operation; counts the use.
///
/// A compromised version processes old data only for a caller who may use compromised keys and gives a reason, which the
/// audit log keeps.
pub(super) fn require_state<'a>(
    call: &mut Call,
    record: &KeyRecord,
    version: &'a VersionRecord,
    operation: Operation,
    break_glass_reason: &str,
) -> Result<&'a Material, ApiError> {
    let state = version.state();
    let name = record.key.name.version(version.row.number);
    let forbidden = |message: String| {
        ApiError::new(Reason::KeyStateForbidsOperation, message)
            .with("version", name.clone())
            .with("state", state.name())
    };
    match (state.permission(operation), &version.material) {
        (Permission::Granted, Some(material)) => Ok(material),
        (Permission::BreakGlass, Some(material)) => {
            if break_glass_reason.is_empty() {
                return Err(forbidden(format!(
                    "{name} is {state}: {operation} needs break_glass_reason and the permission {}",
                    Action::UseCompromisedVersion.name()
                )));
            }
            call.authorise_also(
                Action::UseCompromisedVersion,
                Resource::Key(record.facts()),
                Circumstances::default(),
            )?;
            call.note_reason(break_glass_reason);
            Ok(material)
        }
        _ => Err(forbidden(format!(
            "{name} is {state}, which does not permit {operation}"
        ))),
    }
}

/// An error about a key, for those who may know of it; for others the refusal that they get for any key.
fn hidden(call: &Call, action: Action, name: &KeyName, shown: &str, error: DirectoryError) -> ApiError {
    match error {
        DirectoryError::NoKey(_) | DirectoryError::NoRing(_) | DirectoryError::NotAuthentic { .. } => {
            let ring = Resource::KeyRing(&name.ring);
            if call.may(Action::ReadKey, ring) || call.may(action, ring) {
                error.into()
            } else {
                call.denial(action, shown)
            }
        }
        error => error.into(),
    }
}

/// The public half of a version, which every version of an asymmetric key has once its key material is there.
pub(super) fn require_public_key<'a>(record: &KeyRecord, version: &'a VersionRecord) -> Result<&'a [u8], ApiError> {
    let name = &record.key.name;
    if !record.profile.key_type.is_asymmetric() {
        let message = format!("{name} is of type {} and has no public half", record.profile.key_type);
        return Err(ApiError::new(Reason::AlgorithmMismatch, message));
    }
    match version.public_key() {
        [] => {
            let name = name.version(version.row.number);
            let message = format!("{name} is {} and has no key material yet", version.state());
            Err(ApiError::new(Reason::KeyStateForbidsOperation, message)
                .with("version", name)
                .with("state", version.state().name()))
        }
        der => Ok(der),
    }
}

//! Finding the key that a call names, without telling those who may not know whether it exists.

use super::{
    ApiError, Reason,
    call::{Call, Second},
};
use crate::{
    keys::{
        alias::Alias,
        directory::{DirectoryError, KeyRecord, VersionRecord},
        name::{AliasName, KeyName, KeyOrVersionName},
        record::now,
    },
    policy::{Action, Resource},
};
use std::sync::Arc;

/// How much a record must be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its tags were checked.
    Checked,
    /// Its tags were checked, unless no HSM can: for taking something away from a version.
    AnythingWithoutHsm,
}

/// The record of the key that a call is about. The call must have named it, and must still be authorised, with the key's facts.
///
/// A caller whom no rule could ever allow the call's action is refused before anything is looked up. That a key does not
/// exist, or that its record is not authentic, is told only to those who may read the ring's keys or may do the call's action
/// on the whole ring; others are refused in the same words as if it existed.
pub(super) async fn find_key(call: &Call, name: &KeyName) -> Result<Arc<KeyRecord>, ApiError> {
    find_key_with(call, name, Trust::Checked).await
}

/// As [`find_key`], with as much trust as is needed.
pub(super) async fn find_key_with(call: &Call, name: &KeyName, trust: Trust) -> Result<Arc<KeyRecord>, ApiError> {
    find(call, own(call), name, trust).await
}

/// The record of the second key of a call that does two things, in the same way. The second action must still be authorised.
pub(super) async fn find_second_key(
    call: &Call,
    second: Second<'_>,
    name: &KeyName,
) -> Result<Arc<KeyRecord>, ApiError> {
    find(call, second, name, Trust::Checked).await
}

/// The key that a call names, and the number of the version, if one is named; or the ephemeral key whose token it brings. The
/// call is not authorised yet.
pub(super) async fn find_given(
    call: &mut Call,
    name: &str,
    key_token: &[u8],
) -> Result<(Arc<KeyRecord>, Option<u32>), ApiError> {
    if key_token.is_empty() {
        let name = version_named(call, name).await?;
        return Ok((find_key(call, &name.key).await?, name.version));
    }
    let record = ephemeral(call, call.action(), name, key_token).await?;
    call.names(record.key.name.to_string());
    Ok((record, None))
}

/// As [`find_given`], for the second key of a call that does two things. A token's key is called as its owner knows it.
pub(super) async fn find_second_given(
    call: &Call,
    second: Second<'_>,
    key_token: &[u8],
) -> Result<(Arc<KeyRecord>, Option<u32>), ApiError> {
    if key_token.is_empty() {
        let name = second_version_named(call, second).await?;
        return Ok((find_second_key(call, second, &name.key).await?, name.version));
    }
    Ok((ephemeral(call, second.action, second.named, key_token).await?, None))
}

/// The key or version that a text names, directly or by an alias. It is what the call is about.
pub(super) async fn version_named(call: &mut Call, text: &str) -> Result<KeyOrVersionName, ApiError> {
    match AliasName::of(text) {
        Some(alias) => {
            call.names(text);
            target_of(call, own(call), &alias).await
        }
        None => {
            let name = KeyOrVersionName::parse(text)?;
            call.names(text);
            Ok(name)
        }
    }
}

/// As [`version_named`], for the second key of a call that does two things.
pub(super) async fn second_version_named(call: &Call, second: Second<'_>) -> Result<KeyOrVersionName, ApiError> {
    match AliasName::of(second.named) {
        Some(alias) => target_of(call, second, &alias).await,
        None => Ok(KeyOrVersionName::parse(second.named)?),
    }
}

/// The key that a text names, directly or by an alias. It is what the call is about.
pub(super) async fn key_named(call: &mut Call, text: &str) -> Result<KeyName, ApiError> {
    match AliasName::of(text) {
        Some(_) => Ok(version_named(call, text).await?.key),
        None => {
            let name = KeyName::parse(text)?;
            call.names(text);
            Ok(name)
        }
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

/// The call's own action, on what it named.
fn own(call: &Call) -> Second<'_> {
    Second {
        action: call.action(),
        named: call.named(),
    }
}

async fn find(call: &Call, asked: Second<'_>, name: &KeyName, trust: Trust) -> Result<Arc<KeyRecord>, ApiError> {
    call.require_chance(asked.action, asked.named)?;
    let directory = &call.gateway().directory;
    let found = match trust {
        Trust::Checked => directory.key(name, call.deadline()).await,
        Trust::AnythingWithoutHsm => directory.key_to_restrict(name, call.deadline()).await,
    };
    found.map_err(|error| hidden(call, asked, name, error))
}

async fn target_of(call: &Call, asked: Second<'_>, alias: &AliasName) -> Result<KeyOrVersionName, ApiError> {
    call.require_chance(asked.action, asked.named)?;
    let found = call
        .gateway()
        .documents
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
    found.map_err(|error| hidden(call, asked, &name, error))
}

/// The ephemeral key of a token, if the caller may still use it as its owner.
async fn ephemeral(call: &Call, action: Action, name: &str, key_token: &[u8]) -> Result<Arc<KeyRecord>, ApiError> {
    if !name.is_empty() {
        return Err(ApiError::field("key_token", "expected a name or a token, found both"));
    }
    call.require_chance(action, "an ephemeral key")?;
    let key = call
        .gateway()
        .ephemeral
        .open(key_token, call.principal(), now(), call.deadline())
        .await?;
    Ok(Arc::clone(&key.record))
}

/// An error about a key, for those who may know of it; for others the refusal that they get for any key.
fn hidden(call: &Call, asked: Second<'_>, name: &KeyName, error: DirectoryError) -> ApiError {
    match error {
        DirectoryError::NoKey(_) | DirectoryError::NoRing(_) | DirectoryError::NotAuthentic { .. } => {
            let ring = Resource::KeyRing(&name.ring);
            if call.may(Action::ReadKey, ring) || call.may(asked.action, ring) {
                error.into()
            } else {
                call.denial(asked.action, asked.named)
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

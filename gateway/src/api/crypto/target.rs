//! The version and mechanism that a request means, and whether the caller may use them so.

pub(super) use super::super::lookup::require_state;
use super::super::{
    ApiError, Reason,
    call::Call,
    convert,
    lookup::{find_key, find_second_key, find_version, second_version_named, version_named},
};
use crate::{
    crypto::ciphertext::Authenticated,
    keys::{
        directory::{KeyRecord, VersionRecord},
        record::now,
    },
    policy::{Action, Circumstances},
};
use portcullis_hsm::algorithm::{Mechanism, Operation};
use std::{collections::BTreeMap, sync::Arc};

/// What a request wants to do with a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    /// The operation.
    pub(super) operation: Operation,
    /// The number of the mechanism; 0 where the caller left it out.
    pub(super) mechanism: i32,
    /// The encryption context, where the caller gave one.
    pub(super) context: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Wish<'a> {
    /// Without an encryption context.
    pub(super) fn new(operation: Operation, mechanism: i32) -> Self {
        Self {
            operation,
            mechanism,
            context: None,
        }
    }

    /// With what is authenticated.
    pub(super) fn authenticating(self, authenticated: &'a Authenticated) -> Self {
        Self {
            context: authenticated.context(),
            ..self
        }
    }

    /// What a policy may know of it.
    pub(super) fn circumstances(
        &self,
        record: &KeyRecord,
        number: Option<u32>,
        mechanism: Option<Mechanism>,
    ) -> Circumstances<'a> {
        Circumstances {
            mechanism,
            encryption_context: self.context,
            primary_version: Some(number.is_none_or(|number| number == record.key.primary_version)),
        }
    }
}

/// The key that a call names, and the number of the version, if one is named; or the ephemeral key whose token it brings. The
/// call is not authorised yet.
pub(super) async fn find(
    call: &mut Call,
    name: &str,
    key_token: &[u8],
) -> Result<(Arc<KeyRecord>, Option<u32>), ApiError> {
    if key_token.is_empty() {
        let name = version_named(call, name).await?;
        return Ok((find_key(call, &name.key).await?, name.version));
    }
    let record = ephemeral(call, call.action(), name, key_token).await?;
    call.concerns(record.key.name.to_string());
    Ok((record, None))
}

/// As [`find`], for the second key of a call that does two things.
pub(super) async fn find_second(
    call: &Call,
    action: Action,
    name: &str,
    key_token: &[u8],
) -> Result<(Arc<KeyRecord>, Option<u32>), ApiError> {
    if key_token.is_empty() {
        let name = second_version_named(call, action, name).await?;
        return Ok((find_second_key(call, action, &name.key).await?, name.version));
    }
    Ok((ephemeral(call, action, name, key_token).await?, None))
}

/// The ephemeral key of a token, if the caller may still use it as its owner.
async fn ephemeral(call: &Call, action: Action, name: &str, key_token: &[u8]) -> Result<Arc<KeyRecord>, ApiError> {
    if !name.is_empty() {
        return Err(ApiError::field("key_token", "expected a name or a token, found both"));
    }
    call.require_chance(action, "an ephemeral key")?;
    let gateway = Arc::clone(call.gateway());
    let key = gateway
        .ephemeral
        .open(key_token, call.principal(), now(), call.deadline())
        .await?;
    Ok(Arc::clone(&key.record))
}

/// Authorises a use of a key; returns the version and the mechanism. What is wrong with the caller's choice of them is told only
/// to those who may use the key.
pub(super) fn authorise<'r>(
    call: &mut Call,
    record: &'r KeyRecord,
    number: Option<u32>,
    wish: Wish<'_>,
) -> Result<(&'r VersionRecord, Mechanism), ApiError> {
    let found = find_version(record, number)
        .and_then(|version| choose_mechanism(record, wish).map(|mechanism| (version, mechanism)));
    let mechanism = found.as_ref().ok().map(|(_, mechanism)| *mechanism);
    call.authorise_key(
        named(record, number),
        record.facts(),
        wish.circumstances(record, number, mechanism),
    )?;
    let (version, mechanism) = found?;
    call.uses(record.key.name.version(version.row.number), Some(mechanism));
    Ok((version, mechanism))
}

/// The key or version in words.
pub(super) fn named(record: &KeyRecord, number: Option<u32>) -> String {
    match number {
        Some(number) => record.key.name.version(number),
        None => record.key.name.to_string(),
    }
}

/// The mechanism of an operation: the caller's, if the key permits it, else the only one that the key permits.
pub(super) fn choose_mechanism(record: &KeyRecord, wish: Wish<'_>) -> Result<Mechanism, ApiError> {
    let operation = wish.operation;
    let permitted: Vec<Mechanism> = record.profile.uses.mechanisms(operation).collect();
    let names = permitted.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let mismatch = |message: String| ApiError::new(Reason::AlgorithmMismatch, message).with("permitted", names.clone());
    match (convert::mechanism(wish.mechanism)?, permitted.as_slice()) {
        (_, []) => {
            let uses: Vec<_> = record.profile.uses.iter().map(|one| one.to_string()).collect();
            let uses = uses.join(", ");
            let message = format!("the key does not permit {operation}; it permits {uses}");
            Err(ApiError::new(Reason::AlgorithmMismatch, message).with("permitted", uses))
        }
        (Some(chosen), permitted) if permitted.contains(&chosen) => Ok(chosen),
        (Some(chosen), _) => Err(mismatch(format!(
            "the key does not permit {operation} with {chosen}; it permits {names}"
        ))),
        (None, [only]) => Ok(*only),
        (None, _) => Err(mismatch(format!(
            "the key permits several mechanisms for {operation} ({names}): name one"
        ))),
    }
}

/// Counts an AES-GCM encryption before it is made, if the version may still make one.
pub(super) async fn count_encryption(call: &Call, version: &VersionRecord) -> Result<(), ApiError> {
    let directory = Arc::clone(&call.gateway().directory);
    directory
        .uses()
        .admit_encryption(&version.uses, call.deadline())
        .await?;
    version.uses.note();
    Ok(())
}

//! Ephemeral keys: made, renewed, revoked.

use crate::{
    api::{
        ApiError, Reason,
        call::Call,
        changing::{once, ring_of},
        convert,
    },
    audit::Details,
    cluster::{operation::KeySpecification, transfer::Tenure},
    keys::{
        ephemeral::{EphemeralKey, LONGEST_LIFE, LONGEST_LIFETIME, key_name},
        purpose,
        record::{from_micros, micros, now},
    },
    policy::{Circumstances, KeyFacts},
};
use portcullis_hsm::key_token::Storage;
use portcullis_proto::v1;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

pub(super) async fn create(
    call: &mut Call,
    request: v1::CreateEphemeralKeyRequest,
) -> Result<v1::EphemeralKey, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(format!("keyRings/{ring}"));
    call.require_chance(call.action(), call.named())?;
    let key_type = convert::key_type(request.r#type)?;
    let listed = convert::permitted_uses(&request.permitted_uses)?;
    let (_, uses) = purpose::resolve(key_type, convert::purpose(request.purpose)?, listed)
        .map_err(|error| ApiError::new(Reason::AlgorithmMismatch, error.to_string()))?;
    let uid = Uuid::now_v7();
    let name = key_name(ring.clone(), uid)?;
    call.finds(name.to_string());
    call.authorise_key(
        KeyFacts {
            purpose: purpose::of(key_type, &uses),
            key_type,
            exportable: request.exportable,
            ..KeyFacts::unknown(&name)
        },
        Circumstances::NONE,
    )?;
    let lifetime = lifetime(request.lifetime)?;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&ring, call.deadline()).await?;
    let specification = KeySpecification {
        uid,
        version: 1,
        key_type,
        uses,
        storage: if request.exportable {
            Storage::Portable
        } else {
            Storage::Sealed
        },
        making: None,
    };
    let created = now();
    let tenure = Tenure {
        owner: call.principal(),
        ring: ring.as_str(),
        created: micros(created),
        expires: micros(created + lifetime),
    };
    let (sealed, member) = gateway
        .cluster
        .generate_ephemeral(&specification, tenure, call.errand())
        .await?;
    call.note_member(member);
    let key = gateway.ephemeral.made(&sealed).await?;
    call.note_details(details(&key));
    Ok(shown(sealed, &key))
}

pub(super) async fn renew(
    call: &mut Call,
    request: v1::RenewEphemeralKeyRequest,
) -> Result<v1::EphemeralKey, ApiError> {
    let gateway = Arc::clone(call.gateway());
    call.require_chance(call.action(), "an ephemeral key")?;
    let time = now();
    let key = gateway
        .ephemeral
        .open(&request.token, call.principal(), time, call.deadline())
        .await?;
    call.names(key.record.key.name.to_string());
    call.authorise_key(key.record.facts(), Circumstances::NONE)?;
    let end = micros(time + lifetime(request.lifetime)?);
    let last = key.token.created + LONGEST_LIFE.as_micros() as u64;
    let (sealed, member) = gateway
        .cluster
        .renew_ephemeral(&request.token, end.min(last), call.errand())
        .await?;
    call.note_member(member);
    let key = gateway.ephemeral.made(&sealed).await?;
    call.note_details(details(&key));
    Ok(shown(sealed, &key))
}

pub(super) async fn revoke(
    call: &mut Call,
    request: v1::RevokeEphemeralKeysRequest,
) -> Result<v1::RevokeEphemeralKeysResponse, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(format!("keyRings/{ring}"));
    call.authorise_ring(&ring, Circumstances::NONE)?;
    let owner = &request.principal;
    if owner.is_empty() || owner.len() > LONGEST_PRINCIPAL || owner.chars().any(char::is_control) {
        let found = owner.len();
        let message = format!(
            "expected the principal whose keys are revoked, in 1 to {LONGEST_PRINCIPAL} bytes without control characters, found {found} bytes"
        );
        return Err(ApiError::field("principal", message));
    }
    let time = micros(now());
    let not_before = match request.not_before {
        None => time,
        Some(asked) => u64::try_from(asked.seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(1_000_000))
            .and_then(|micros| micros.checked_add(u64::try_from(asked.nanos).ok()? / 1000))
            .filter(|asked| *asked <= time)
            .ok_or_else(|| ApiError::field("not_before", "expected a time that is not in the future"))?,
    };
    let once = once(call, &request.request_id, &request)?;
    let gateway = Arc::clone(call.gateway());
    gateway.directory.ring(&ring, call.deadline()).await?;
    let details = |not_before| Details::Revocation {
        owner: request.principal.clone(),
        not_before: from_micros(not_before).and_then(convert::text_time).unwrap_or_default(),
    };
    call.note_details(details(not_before));
    call.intend().await?;
    let not_before = gateway
        .ephemeral
        .revoke(&ring, &request.principal, not_before, once, call.deadline())
        .await?;
    call.note_details(details(not_before));
    Ok(v1::RevokeEphemeralKeysResponse {
        not_before: from_micros(not_before).map(convert::timestamp),
    })
}

/// How long a token is to live: an hour where nobody says.
fn lifetime(asked: Option<prost_types::Duration>) -> Result<Duration, ApiError> {
    let lifetime = match asked {
        None => USUAL_LIFETIME,
        Some(asked) => convert::duration("lifetime", asked)?,
    };
    if lifetime.is_zero() || lifetime > LONGEST_LIFETIME {
        return Err(ApiError::field(
            "lifetime",
            format!(
                "expected more than nothing and at most 24 h, found {} s",
                lifetime.as_secs()
            ),
        ));
    }
    Ok(lifetime)
}

fn details(key: &EphemeralKey) -> Details {
    let token = &key.token;
    Details::EphemeralKey {
        r#type: token.key_type.name(),
        permitted_uses: token.uses.iter().map(|one| one.to_string()).collect(),
        exportable: token.storage == Storage::Portable,
        expires: from_micros(token.expires)
            .and_then(convert::text_time)
            .unwrap_or_default(),
    }
}

fn shown(sealed: Vec<u8>, key: &EphemeralKey) -> v1::EphemeralKey {
    let token = &key.token;
    v1::EphemeralKey {
        token: sealed.into(),
        uid: token.uid.to_string(),
        r#type: token.key_type.number().into(),
        permitted_uses: convert::uses(&token.uses),
        public_key: token.public_key.clone().into(),
        expire_time: from_micros(token.expires).map(convert::timestamp),
        create_time: from_micros(token.created).map(convert::timestamp),
    }
}

const USUAL_LIFETIME: Duration = Duration::from_secs(3600);
const LONGEST_PRINCIPAL: usize = 1024;

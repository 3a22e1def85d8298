//! Public halves in PEM, DER and JWK, and a ring's as a set.

use crate::{
    api::{
        ApiError, Reason,
        call::Call,
        changing::ring_of,
        lookup::{find_key, find_version, require_public_key, version_named},
    },
    crypto::checksum,
    keys::{
        directory::{Completeness, KeyRecord, VersionRecord},
        jwk::json_web_key,
        state::VersionState,
    },
    policy::{Action, Circumstances, Resource},
};
use portcullis_proto::v1;
use serde_json::{Value, json};
use spki::der::pem::{LineEnding, encode_string};
use std::sync::Arc;

pub(super) async fn get(call: &mut Call, request: v1::GetPublicKeyRequest) -> Result<v1::PublicKey, ApiError> {
    let name = version_named(call, &request.name).await?;
    let record = find_key(call, &name.key).await?;
    let primary = record.key.primary_version;
    call.finds(name.to_string());
    call.authorise_key(
        record.facts(),
        Circumstances::about_version(name.version.is_none_or(|number| number == primary)),
    )?;
    let version = find_version(&record, name.version)?;
    let der = require_public_key(&record, version)?;
    let (format, public_key) = match v1::PublicKeyFormat::try_from(request.format) {
        Ok(v1::PublicKeyFormat::Unspecified | v1::PublicKeyFormat::Pem) => {
            let pem = encode_string("PUBLIC KEY", LineEnding::LF, der)
                .map_err(|error| ApiError::new(Reason::Internal, format!("the public key has no PEM form: {error}")))?;
            (v1::PublicKeyFormat::Pem, pem.into_bytes())
        }
        Ok(v1::PublicKeyFormat::Der) => (v1::PublicKeyFormat::Der, der.to_vec()),
        Ok(v1::PublicKeyFormat::Jwk) => (
            v1::PublicKeyFormat::Jwk,
            web_key(&record, version)?.to_string().into_bytes(),
        ),
        Err(_) => {
            return Err(ApiError::field(
                "format",
                format!("expected a PublicKeyFormat, found {}", request.format),
            ));
        }
    };
    Ok(v1::PublicKey {
        name: record.key.name.version(version.row.number),
        r#type: record.profile.key_type.number().into(),
        state: version.state() as i32,
        format: format.into(),
        public_key_crc32c: checksum::crc32c(&public_key),
        public_key: public_key.into(),
    })
}

pub(super) async fn key_set(
    call: &mut Call,
    request: v1::GetJsonWebKeySetRequest,
) -> Result<v1::JsonWebKeySet, ApiError> {
    let ring = ring_of(&request.parent)?;
    call.names(request.parent);
    call.authorise_ring(&ring, Circumstances::NONE)?;
    let directory = Arc::clone(&call.gateway().directory);
    let (signing, looked_at) = directory.signing_keys(&ring, call.deadline()).await?;
    call.charge(looked_at.max(signing.keys.len()));
    let may_read = |record: &KeyRecord| call.may(Action::ReadKey, Resource::Key(record.facts()));
    let mut keys = Vec::new();
    for record in signing.keys.iter().filter(|record| may_read(record)) {
        for version in record.versions.iter().filter(|version| is_published(version)) {
            keys.push(web_key(record, version)?);
        }
        if keys.len() > MOST_KEYS_OF_A_SET {
            break;
        }
    }
    if keys.len() > MOST_KEYS_OF_A_SET || signing.all == Completeness::Partial {
        return Err(ApiError::new(
            Reason::ResponseTooLarge,
            format!("the ring has more than {MOST_KEYS_OF_A_SET} public keys: ask for each with GetPublicKey"),
        ));
    }
    Ok(v1::JsonWebKeySet {
        json: json!({ "keys": keys }).to_string(),
    })
}

/// Whether verifiers should know a version: before it signs, while it signs, and after.
fn is_published(version: &VersionRecord) -> bool {
    matches!(
        version.state(),
        VersionState::PreActive | VersionState::Active | VersionState::Deactivated
    )
}

fn web_key(record: &KeyRecord, version: &VersionRecord) -> Result<Value, ApiError> {
    let kid = format!("{}/{}", record.key.uid, version.row.number);
    let profile = &record.profile;
    json_web_key(
        &kid,
        profile.key_type,
        &profile.uses,
        require_public_key(record, version)?,
    )
    .ok_or_else(|| ApiError::new(Reason::Internal, "the public key has no form as a JSON web key"))
}

const MOST_KEYS_OF_A_SET: usize = 5000;

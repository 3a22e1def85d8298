//! Answers as JSON. The names of the fields are those of the API and part of the interface.

use crate::{uses::purpose_word, words::word};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_client::v1;
use prost_types::{Duration, Timestamp};
use serde_json::{Value, json};

pub(crate) fn ring(ring: &v1::KeyRing) -> Value {
    json!({
        "name": ring.name,
        "uid": ring.uid,
        "labels": ring.labels,
        "least_destroy_window_seconds": seconds(ring.least_destroy_window),
        "create_time": time(ring.create_time),
        "etag": ring.etag,
    })
}

pub(crate) fn key(key: &v1::Key) -> Value {
    json!({
        "name": key.name,
        "uid": key.uid,
        "type": word::<v1::KeyType>(key.r#type),
        "purpose": purpose_word(key.purpose),
        "permitted_uses": key.permitted_uses.iter().map(permitted_use).collect::<Vec<_>>(),
        "protection": word::<v1::KeyProtection>(key.protection),
        "exportable": key.exportable,
        "labels": key.labels,
        "primary_version": key.primary_version,
        "primary": key.primary.as_ref().map(version),
        "create_time": time(key.create_time),
        "etag": key.etag,
        "destroy_window_seconds": seconds(key.destroy_window),
    })
}

pub(crate) fn version(version: &v1::KeyVersion) -> Value {
    json!({
        "name": version.name,
        "version": version.version,
        "state": word::<v1::KeyVersionState>(version.state),
        "state_reason": version.state_reason,
        "origin": word::<v1::KeyOrigin>(version.origin),
        "domain_epoch": version.domain_epoch,
        "members": version.members,
        "single_replica": version.single_replica,
        "create_time": time(version.create_time),
        "activation_time": time(version.activation_time),
        "deactivation_time": time(version.deactivation_time),
        "compromise_time": time(version.compromise_time),
        "destroy_time": time(version.destroy_time),
        "destruction": word::<v1::KeyDestruction>(version.destruction),
        "use_count": version.use_count,
        "etag": version.etag,
    })
}

pub(crate) fn alias(alias: &v1::Alias) -> Value {
    json!({
        "name": alias.name,
        "target": alias.target,
        "create_time": time(alias.create_time),
        "update_time": time(alias.update_time),
        "etag": alias.etag,
    })
}

pub(crate) fn recipient(recipient: &v1::Recipient) -> Value {
    json!({
        "name": recipient.name,
        "public_key": base64(&recipient.public_key),
        "fingerprint": recipient.fingerprint,
        "description": recipient.description,
        "create_time": time(recipient.create_time),
        "etag": recipient.etag,
    })
}

pub(crate) fn import_job(job: &v1::ImportJob) -> Value {
    json!({
        "name": job.name,
        "method": word::<v1::ImportMethod>(job.method),
        "type": word::<v1::KeyType>(job.wrapping_key_type),
        "public_key": base64(&job.public_key),
        "create_time": time(job.create_time),
        "expire_time": time(job.expire_time),
        "imported_version": job.imported_version,
    })
}

/// What is known of an ephemeral key beside its token.
pub(crate) fn ephemeral_key(key: &v1::EphemeralKey) -> Value {
    json!({
        "uid": key.uid,
        "type": word::<v1::KeyType>(key.r#type),
        "permitted_uses": key.permitted_uses.iter().map(permitted_use).collect::<Vec<_>>(),
        "public_key": base64(&key.public_key),
        "create_time": time(key.create_time),
        "expire_time": time(key.expire_time),
    })
}

/// What is known of an object, its content included.
pub(crate) fn object(object: &v1::StoredObject) -> Value {
    let (certificate, data) = match &object.content {
        Some(v1::stored_object::Content::Certificate(certificate)) => (Some(base64(certificate)), None),
        Some(v1::stored_object::Content::Data(data)) => (
            None,
            Some(json!({
                "application": data.application,
                "oid": hex::encode(&data.oid),
                "value": base64(&data.value),
            })),
        ),
        None => (None, None),
    };
    json!({
        "name": object.name,
        "uid": object.uid,
        "label": base64(&object.label),
        "object_id": hex::encode(&object.object_id),
        "certificate": certificate,
        "chain": object.chain.iter().map(|one| base64(one)).collect::<Vec<_>>(),
        "data": data,
        "key": object.key,
        "create_time": time(object.create_time),
        "update_time": time(object.update_time),
        "etag": object.etag,
    })
}

pub(crate) fn member(member: &v1::Member) -> Value {
    json!({
        "name": member.name,
        "state": word::<v1::MemberState>(member.state),
        "reason": member.reason,
        "state_time": time(member.state_time),
        "token": member.token.as_ref().map(token),
        "outstanding": member.outstanding,
        "worker_starts": member.worker_starts,
        "domain_fingerprint": member.domain_fingerprint,
        "capabilities": member.capabilities,
        "weight": member.weight,
        "sealing_obstacles": member
            .sealing_obstacles
            .iter()
            .map(|one| json!({ "code": one.code, "message": one.message }))
            .collect::<Vec<_>>(),
        "breaker": word::<v1::BreakerState>(member.breaker),
        "slowness": member.slowness,
        "workers": member.workers.iter().map(worker).collect::<Vec<_>>(),
    })
}

fn worker(worker: &v1::Worker) -> Value {
    json!({
        "epoch": worker.epoch,
        "state": word::<v1::WorkerState>(worker.state),
        "reason": worker.reason,
        "state_time": time(worker.state_time),
        "outstanding": worker.outstanding,
    })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// RFC 3339.
fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

fn seconds(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| duration.seconds)
}

fn permitted_use(permitted: &v1::PermittedUse) -> Value {
    json!({
        "operation": word::<v1::KeyOperation>(permitted.operation),
        "mechanism": word::<v1::Mechanism>(permitted.mechanism),
    })
}

fn token(token: &v1::Token) -> Value {
    json!({
        "label": token.label,
        "serial_number": token.serial_number,
        "manufacturer": token.manufacturer,
        "model": token.model,
        "firmware_version": token.firmware_version,
        "hardware_version": token.hardware_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_words_and_its_primary_version() {
        let document = key(&v1::Key {
            name: "keyRings/demo/keys/tls".into(),
            r#type: v1::KeyType::EcP256 as i32,
            purpose: v1::KeyPurpose::SignVerify as i32,
            permitted_uses: vec![v1::PermittedUse {
                operation: v1::KeyOperation::Sign as i32,
                mechanism: v1::Mechanism::EcdsaSha256 as i32,
            }],
            protection: v1::KeyProtection::Wrapped as i32,
            primary_version: 1,
            primary: Some(v1::KeyVersion {
                state: v1::KeyVersionState::Active as i32,
                origin: v1::KeyOrigin::Generated as i32,
                ..Default::default()
            }),
            ..Default::default()
        });
        assert_eq!(document["type"], "ec-p256");
        assert_eq!(document["purpose"], "sign");
        assert_eq!(
            document["permitted_uses"],
            json!([{ "operation": "sign", "mechanism": "ecdsa-sha256" }])
        );
        assert_eq!(document["protection"], "wrapped");
        assert_eq!(document["primary"]["state"], "active");
        assert_eq!(document["primary"]["origin"], "generated");
        assert!(document["create_time"].is_null());
    }
}

//! Answers as JSON. The names of the fields are those of the API and part of the interface.

use crate::{uses::purpose_word, words::word};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_client::v1;
use serde_json::{Value, json};

pub(crate) fn ring(ring: &v1::KeyRing) -> Value {
    json!({
        "name": ring.name,
        "uid": ring.uid,
        "labels": ring.labels,
        "create_time": ring.create_time.map(|time| time.to_string()),
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
        "create_time": key.create_time.map(|time| time.to_string()),
        "etag": key.etag,
        "destroy_window_seconds": key.destroy_window.map(|window| window.seconds),
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
        "create_time": version.create_time.map(|time| time.to_string()),
        "activation_time": version.activation_time.map(|time| time.to_string()),
        "deactivation_time": version.deactivation_time.map(|time| time.to_string()),
        "compromise_time": version.compromise_time.map(|time| time.to_string()),
        "destroy_time": version.destroy_time.map(|time| time.to_string()),
        "use_count": version.use_count,
        "etag": version.etag,
    })
}

pub(crate) fn member(member: &v1::Member) -> Value {
    json!({
        "name": member.name,
        "state": word::<v1::MemberState>(member.state),
        "reason": member.reason,
        "state_time": member.state_time.map(|time| time.to_string()),
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
        "state_time": worker.state_time.map(|time| time.to_string()),
        "outstanding": worker.outstanding,
    })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
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

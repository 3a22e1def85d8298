//! Importing, exporting, and keys that are not stored.

use crate::calls::KeySpec;
use crate::{
    calls::key_request,
    material::{Material, OaepHash, kwp_wrap, rsa_aes_wrap},
};
use portcullis_client::{
    Client, Status,
    v1::{
        CreateEphemeralKeyRequest, CreateImportJobRequest, CreateRecipientRequest, EphemeralKey, ImportJob,
        ImportKeyVersionRequest, ImportMethod, Key, KeyVersion, Recipient,
    },
};
use prost::bytes::Bytes;

/// Creates a key that waits for its key material.
pub async fn create_key_for_import(client: &Client, ring: &str, key: &str, spec: KeySpec) -> Key {
    let mut request = key_request(ring, key, spec);
    request.import_only = true;
    let answer = client.keys().create_key(request).await;
    answer
        .unwrap_or_else(|status| panic!("key {ring}/{key}: {status:?}"))
        .into_inner()
}

/// Creates an import job of a ring, for RSA-OAEP with SHA-1, which every SoftHSM2 has.
pub async fn create_import_job(client: &Client, ring: &str) -> ImportJob {
    let request = CreateImportJobRequest {
        parent: format!("keyRings/{ring}"),
        method: ImportMethod::RsaOaepSha1AesKwp as i32,
        wrapping_key_type: portcullis_client::v1::KeyType::Rsa2048 as i32,
        ..Default::default()
    };
    let answer = client.keys().create_import_job(request).await;
    answer
        .unwrap_or_else(|status| panic!("an import job of {ring}: {status:?}"))
        .into_inner()
}

/// The request that imports a key in clear.
pub fn clear_import(key: &str, material: &Material) -> ImportKeyVersionRequest {
    ImportKeyVersionRequest {
        parent: key.to_owned(),
        method: ImportMethod::Clear as i32,
        wrapped_key: Bytes::copy_from_slice(&material.value),
        public_key: Bytes::copy_from_slice(&material.public_key),
        ..Default::default()
    }
}

/// The request that imports a key by an import job.
pub fn job_import(key: &str, job: &ImportJob, material: &Material) -> ImportKeyVersionRequest {
    ImportKeyVersionRequest {
        parent: key.to_owned(),
        method: job.method,
        import_job: job.name.clone(),
        wrapped_key: rsa_aes_wrap(&job.public_key, OaepHash::Sha1, &material.value).into(),
        public_key: Bytes::copy_from_slice(&material.public_key),
        ..Default::default()
    }
}

/// The request that imports a key that is wrapped under one that both sides hold.
pub fn shared_key_import(key: &str, unwrapping: &str, shared: &[u8], material: &Material) -> ImportKeyVersionRequest {
    ImportKeyVersionRequest {
        parent: key.to_owned(),
        method: ImportMethod::AesKwp as i32,
        unwrapping_key: unwrapping.to_owned(),
        wrapped_key: kwp_wrap(shared, &material.value).into(),
        public_key: Bytes::copy_from_slice(&material.public_key),
        ..Default::default()
    }
}

/// Imports a key version.
pub async fn import(client: &Client, request: ImportKeyVersionRequest) -> Result<KeyVersion, Status> {
    Ok(client.keys().import_key_version(request).await?.into_inner())
}

/// Registers a recipient of a ring's exportable keys.
pub async fn create_recipient(client: &Client, ring: &str, id: &str, public_key: &[u8]) -> Result<Recipient, Status> {
    let request = CreateRecipientRequest {
        parent: format!("keyRings/{ring}"),
        recipient_id: id.to_owned(),
        recipient: Some(Recipient {
            public_key: Bytes::copy_from_slice(public_key),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(client.keys().create_recipient(request).await?.into_inner())
}

/// Creates an ephemeral key.
pub async fn create_ephemeral_key(
    client: &Client,
    ring: &str,
    spec: KeySpec,
    lifetime_seconds: i64,
) -> Result<EphemeralKey, Status> {
    // The same uses as a stored key of the kind.
    let key = key_request(ring, "unused", spec).key.expect("a key");
    let request = CreateEphemeralKeyRequest {
        parent: format!("keyRings/{ring}"),
        r#type: key.r#type,
        purpose: key.purpose,
        permitted_uses: key.permitted_uses,
        lifetime: Some(prost_types::Duration {
            seconds: lifetime_seconds,
            nanos: 0,
        }),
        ..Default::default()
    };
    Ok(client.keys().create_ephemeral_key(request).await?.into_inner())
}

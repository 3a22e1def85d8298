//! The calls that the module makes. All may be made again: uses of keys by what they are, changes by their request id.

use super::{
    connection::LARGEST_ANSWER,
    pool::{Pool, unexpected},
};
use crate::error::Result;
use portcullis_proto::v1::{
    self, key_service_client::KeyServiceClient, object_service_client::ObjectServiceClient,
    pipeline_request::Request as Asked, pipeline_response::Response as Answer,
};
use std::time::{Duration, Instant};
use uuid::Uuid;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($variant:ident, $request:ident) -> $response:ident;)*) => {
        impl Pool {
            $($(#[$doc])*
            pub(crate) fn $name(&self, request: v1::$request) -> Result<v1::$response> {
                match self.perform(Asked::$variant(request))? {
                    Answer::$variant(response) => Ok(response),
                    _ => Err(unexpected()),
                }
            })*
        }
    };
}

operations! {
    /// Makes a signature.
    sign(Sign, SignRequest) -> SignResponse;
    /// Encrypts by a mode of AES.
    encrypt(Encrypt, EncryptRequest) -> EncryptResponse;
    /// Decrypts by a mode of AES.
    decrypt(Decrypt, DecryptRequest) -> DecryptResponse;
    /// Makes a message authentication code.
    mac_sign(MacSign, MacSignRequest) -> MacSignResponse;
    /// Decrypts what was encrypted to an RSA key.
    asymmetric_decrypt(AsymmetricDecrypt, AsymmetricDecryptRequest) -> AsymmetricDecryptResponse;
    /// Agrees on a secret.
    derive_shared_secret(DeriveSharedSecret, DeriveSharedSecretRequest) -> DeriveSharedSecretResponse;
    /// Draws random bytes.
    generate_random(GenerateRandom, GenerateRandomRequest) -> GenerateRandomResponse;
}

macro_rules! calls {
    ($($(#[$doc:meta])* $client:ident.$name:ident($request:ident) -> $response:ident;)*) => {
        impl Pool {
            $($(#[$doc])*
            pub(crate) fn $name(&self, request: v1::$request) -> Result<v1::$response> {
                self.with(|connection, deadline| {
                    let request = timed(request.clone(), deadline);
                    connection.call(deadline, |channel| async move {
                        let mut service = $client::new(channel).max_decoding_message_size(LARGEST_ANSWER);
                        service.$name(request).await
                    })
                })
            })*
        }
    };
}

calls! {
    /// A page of the rings that the caller may see.
    KeyServiceClient.list_key_rings(ListKeyRingsRequest) -> ListKeyRingsResponse;
    /// What the cluster can do.
    KeyServiceClient.list_mechanisms(ListMechanismsRequest) -> ListMechanismsResponse;
    /// A page of a ring's keys.
    KeyServiceClient.list_keys(ListKeysRequest) -> ListKeysResponse;
    /// Generates a stored key.
    KeyServiceClient.create_key(CreateKeyRequest) -> Key;
    /// Brings a key its key material.
    KeyServiceClient.import_key_version(ImportKeyVersionRequest) -> KeyVersion;
    /// Wraps a version under another key.
    KeyServiceClient.export_key_version(ExportKeyVersionRequest) -> ExportKeyVersionResponse;

    /// The public half of a version.
    KeyServiceClient.get_public_key(GetPublicKeyRequest) -> PublicKey;
    /// Changes a key's labels.
    KeyServiceClient.update_key(UpdateKeyRequest) -> Key;
    /// Schedules the destruction of a version.
    KeyServiceClient.schedule_key_version_destruction(ScheduleKeyVersionDestructionRequest) -> KeyVersion;
    /// Generates a key that is not stored.
    KeyServiceClient.create_ephemeral_key(CreateEphemeralKeyRequest) -> EphemeralKey;
    /// A page of a ring's certificates and data objects.
    ObjectServiceClient.list_objects(ListObjectsRequest) -> ListObjectsResponse;
    /// Stores a certificate or a data object.
    ObjectServiceClient.create_object(CreateObjectRequest) -> StoredObject;
    /// Changes one.
    ObjectServiceClient.update_object(UpdateObjectRequest) -> StoredObject;
    /// Removes one.
    ObjectServiceClient.delete_object(DeleteObjectRequest) -> DeleteObjectResponse;
}

/// The id under which a change is made once, however often it is asked for.
pub(crate) fn request_id() -> String {
    Uuid::new_v4().to_string()
}

fn timed<T>(request: T, deadline: Instant) -> tonic::Request<T> {
    let mut request = tonic::Request::new(request);
    let left = deadline.saturating_duration_since(Instant::now());
    request.set_timeout(left.max(Duration::from_millis(1)));
    request
}

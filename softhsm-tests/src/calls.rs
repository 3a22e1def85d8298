//! Creating and using keys.

use portcullis_client::{
    Client, Status,
    v1::{
        CreateKeyRequest, CreateKeyRingRequest, DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse,
        GetPublicKeyRequest, Key, KeyOperation, KeyProtection, KeyPurpose, KeyRing, KeyType, Mechanism, PermittedUse,
        PublicKey, PublicKeyFormat, SignRequest, SignResponse, decrypt_request, encrypt_request::Authenticated,
        sign_request::Input,
    },
};
use prost::bytes::Bytes;

/// What key to create.
#[derive(Clone, Copy)]
pub struct KeySpec {
    /// What it is.
    pub key_type: KeyType,
    /// What it may do; what its type is usually for when empty.
    pub uses: &'static [(KeyOperation, Mechanism)],
    /// How its secret half is kept.
    pub protection: KeyProtection,
    /// Whether the caller accepts that one member alone holds it.
    pub allow_single_replica: bool,
}

impl KeySpec {
    /// Signs by ECDSA with SHA-256.
    pub const EC_P256: Self = Self::wrapped(KeyType::EcP256, &[]);
    /// Signs by RSASSA-PKCS1-v1_5 with SHA-256.
    pub const RSA_PKCS1: Self = Self::wrapped(KeyType::Rsa2048, &[(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256)]);
    /// Signs by RSASSA-PSS with SHA-256.
    pub const RSA_PSS: Self = Self::wrapped(KeyType::Rsa2048, &[(KeyOperation::Sign, Mechanism::RsaPssSha256)]);
    /// Encrypts and decrypts by AES-GCM.
    pub const AES_256: Self = Self::wrapped(KeyType::Aes256, &[]);
    /// Makes message authentication codes.
    pub const HMAC_SHA256: Self = Self::wrapped(KeyType::HmacSha256, &[]);
    /// Signs by Ed25519, on one member.
    pub const ED25519_RESIDENT: Self = Self {
        protection: KeyProtection::Resident,
        allow_single_replica: true,
        ..Self::wrapped(KeyType::Ed25519, &[])
    };

    /// A wrapped key.
    pub const fn wrapped(key_type: KeyType, uses: &'static [(KeyOperation, Mechanism)]) -> Self {
        Self {
            key_type,
            uses,
            protection: KeyProtection::Wrapped,
            allow_single_replica: false,
        }
    }
}

/// Creates a key ring.
pub async fn create_ring(client: &Client, ring: &str) -> KeyRing {
    let request = CreateKeyRingRequest {
        key_ring_id: ring.to_owned(),
        ..Default::default()
    };
    client
        .keys()
        .create_key_ring(request)
        .await
        .unwrap_or_else(|status| panic!("ring {ring}: {status:?}"))
        .into_inner()
}

/// The request that creates a key.
pub fn key_request(ring: &str, key: &str, spec: KeySpec) -> CreateKeyRequest {
    let purpose = if spec.uses.is_empty() {
        KeyPurpose::Unspecified
    } else {
        KeyPurpose::Custom
    };
    let permitted_uses = spec
        .uses
        .iter()
        .map(|(operation, mechanism)| PermittedUse {
            operation: *operation as i32,
            mechanism: *mechanism as i32,
        })
        .collect();
    CreateKeyRequest {
        parent: format!("keyRings/{ring}"),
        key_id: key.to_owned(),
        key: Some(Key {
            r#type: spec.key_type as i32,
            purpose: purpose as i32,
            permitted_uses,
            protection: spec.protection as i32,
            ..Default::default()
        }),
        allow_single_replica: spec.allow_single_replica,
        ..Default::default()
    }
}

/// Creates a key.
pub async fn create_key(client: &Client, ring: &str, key: &str, spec: KeySpec) -> Key {
    let answer = client.keys().create_key(key_request(ring, key, spec)).await;
    answer
        .unwrap_or_else(|status| panic!("key {ring}/{key}: {status:?}"))
        .into_inner()
}

/// The request that signs a message.
pub fn message_request(name: &str, message: &[u8]) -> SignRequest {
    SignRequest {
        name: name.to_owned(),
        input: Some(Input::Message(Bytes::copy_from_slice(message))),
        ..Default::default()
    }
}

/// The request that signs a digest.
pub fn digest_request(name: &str, digest: &[u8]) -> SignRequest {
    SignRequest {
        name: name.to_owned(),
        input: Some(Input::Digest(Bytes::copy_from_slice(digest))),
        ..Default::default()
    }
}

/// Signs a message.
pub async fn sign(client: &Client, name: &str, message: &[u8]) -> Result<SignResponse, Status> {
    Ok(client.crypto().sign(message_request(name, message)).await?.into_inner())
}

/// The request that encrypts with associated data.
pub fn encrypt_request(name: &str, plaintext: &[u8], associated_data: &[u8]) -> EncryptRequest {
    EncryptRequest {
        name: name.to_owned(),
        plaintext: Bytes::copy_from_slice(plaintext),
        authenticated: Some(Authenticated::AssociatedData(Bytes::copy_from_slice(associated_data))),
        ..Default::default()
    }
}

/// Encrypts with associated data.
pub async fn encrypt(
    client: &Client,
    name: &str,
    plaintext: &[u8],
    associated_data: &[u8],
) -> Result<EncryptResponse, Status> {
    Ok(client
        .crypto()
        .encrypt(encrypt_request(name, plaintext, associated_data))
        .await?
        .into_inner())
}

/// Decrypts with associated data.
pub async fn decrypt(
    client: &Client,
    name: &str,
    ciphertext: &[u8],
    associated_data: &[u8],
) -> Result<DecryptResponse, Status> {
    let request = DecryptRequest {
        name: name.to_owned(),
        ciphertext: Bytes::copy_from_slice(ciphertext),
        authenticated: Some(decrypt_request::Authenticated::AssociatedData(Bytes::copy_from_slice(
            associated_data,
        ))),
        ..Default::default()
    };
    Ok(client.crypto().decrypt(request).await?.into_inner())
}

/// A key's public half.
pub async fn public_key(client: &Client, name: &str, format: PublicKeyFormat) -> PublicKey {
    let request = GetPublicKeyRequest {
        name: name.to_owned(),
        format: format as i32,
    };
    let answer = client.keys().get_public_key(request).await;
    answer
        .unwrap_or_else(|status| panic!("public key of {name}: {status:?}"))
        .into_inner()
}

/// CRC32C (Castagnoli), by its definition.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_has_its_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}

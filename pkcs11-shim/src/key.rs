//! Keys of the gateway: one version each.

use crate::software::{ec::Curve, public_key::PublicKey};
use cryptoki_sys::*;
use portcullis_proto::v1::{KeyOperation, KeyType, Mechanism};
use zeroize::Zeroizing;

/// A version of a key, of which a token shows one object or a pair.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) reference: Reference,
    /// Tells it from all others, for ever.
    pub(crate) identity: String,
    pub(crate) key_type: KeyType,
    pub(crate) uses: Vec<(KeyOperation, Mechanism)>,
    pub(crate) standing: Standing,
    /// SubjectPublicKeyInfo in DER; empty for secret keys.
    pub(crate) info: Vec<u8>,
    pub(crate) public: Option<PublicKey>,
    pub(crate) id: Vec<u8>,
    pub(crate) label: String,
    pub(crate) is_exportable: bool,
    pub(crate) is_generated: bool,
    pub(crate) is_resident: bool,
}

/// How requests name it.
#[derive(Clone)]
pub(crate) enum Reference {
    /// A stored version.
    Stored {
        /// `keyRings/{ring}/keys/{key}`.
        key: String,
        /// Its number.
        version: u32,
    },
    /// An ephemeral key's token.
    Ephemeral(Zeroizing<Vec<u8>>),
    /// None does: it is a public key that the caller brought, and is used here.
    Brought,
}

/// What a version's state lets it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything that it is permitted.
    Active,
    /// Old data alone: decrypt and verify.
    Old,
    /// Nothing yet: its public half is shown.
    Announced,
}

impl Key {
    /// The name and the token that a request has.
    pub(crate) fn named(&self) -> (String, Vec<u8>) {
        match &self.reference {
            Reference::Stored { key, version } => (format!("{key}/versions/{version}"), Vec::new()),
            Reference::Ephemeral(token) => (String::new(), token.to_vec()),
            Reference::Brought => (String::new(), Vec::new()),
        }
    }

    /// Whether it may be used so, in its present state.
    pub(crate) fn permits(&self, operation: KeyOperation, mechanism: Mechanism) -> bool {
        let by_state = match self.standing {
            Standing::Active => true,
            Standing::Old => matches!(
                operation,
                KeyOperation::Decrypt | KeyOperation::MacVerify | KeyOperation::Unwrap
            ),
            Standing::Announced => false,
        };
        by_state && self.uses.contains(&(operation, mechanism))
    }

    /// Whether any of its uses is of this operation.
    pub(crate) fn does(&self, operation: KeyOperation) -> bool {
        self.uses
            .iter()
            .any(|(one, mechanism)| *one == operation && self.permits(operation, *mechanism))
    }

    /// Whether it is a caller's own public key.
    pub(crate) fn is_brought(&self) -> bool {
        matches!(self.reference, Reference::Brought)
    }

    /// `CKA_KEY_TYPE`.
    pub(crate) fn pkcs11_type(&self) -> CK_KEY_TYPE {
        pkcs11_type(self.key_type)
    }

    /// `CKA_KEY_GEN_MECHANISM`.
    pub(crate) fn generator(&self) -> CK_MECHANISM_TYPE {
        match self.is_generated {
            true => generator(self.key_type),
            false => CK_UNAVAILABLE_INFORMATION,
        }
    }

    /// The curve, for ECDSA.
    pub(crate) fn curve(&self) -> Option<Curve> {
        match self.key_type {
            KeyType::EcP256 => Some(Curve::P256),
            KeyType::EcP384 => Some(Curve::P384),
            KeyType::EcP521 => Some(Curve::P521),
            _ => None,
        }
    }

    /// Modulus and exponent, for RSA.
    pub(crate) fn rsa(&self) -> Option<(&[u8], &[u8])> {
        match &self.public {
            Some(PublicKey::Rsa { modulus, exponent }) => Some((modulus, exponent)),
            _ => None,
        }
    }

    /// The point, for curves.
    pub(crate) fn point(&self) -> Option<&[u8]> {
        match &self.public {
            Some(PublicKey::Curve { point, .. }) => Some(point),
            _ => None,
        }
    }

    /// The length of a secret key in bytes.
    pub(crate) fn secret_length(&self) -> Option<usize> {
        match self.key_type {
            KeyType::Aes128 => Some(16),
            KeyType::Aes256 | KeyType::HmacSha256 => Some(32),
            KeyType::HmacSha384 => Some(48),
            KeyType::HmacSha512 => Some(64),
            _ => None,
        }
    }

    /// `CKA_ALLOWED_MECHANISMS`: the standard's mechanisms that what it is permitted makes possible.
    pub(crate) fn allowed_mechanisms(&self) -> Vec<CK_MECHANISM_TYPE> {
        let mut allowed: Vec<_> = self
            .uses
            .iter()
            .flat_map(|(_, mechanism)| standard(*mechanism))
            .copied()
            .collect();
        allowed.sort_unstable();
        allowed.dedup();
        allowed
    }
}

fn pkcs11_type(key_type: KeyType) -> CK_KEY_TYPE {
    match key_type {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => CKK_RSA,
        KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521 => CKK_EC,
        KeyType::Ed25519 => CKK_EC_EDWARDS,
        KeyType::Aes128 | KeyType::Aes256 => CKK_AES,
        _ => CKK_GENERIC_SECRET,
    }
}

/// The mechanism that generates keys of a type.
pub(crate) fn generator(key_type: KeyType) -> CK_MECHANISM_TYPE {
    match pkcs11_type(key_type) {
        CKK_RSA => CKM_RSA_PKCS_KEY_PAIR_GEN,
        CKK_EC => CKM_EC_KEY_PAIR_GEN,
        CKK_EC_EDWARDS => CKM_EC_EDWARDS_KEY_PAIR_GEN,
        CKK_AES => CKM_AES_KEY_GEN,
        _ => CKM_GENERIC_SECRET_KEY_GEN,
    }
}

/// The mechanisms of the standard that a mechanism of the gateway carries.
pub(crate) fn standard(mechanism: Mechanism) -> &'static [CK_MECHANISM_TYPE] {
    match mechanism {
        Mechanism::EcdsaSha256 | Mechanism::EcdsaSha384 | Mechanism::EcdsaSha512 => &[
            CKM_ECDSA,
            CKM_ECDSA_SHA1,
            CKM_ECDSA_SHA224,
            CKM_ECDSA_SHA256,
            CKM_ECDSA_SHA384,
            CKM_ECDSA_SHA512,
        ],
        Mechanism::RsaPkcs1Sha256 => &[CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS],
        Mechanism::RsaPkcs1Sha384 => &[CKM_RSA_PKCS, CKM_SHA384_RSA_PKCS],
        Mechanism::RsaPkcs1Sha512 => &[CKM_RSA_PKCS, CKM_SHA512_RSA_PKCS],
        Mechanism::RsaPssSha256 => &[CKM_RSA_PKCS_PSS, CKM_SHA256_RSA_PKCS_PSS],
        Mechanism::RsaPssSha384 => &[CKM_RSA_PKCS_PSS, CKM_SHA384_RSA_PKCS_PSS],
        Mechanism::RsaPssSha512 => &[CKM_RSA_PKCS_PSS, CKM_SHA512_RSA_PKCS_PSS],
        Mechanism::RsaOaepSha1 | Mechanism::RsaOaepSha256 => &[CKM_RSA_PKCS_OAEP],
        Mechanism::RsaPkcs1Encryption => &[CKM_RSA_PKCS],
        Mechanism::RsaRaw => &[
            CKM_RSA_X_509,
            CKM_RSA_PKCS,
            CKM_SHA1_RSA_PKCS,
            CKM_SHA224_RSA_PKCS,
            CKM_SHA256_RSA_PKCS,
            CKM_SHA384_RSA_PKCS,
            CKM_SHA512_RSA_PKCS,
            CKM_RSA_PKCS_PSS,
            CKM_SHA1_RSA_PKCS_PSS,
            CKM_SHA224_RSA_PKCS_PSS,
            CKM_SHA256_RSA_PKCS_PSS,
            CKM_SHA384_RSA_PKCS_PSS,
            CKM_SHA512_RSA_PKCS_PSS,
        ],
        Mechanism::Ed25519 => &[CKM_EDDSA],
        Mechanism::AesCbc | Mechanism::AesCbcCallerIv => &[CKM_AES_CBC],
        Mechanism::AesCbcPad | Mechanism::AesCbcPadCallerIv => &[CKM_AES_CBC_PAD],
        Mechanism::AesGcmCallerIv => &[CKM_AES_GCM],
        Mechanism::AesCtr => &[CKM_AES_CTR],
        Mechanism::AesEcb => &[CKM_AES_ECB],
        Mechanism::AesCmac => &[CKM_AES_CMAC],
        Mechanism::HmacSha256 => &[CKM_SHA256_HMAC, CKM_SHA256_HMAC_GENERAL],
        Mechanism::HmacSha384 => &[CKM_SHA384_HMAC, CKM_SHA384_HMAC_GENERAL],
        Mechanism::HmacSha512 => &[CKM_SHA512_HMAC, CKM_SHA512_HMAC_GENERAL],
        Mechanism::Ecdh => &[CKM_ECDH1_DERIVE],
        Mechanism::AesKw => &[CKM_AES_KEY_WRAP],
        Mechanism::AesKwp => &[CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP],
        // Not carried: the gateway's own format.
        Mechanism::AesGcm | Mechanism::Unspecified => &[],
    }
}

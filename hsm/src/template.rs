//! Complete attribute templates. Every usage attribute is set, because tokens default them to true (SoftHSM2: ENCRYPT,
//! DECRYPT, SIGN, WRAP and UNWRAP), and `CKA_MODIFIABLE` false comes last, because some apply attributes in order.

use crate::{
    algorithm::{Family, Hash, KeyType, Mechanism, Operation, PermittedUses},
    pkcs11::{Attribute, CallMechanism, Template},
    public_key::curve_parameters,
};
use cryptoki_sys::*;

/// Where an object lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// A session object: it dies with its creator's session.
    Session,
    /// A token object with a `CKA_ID` and a `CKA_LABEL`.
    Token,
}

/// Whether the key may be wrapped by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extraction {
    /// `CKA_EXTRACTABLE` true.
    Allowed,
    /// `CKA_EXTRACTABLE` false.
    Forbidden,
}

/// The usage attributes of a secret or private key, all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `CKA_ENCRYPT`; secret keys only.
    pub encrypt: bool,
    /// `CKA_DECRYPT`.
    pub decrypt: bool,
    /// `CKA_SIGN`.
    pub sign: bool,
    /// `CKA_VERIFY`; secret keys only.
    pub verify: bool,
    /// `CKA_WRAP`; secret keys only.
    pub wrap: bool,
    /// `CKA_UNWRAP`.
    pub unwrap: bool,
    /// `CKA_DERIVE`.
    pub derive: bool,
}

impl Usage {
    /// A key that can do nothing but be wrapped.
    pub const NONE: Self = Self {
        encrypt: false,
        decrypt: false,
        sign: false,
        verify: false,
        wrap: false,
        unwrap: false,
        derive: false,
    };

    /// The attributes that a set of uses needs.
    pub fn of(uses: &PermittedUses) -> Self {
        Self {
            encrypt: uses.permit_operation(Operation::Encrypt),
            decrypt: uses.permit_operation(Operation::Decrypt),
            sign: uses.permit_operation(Operation::Sign) || uses.permit_operation(Operation::MacSign),
            verify: uses.permit_operation(Operation::MacVerify),
            wrap: uses.permit_operation(Operation::Wrap),
            unwrap: uses.permit_operation(Operation::Unwrap),
            derive: uses.permit_operation(Operation::Derive),
        }
    }

    fn secret_attributes(self) -> [Attribute; 7] {
        [
            Attribute::flag(CKA_ENCRYPT, self.encrypt),
            Attribute::flag(CKA_DECRYPT, self.decrypt),
            Attribute::flag(CKA_SIGN, self.sign),
            Attribute::flag(CKA_VERIFY, self.verify),
            Attribute::flag(CKA_WRAP, self.wrap),
            Attribute::flag(CKA_UNWRAP, self.unwrap),
            Attribute::flag(CKA_DERIVE, self.derive),
        ]
    }

    fn private_attributes(self) -> [Attribute; 5] {
        [
            Attribute::flag(CKA_DECRYPT, self.decrypt),
            Attribute::flag(CKA_SIGN, self.sign),
            Attribute::flag(CKA_SIGN_RECOVER, false),
            Attribute::flag(CKA_UNWRAP, self.unwrap),
            Attribute::flag(CKA_DERIVE, self.derive),
        ]
    }
}

/// A sensitive secret or private key of a type.
///
/// For unwrapping and importing `CKA_CLASS` and `CKA_KEY_TYPE` are part of it; generation mechanisms imply the same.
/// The lengths and values that some calls need are added by the caller with [`Template::with`] before [`frozen`].
pub fn key(key_type: KeyType, lifetime: Lifetime, extraction: Extraction, usage: Usage) -> Template {
    let class = if key_type.is_asymmetric() {
        CKO_PRIVATE_KEY
    } else {
        CKO_SECRET_KEY
    };
    let mut attributes = vec![
        Attribute::number(CKA_CLASS, class),
        Attribute::number(CKA_KEY_TYPE, pkcs11_key_type(key_type)),
        Attribute::flag(CKA_TOKEN, lifetime == Lifetime::Token),
        Attribute::flag(CKA_PRIVATE, true),
        Attribute::flag(CKA_SENSITIVE, true),
        Attribute::flag(CKA_EXTRACTABLE, extraction == Extraction::Allowed),
    ];
    if key_type.is_asymmetric() {
        attributes.extend(usage.private_attributes());
    } else {
        attributes.extend(usage.secret_attributes());
    }
    attributes.push(Attribute::flag(CKA_COPYABLE, false));
    Template::new(attributes)
}

/// The public half of a pair to generate: it can do nothing, because public operations run in software.
pub fn public_half(key_type: KeyType, lifetime: Lifetime) -> Template {
    let mut attributes = vec![
        Attribute::number(CKA_CLASS, CKO_PUBLIC_KEY),
        Attribute::number(CKA_KEY_TYPE, pkcs11_key_type(key_type)),
        Attribute::flag(CKA_TOKEN, lifetime == Lifetime::Token),
        Attribute::flag(CKA_PRIVATE, false),
        Attribute::flag(CKA_ENCRYPT, false),
        Attribute::flag(CKA_VERIFY, false),
        Attribute::flag(CKA_VERIFY_RECOVER, false),
        Attribute::flag(CKA_WRAP, false),
        Attribute::flag(CKA_DERIVE, false),
    ];
    if let Family::Rsa(bits) = key_type.family() {
        attributes.push(Attribute::number(CKA_MODULUS_BITS, bits.into()));
        attributes.push(Attribute::bytes(CKA_PUBLIC_EXPONENT, [1, 0, 1]));
    }
    if let Some(parameters) = curve_parameters(key_type) {
        attributes.push(Attribute::bytes(CKA_EC_PARAMS, parameters));
    }
    Template::new(attributes)
}

/// Somebody else's RSA public key as a session object that can only wrap, and only by OAEP.
pub fn wrapping_public_key(modulus: &[u8], exponent: &[u8]) -> Template {
    Template::new([
        Attribute::number(CKA_CLASS, CKO_PUBLIC_KEY),
        Attribute::number(CKA_KEY_TYPE, CKK_RSA),
        Attribute::flag(CKA_TOKEN, false),
        Attribute::flag(CKA_PRIVATE, false),
        Attribute::bytes(CKA_MODULUS, modulus),
        Attribute::bytes(CKA_PUBLIC_EXPONENT, exponent),
        Attribute::flag(CKA_ENCRYPT, false),
        Attribute::flag(CKA_VERIFY, false),
        Attribute::flag(CKA_VERIFY_RECOVER, false),
        Attribute::flag(CKA_WRAP, true),
        Attribute::flag(CKA_DERIVE, false),
        Attribute::mechanisms(CKA_ALLOWED_MECHANISMS, [CKM_RSA_PKCS_OAEP]),
    ])
}

/// The template with its mechanisms limited and, last, `CKA_MODIFIABLE` false.
pub fn frozen(template: Template, mechanisms: &[CK_MECHANISM_TYPE]) -> Template {
    template
        .with(Attribute::mechanisms(CKA_ALLOWED_MECHANISMS, mechanisms))
        .without(CKA_MODIFIABLE)
        .with(Attribute::flag(CKA_MODIFIABLE, false))
}

/// The PKCS#11 mechanisms that a set of uses needs, without duplicates.
pub fn allowed_mechanisms(uses: &PermittedUses) -> Vec<CK_MECHANISM_TYPE> {
    let mut mechanisms: Vec<_> = uses.iter().map(|one| pkcs11_mechanism(one.mechanism)).collect();
    mechanisms.sort_unstable();
    mechanisms.dedup();
    mechanisms
}

/// The `CKK_*` of a key type.
pub fn pkcs11_key_type(key_type: KeyType) -> CK_KEY_TYPE {
    match key_type.family() {
        Family::Rsa(_) => CKK_RSA,
        Family::Ec => CKK_EC,
        Family::Edwards => CKK_EC_EDWARDS,
        Family::Aes(_) => CKK_AES,
        Family::Hmac(_) => CKK_GENERIC_SECRET,
    }
}

/// The mechanism that generates a key of a type.
pub fn generation_mechanism(key_type: KeyType) -> CK_MECHANISM_TYPE {
    match key_type.family() {
        Family::Rsa(_) => CKM_RSA_PKCS_KEY_PAIR_GEN,
        Family::Ec => CKM_EC_KEY_PAIR_GEN,
        Family::Edwards => CKM_EC_EDWARDS_KEY_PAIR_GEN,
        Family::Aes(_) => CKM_AES_KEY_GEN,
        Family::Hmac(_) => CKM_GENERIC_SECRET_KEY_GEN,
    }
}

/// The `CKM_*` that a mechanism is done with. Hashing is done outside the HSM, because not every token has the hashing
/// mechanisms and a digest is shorter on the way.
pub fn pkcs11_mechanism(mechanism: Mechanism) -> CK_MECHANISM_TYPE {
    match mechanism {
        Mechanism::EcdsaSha256 | Mechanism::EcdsaSha384 | Mechanism::EcdsaSha512 => CKM_ECDSA,
        Mechanism::RsaPkcs1Sha256
        | Mechanism::RsaPkcs1Sha384
        | Mechanism::RsaPkcs1Sha512
        | Mechanism::RsaPkcs1Encryption => CKM_RSA_PKCS,
        Mechanism::RsaPssSha256 | Mechanism::RsaPssSha384 | Mechanism::RsaPssSha512 => CKM_RSA_PKCS_PSS,
        Mechanism::RsaOaepSha1 | Mechanism::RsaOaepSha256 => CKM_RSA_PKCS_OAEP,
        Mechanism::RsaRaw => CKM_RSA_X_509,
        Mechanism::Ed25519 => CKM_EDDSA,
        Mechanism::AesGcm | Mechanism::AesGcmCallerIv => CKM_AES_GCM,
        Mechanism::AesCbc | Mechanism::AesCbcCallerIv => CKM_AES_CBC,
        Mechanism::AesCbcPad | Mechanism::AesCbcPadCallerIv => CKM_AES_CBC_PAD,
        Mechanism::AesCtr => CKM_AES_CTR,
        Mechanism::AesEcb => CKM_AES_ECB,
        Mechanism::AesCmac => CKM_AES_CMAC,
        Mechanism::AesKw => CKM_AES_KEY_WRAP,
        Mechanism::AesKwp => CKM_AES_KEY_WRAP_PAD,
        Mechanism::HmacSha256 => CKM_SHA256_HMAC,
        Mechanism::HmacSha384 => CKM_SHA384_HMAC,
        Mechanism::HmacSha512 => CKM_SHA512_HMAC,
        Mechanism::Ecdh => CKM_ECDH1_DERIVE,
    }
}

/// The call that signs or MACs with a mechanism: over a digest where the mechanism hashes, else over the message.
pub fn signing_call(mechanism: Mechanism) -> CallMechanism<'static> {
    let kind = pkcs11_mechanism(mechanism);
    match (kind, mechanism.signature_hash()) {
        (CKM_RSA_PKCS_PSS, Some(hash)) => {
            let (digest, mask) = match hash {
                Hash::Sha256 => (CKM_SHA256, CKG_MGF1_SHA256),
                Hash::Sha384 => (CKM_SHA384, CKG_MGF1_SHA384),
                Hash::Sha512 => (CKM_SHA512, CKG_MGF1_SHA512),
            };
            CallMechanism::Pss {
                hash: digest,
                mask,
                salt: hash.length(),
            }
        }
        _ => CallMechanism::Plain(kind),
    }
}

/// The call that decrypts with a private key's mechanism; `None` where the mechanism is not one of those.
pub fn decryption_call(mechanism: Mechanism) -> Option<CallMechanism<'static>> {
    match mechanism {
        Mechanism::RsaOaepSha1 => Some(CallMechanism::Oaep {
            hash: CKM_SHA_1,
            mask: CKG_MGF1_SHA1,
        }),
        Mechanism::RsaOaepSha256 => Some(CallMechanism::Oaep {
            hash: CKM_SHA256,
            mask: CKG_MGF1_SHA256,
        }),
        Mechanism::RsaPkcs1Encryption | Mechanism::RsaRaw => Some(CallMechanism::Plain(pkcs11_mechanism(mechanism))),
        _ => None,
    }
}

/// The call of an AES mode whose result is its ciphertext alone, with the initialisation vector as long as [`iv_length`] says; `None`
/// where the mechanism or the length is another, or where associated data would not be authenticated.
pub fn bare_call<'a>(mechanism: Mechanism, iv: &'a [u8], associated_data: &'a [u8]) -> Option<CallMechanism<'a>> {
    let authenticates = mechanism == Mechanism::AesGcmCallerIv;
    if iv_length(mechanism) != Some(iv.len()) || (!associated_data.is_empty() && !authenticates) {
        return None;
    }
    match mechanism {
        Mechanism::AesGcmCallerIv => iv
            .try_into()
            .ok()
            .map(|nonce| CallMechanism::Gcm { nonce, associated_data }),
        Mechanism::AesCtr => iv.try_into().ok().map(|counter| CallMechanism::Ctr { counter }),
        Mechanism::AesEcb => Some(CallMechanism::Plain(pkcs11_mechanism(mechanism))),
        _ => Some(CallMechanism::Bytes(pkcs11_mechanism(mechanism), iv)),
    }
}

/// The length in bytes of the initialisation vector of an AES mode whose result is its ciphertext alone; `None` for other
/// mechanisms.
pub fn iv_length(mechanism: Mechanism) -> Option<usize> {
    match mechanism {
        Mechanism::AesCbc
        | Mechanism::AesCbcCallerIv
        | Mechanism::AesCbcPad
        | Mechanism::AesCbcPadCallerIv
        | Mechanism::AesCtr => Some(AES_BLOCK),
        Mechanism::AesGcmCallerIv => Some(GCM_NONCE),
        Mechanism::AesEcb => Some(0),
        _ => None,
    }
}

/// The result of a key agreement: a session object that is read once and destroyed.
pub fn shared_secret() -> Template {
    let mut attributes = vec![
        Attribute::number(CKA_CLASS, CKO_SECRET_KEY),
        Attribute::number(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        Attribute::flag(CKA_TOKEN, false),
        Attribute::flag(CKA_PRIVATE, true),
        Attribute::flag(CKA_SENSITIVE, false),
        Attribute::flag(CKA_EXTRACTABLE, true),
    ];
    attributes.extend(Usage::NONE.secret_attributes());
    Template::new(attributes)
}

/// The length of an AES block in bytes.
pub const AES_BLOCK: usize = 16;

/// The length in bytes of a nonce of AES-GCM.
const GCM_NONCE: usize = 12;

/// What the HSM is given to sign: for RSASSA-PKCS1-v1_5 the digest inside its DigestInfo (RFC 8017 section 9.2).
pub fn signing_input(mechanism: Mechanism, data: &[u8]) -> Vec<u8> {
    let prefix: &[u8] = match mechanism {
        Mechanism::RsaPkcs1Sha256 => &[
            0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32,
        ],
        Mechanism::RsaPkcs1Sha384 => &[
            0x30, 0x41, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0, 4, 48,
        ],
        Mechanism::RsaPkcs1Sha512 => &[
            0x30, 0x51, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 64,
        ],
        _ => &[],
    };
    [prefix, data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::PermittedUse;

    #[test]
    fn every_usage_attribute_is_set_and_modifiable_comes_last() {
        let uses = PermittedUses::new(
            KeyType::Aes256,
            [
                PermittedUse::new(Operation::Encrypt, Mechanism::AesGcm),
                PermittedUse::new(Operation::Decrypt, Mechanism::AesGcm),
            ],
        )
        .expect("the uses fit");
        let template = frozen(
            key(
                KeyType::Aes256,
                Lifetime::Session,
                Extraction::Forbidden,
                Usage::of(&uses),
            ),
            &allowed_mechanisms(&uses),
        );
        let kinds: Vec<_> = template.iter().map(Attribute::kind).collect();
        for kind in [
            CKA_ENCRYPT,
            CKA_DECRYPT,
            CKA_SIGN,
            CKA_VERIFY,
            CKA_WRAP,
            CKA_UNWRAP,
            CKA_DERIVE,
            CKA_SENSITIVE,
        ] {
            assert!(kinds.contains(&kind), "0x{kind:x}");
        }
        assert_eq!(kinds.last(), Some(&CKA_MODIFIABLE));
        assert!(
            template
                .iter()
                .any(|attribute| *attribute == Attribute::flag(CKA_SIGN, false))
        );
        assert!(
            template
                .iter()
                .any(|attribute| *attribute == Attribute::flag(CKA_ENCRYPT, true))
        );
    }

    #[test]
    fn digest_info_lengths_match_the_hash() {
        for mechanism in [
            Mechanism::RsaPkcs1Sha256,
            Mechanism::RsaPkcs1Sha384,
            Mechanism::RsaPkcs1Sha512,
        ] {
            let length = mechanism.signature_hash().expect("it hashes").length();
            let input = signing_input(mechanism, &vec![0; length]);
            assert_eq!(usize::from(input[1]), input.len() - 2);
            assert_eq!(usize::from(input[18]), length);
        }
    }
}

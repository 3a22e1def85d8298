//! Verification in software, digests, and the two encodings of ECDSA signatures.

use super::rsa;
use aws_lc_rs::{
    digest::{self, Digest},
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use der::{
    Decode, Encode, Sequence,
    asn1::{AnyRef, BitStringRef, UintRef},
};
use portcullis_hsm::algorithm::{Family, Hash, KeyType, Mechanism};

/// What is signed: a message, or its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// The digest, as long as the mechanism's hash.
    Digest(&'a [u8]),
    /// The message.
    Message(&'a [u8]),
}

/// How an ECDSA signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Ecdsa-Sig-Value in DER (RFC 3279).
    Der,
    /// r and s, each as long as the field (IEEE P1363).
    P1363,
}

/// Why a signature could not be checked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No software here checks this combination.
    #[error("signatures by {1} of a {0} key cannot be verified here")]
    Unsupported(KeyType, Mechanism),
    /// The stored public key is not one.
    #[error("the stored public key is malformed")]
    PublicKey,
}

/// The digest of a message.
pub fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    digest::digest(digest_algorithm(hash), message).as_ref().to_vec()
}

/// Checks a signature with a public key (SubjectPublicKeyInfo in DER).
///
/// A digest has the hash's length, and a mechanism that takes the whole message is given that: the caller checked both.
pub fn verify(
    key_type: KeyType,
    mechanism: Mechanism,
    public_key: &[u8],
    input: Input<'_>,
    signature: &[u8],
    encoding: Encoding,
) -> Result<bool, VerifyError> {
    let unsupported = VerifyError::Unsupported(key_type, mechanism);
    if let (Mechanism::RsaRaw, Family::Rsa(_), Input::Message(number)) = (mechanism, key_type.family(), input) {
        return rsa::opens_to(public_key, signature, number).ok_or(VerifyError::PublicKey);
    }
    let algorithm = algorithm(key_type, mechanism).ok_or(unsupported)?;
    let info = PublicKeyInfo::from_der(public_key).map_err(|_| VerifyError::PublicKey)?;
    let key = UnparsedPublicKey::new(algorithm, info.key.raw_bytes());
    let converted;
    let signature = match (key_type.family(), encoding) {
        (Family::Ec, Encoding::P1363) => match p1363_to_der(key_type, signature) {
            Some(der) => {
                converted = der;
                converted.as_slice()
            }
            None => return Ok(false),
        },
        _ => signature,
    };
    let outcome = match (input, mechanism.signature_hash()) {
        (Input::Message(message), _) => key.verify(message, signature),
        (Input::Digest(digest), Some(hash)) => {
            let digest = Digest::import_less_safe(digest, digest_algorithm(hash)).map_err(|_| unsupported)?;
            key.verify_digest(&digest, signature)
        }
        (Input::Digest(_), None) => return Err(unsupported),
    };
    Ok(outcome.is_ok())
}

/// From the P1363 form, in which HSMs sign, to DER; `None` if the length is wrong.
pub fn p1363_to_der(key_type: KeyType, signature: &[u8]) -> Option<Vec<u8>> {
    let field = key_type.field_length()?;
    if signature.len() != 2 * field {
        return None;
    }
    let (r, s) = signature.split_at(field);
    EcdsaSignature {
        r: UintRef::new(r).ok()?,
        s: UintRef::new(s).ok()?,
    }
    .to_der()
    .ok()
}

fn algorithm(key_type: KeyType, mechanism: Mechanism) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (key_type, mechanism) {
        (KeyType::EcP256, Mechanism::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyType::EcP256, Mechanism::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyType::EcP256, Mechanism::EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyType::EcP384, Mechanism::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyType::EcP384, Mechanism::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyType::EcP384, Mechanism::EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyType::EcP521, Mechanism::EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (KeyType::EcP521, Mechanism::EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (KeyType::EcP521, Mechanism::EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
        (KeyType::Ed25519, Mechanism::Ed25519) => &signature::ED25519,
        (KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096, mechanism) => match mechanism {
            Mechanism::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Mechanism::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Mechanism::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Mechanism::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
            Mechanism::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
            Mechanism::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        },
        _ => return None,
    })
}

fn digest_algorithm(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

#[derive(Sequence)]
struct PublicKeyInfo<'a> {
    algorithm: AnyRef<'a>,
    key: BitStringRef<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::{
        ecdsa::{Signature, SigningKey, signature::Signer},
        elliptic_curve::Generate,
        pkcs8::EncodePublicKey,
    };

    #[test]
    fn both_encodings_and_both_inputs_verify_and_a_changed_bit_does_not() {
        let key = SigningKey::generate();
        let public_key = key
            .verifying_key()
            .to_public_key_der()
            .expect("an encodable key")
            .to_vec();
        let message = b"a message";
        let signature: Signature = key.sign(message);
        let fixed = signature.to_bytes().to_vec();
        let der = p1363_to_der(KeyType::EcP256, &fixed).expect("the right length");
        assert_eq!(der, signature.to_der().as_bytes());
        let digest = digest(Hash::Sha256, message);
        let check = |input, signature: &[u8], encoding| {
            verify(
                KeyType::EcP256,
                Mechanism::EcdsaSha256,
                &public_key,
                input,
                signature,
                encoding,
            )
        };
        for input in [Input::Message(message), Input::Digest(&digest)] {
            assert_eq!(check(input, &der, Encoding::Der), Ok(true));
            assert_eq!(check(input, &fixed, Encoding::P1363), Ok(true));
            assert_eq!(check(input, &fixed, Encoding::Der), Ok(false));
            let mut changed = fixed.clone();
            changed[40] ^= 1;
            assert_eq!(check(input, &changed, Encoding::P1363), Ok(false));
        }
        assert_eq!(check(Input::Message(b"another"), &der, Encoding::Der), Ok(false));
        assert_eq!(check(Input::Message(message), &fixed[1..], Encoding::P1363), Ok(false));
    }
}

//! Checking a signature without any code of the gateway, so that what is measured is known to be real.

use aws_lc_rs::{
    digest,
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use portcullis_hsm::algorithm::Mechanism;
use spki::{SubjectPublicKeyInfoRef, der::Decode};

/// What is signed and authenticated: as long as a SHA-256 digest.
pub(crate) const MESSAGE: [u8; 32] = *b"portcullis bench measures itself";

/// What a mechanism is given: the message's digest, or the message where it takes that.
pub(crate) fn input(mechanism: Mechanism) -> Vec<u8> {
    match mechanism.signature_hash() {
        Some(_) => digest::digest(&digest::SHA256, &MESSAGE).as_ref().to_vec(),
        None => MESSAGE.to_vec(),
    }
}

/// Whether a signature of a message is valid: ECDSA as r and s (P1363), the public key as SubjectPublicKeyInfo in DER.
pub(crate) fn signature_is_valid(mechanism: Mechanism, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &dyn VerificationAlgorithm = match mechanism {
        Mechanism::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Mechanism::EcdsaSha256 => &signature::ECDSA_P256_SHA256_FIXED,
        Mechanism::Ed25519 => &signature::ED25519,
        _ => return false,
    };
    let Ok(info) = SubjectPublicKeyInfoRef::from_der(public_key) else {
        return false;
    };
    let Some(key) = info.subject_public_key.as_bytes() else {
        return false;
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}

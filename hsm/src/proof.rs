//! Proof that a private key inside an HSM belongs to a public key: a signature over random bytes, checked in software.

use crate::{
    Error,
    algorithm::{Family, KeyType, Mechanism},
    pkcs11::{ObjectHandle, Session},
    public_key::bare_public_key,
    template,
};
use aws_lc_rs::{
    digest,
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};

/// Signs random bytes with a key that may sign, and checks the signature with a public key (SubjectPublicKeyInfo in DER).
///
/// `Ok(false)` means that the two do not belong together; an error of the HSM is left to the caller to judge.
pub(crate) fn belongs_together(
    session: &mut Session,
    key_type: KeyType,
    private: ObjectHandle,
    public_key: &[u8],
) -> Result<bool, Error> {
    let Some((mechanism, algorithm)) = signature_of(key_type) else {
        return Ok(false);
    };
    let bare = bare_public_key(key_type, public_key).map_err(Error::ImportRefused)?;
    let mut message = [0; 32];
    session.generate_random(&mut message)?;
    let input = match (key_type, mechanism.signature_hash()) {
        (KeyType::EcP384, _) => digest::digest(&digest::SHA384, &message).as_ref().to_vec(),
        (KeyType::EcP521, _) => digest::digest(&digest::SHA512, &message).as_ref().to_vec(),
        (_, Some(_)) => digest::digest(&digest::SHA256, &message).as_ref().to_vec(),
        (_, None) => message.to_vec(),
    };
    let signature = session.sign(
        template::signing_call(mechanism),
        private,
        &template::signing_input(mechanism, &input),
        SIGNATURE_CAPACITY,
    )?;
    Ok(UnparsedPublicKey::new(algorithm, bare)
        .verify(&message, &signature)
        .is_ok())
}

/// The mechanism in which a key of a type proves itself, whatever it will be permitted to do.
pub(crate) fn signature_of(key_type: KeyType) -> Option<(Mechanism, &'static dyn VerificationAlgorithm)> {
    match key_type.family() {
        Family::Rsa(_) => Some((Mechanism::RsaPkcs1Sha256, &signature::RSA_PKCS1_2048_8192_SHA256)),
        Family::Edwards => Some((Mechanism::Ed25519, &signature::ED25519)),
        Family::Ec => match key_type {
            KeyType::EcP256 => Some((Mechanism::EcdsaSha256, &signature::ECDSA_P256_SHA256_FIXED)),
            KeyType::EcP384 => Some((Mechanism::EcdsaSha384, &signature::ECDSA_P384_SHA384_FIXED)),
            KeyType::EcP521 => Some((Mechanism::EcdsaSha512, &signature::ECDSA_P521_SHA512_FIXED)),
            _ => None,
        },
        Family::Aes(_) | Family::Hmac(_) => None,
    }
}

/// More than an RSA-4096 signature has.
const SIGNATURE_CAPACITY: usize = 1024;

//! Signatures checked by others: by Rust crates that the gateway does not use, and by OpenSSL.

use crate::program::{openssl, temporary_directory};
use p256::ecdsa::signature::{Verifier, hazmat::PrehashVerifier};
use portcullis_client::v1::Mechanism;
use rsa::pkcs8::{AssociatedOid, DecodePublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512, digest::FixedOutputReset};
use std::fs;

/// Whether a signature (ECDSA in DER) over a message is valid under a SubjectPublicKeyInfo in DER.
///
/// # Panics
///
/// When the public key or the signature has not the form of its kind.
pub fn verifies(public_key: &[u8], mechanism: Mechanism, message: &[u8], signature: &[u8]) -> bool {
    match mechanism {
        Mechanism::EcdsaSha256 => ecdsa_verifies::<Sha256>(public_key, message, signature),
        Mechanism::EcdsaSha384 => ecdsa_verifies::<Sha384>(public_key, message, signature),
        Mechanism::EcdsaSha512 => ecdsa_verifies::<Sha512>(public_key, message, signature),
        Mechanism::RsaPkcs1Sha256 => pkcs1_verifies::<Sha256>(public_key, message, signature),
        Mechanism::RsaPkcs1Sha384 => pkcs1_verifies::<Sha384>(public_key, message, signature),
        Mechanism::RsaPkcs1Sha512 => pkcs1_verifies::<Sha512>(public_key, message, signature),
        Mechanism::RsaPssSha256 => pss_verifies::<Sha256>(public_key, message, signature),
        Mechanism::RsaPssSha384 => pss_verifies::<Sha384>(public_key, message, signature),
        Mechanism::RsaPssSha512 => pss_verifies::<Sha512>(public_key, message, signature),
        Mechanism::Ed25519 => {
            let key = ed25519_dalek::VerifyingKey::from_public_key_der(public_key).expect("an Ed25519 key");
            let signature = ed25519_dalek::Signature::from_slice(signature).expect("an Ed25519 signature");
            key.verify(message, &signature).is_ok()
        }
        other => panic!("no second opinion on {}", other.as_str_name()),
    }
}

/// ECDSA on the curve that the public key names.
fn ecdsa_verifies<D: Digest>(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let digest = D::digest(message);
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(public_key) {
        let signature = p256::ecdsa::Signature::from_der(signature).expect("an ECDSA signature in DER");
        key.verify_prehash(&digest, &signature).is_ok()
    } else if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(public_key) {
        let signature = p384::ecdsa::Signature::from_der(signature).expect("an ECDSA signature in DER");
        key.verify_prehash(&digest, &signature).is_ok()
    } else {
        let key = p521::ecdsa::VerifyingKey::from_public_key_der(public_key).expect("a key on a NIST curve");
        let signature = p521::ecdsa::Signature::from_der(signature).expect("an ECDSA signature in DER");
        key.verify_prehash(&digest, &signature).is_ok()
    }
}

fn pkcs1_verifies<D: Digest + AssociatedOid>(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let signature = rsa::pkcs1v15::Signature::try_from(signature).expect("an RSA signature");
    rsa::pkcs1v15::VerifyingKey::<D>::new(rsa_key(public_key))
        .verify(message, &signature)
        .is_ok()
}

fn pss_verifies<D: Digest + FixedOutputReset>(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let signature = rsa::pss::Signature::try_from(signature).expect("an RSA signature");
    rsa::pss::VerifyingKey::<D>::new(rsa_key(public_key))
        .verify(message, &signature)
        .is_ok()
}

fn rsa_key(public_key: &[u8]) -> rsa::RsaPublicKey {
    rsa::RsaPublicKey::from_public_key_der(public_key).expect("an RSA key")
}

/// Whether OpenSSL finds a signature over a message valid under a public key in PEM.
///
/// # Panics
///
/// When OpenSSL fails for another reason than a wrong signature.
pub fn openssl_accepts(public_key_pem: &[u8], mechanism: Mechanism, message: &[u8], signature: &[u8]) -> bool {
    let directory = temporary_directory();
    let path = directory.path();
    for (name, bytes) in [
        ("key.pem", public_key_pem),
        ("message", message),
        ("signature", signature),
    ] {
        fs::write(path.join(name), bytes).expect("a file for OpenSSL");
    }
    let digest = ["dgst", "-sha256", "-verify", "key.pem", "-signature", "signature"];
    let arguments: Vec<&str> = match mechanism {
        Mechanism::EcdsaSha256 | Mechanism::RsaPkcs1Sha256 => [&digest[..], &["message"]].concat(),
        Mechanism::RsaPssSha256 => {
            let pss = [
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
                "message",
            ];
            [&digest[..], &pss].concat()
        }
        Mechanism::Ed25519 => {
            vec![
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "key.pem",
                "-rawin",
                "-in",
                "message",
                "-sigfile",
                "signature",
            ]
        }
        other => panic!("no second opinion on {}", other.as_str_name()),
    };
    let output = openssl(path, arguments);
    let said = output.text();
    let good = output.status.success() && (said.contains("Verified OK") || said.contains("Verified Successfully"));
    let bad = said.contains("Verification failure") || said.contains("Verification Failure");
    assert!(good != bad, "OpenSSL has no opinion: {output}");
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_second_opinions_refuse_a_changed_message() {
        let directory = temporary_directory();
        let path = directory.path();
        fs::write(path.join("message"), "a message").expect("the message");
        openssl(
            path,
            [
                "ecparam",
                "-name",
                "prime256v1",
                "-genkey",
                "-noout",
                "-out",
                "private.pem",
            ],
        )
        .succeeded();
        openssl(path, ["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]).succeeded();
        openssl(
            path,
            [
                "pkey",
                "-in",
                "private.pem",
                "-pubout",
                "-outform",
                "DER",
                "-out",
                "public.der",
            ],
        )
        .succeeded();
        openssl(
            path,
            [
                "dgst",
                "-sha256",
                "-sign",
                "private.pem",
                "-out",
                "signature",
                "message",
            ],
        )
        .succeeded();
        let read = |name| fs::read(path.join(name)).expect("a file of OpenSSL");
        let (pem, der, signature) = (read("public.pem"), read("public.der"), read("signature"));
        for (message, good) in [(&b"a message"[..], true), (b"another message", false)] {
            assert_eq!(verifies(&der, Mechanism::EcdsaSha256, message, &signature), good);
            assert_eq!(openssl_accepts(&pem, Mechanism::EcdsaSha256, message, &signature), good);
        }
    }
}

//! Keys in files: read, checked and wrapped here, so that they travel as nobody but an HSM can read them.

use crate::{arguments::SecretEncoding, failure::Failure, input::Source, words::word};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded},
    rand,
    rsa::{self, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_client::v1::{ImportJob, ImportMethod, KeyType};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer,
    pem::{self, PemObject},
};
use std::fmt::Display;
use zeroize::Zeroizing;

/// A key in clear, as an import takes it.
pub(super) struct KeyMaterial {
    /// A secret key's bytes, or PKCS#8 in DER.
    pub(super) value: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo in DER; empty for secret keys.
    pub(super) public_key: Vec<u8>,
}

impl KeyMaterial {
    /// Reads a file that should hold a key of a type. What is wrong is said without a byte of it.
    pub(super) fn read(file: &[u8], key_type: KeyType, encoding: SecretEncoding) -> Result<Self, String> {
        match key_type {
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => Self::rsa(file, key_type),
            KeyType::EcP256 => Self::curve(file, key_type, &ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyType::EcP384 => Self::curve(file, key_type, &ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyType::EcP521 => Self::curve(file, key_type, &ECDSA_P521_SHA512_ASN1_SIGNING),
            KeyType::Ed25519 => Self::edwards(file),
            KeyType::Aes128 => Self::secret(file, encoding, Some(16)),
            KeyType::Aes256 => Self::secret(file, encoding, Some(32)),
            // The gateway says how long they may be.
            KeyType::HmacSha256 | KeyType::HmacSha384 | KeyType::HmacSha512 => Self::secret(file, encoding, None),
            KeyType::Unspecified => Err("the gateway did not say of what type the key is".to_owned()),
        }
    }

    fn rsa(file: &[u8], key_type: KeyType) -> Result<Self, String> {
        let der = private_key(file)?;
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()),
            other => {
                rsa::KeyPair::from_pkcs8(other.secret_der()).or_else(|_| rsa::KeyPair::from_der(other.secret_der()))
            }
        };
        let pair = pair.map_err(|_| other_key(key_type))?;
        let bits = pair.public_modulus_len() * 8;
        let expected = match key_type {
            KeyType::Rsa2048 => 2048,
            KeyType::Rsa3072 => 3072,
            _ => 4096,
        };
        if bits != expected {
            return Err(format!("expected an RSA key of {expected} bits, found one of {bits}"));
        }
        let value: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| other_key(key_type))?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| other_key(key_type))?;
        Ok(Self {
            value: Zeroizing::new(value.as_ref().to_vec()),
            public_key: public.as_ref().to_vec(),
        })
    }

    fn curve(file: &[u8], key_type: KeyType, curve: &'static EcdsaSigningAlgorithm) -> Result<Self, String> {
        let der = private_key(file)?;
        let pair = EcdsaKeyPair::from_private_key_der(curve, der.secret_der()).map_err(|_| other_key(key_type))?;
        let value = pair.to_pkcs8v1().map_err(|_| other_key(key_type))?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| other_key(key_type))?;
        Ok(Self {
            value: Zeroizing::new(value.as_ref().to_vec()),
            public_key: public.as_ref().to_vec(),
        })
    }

    fn edwards(file: &[u8]) -> Result<Self, String> {
        let der = private_key(file)?;
        let refused = |_| other_key(KeyType::Ed25519);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()).map_err(refused)?;
        let value: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| other_key(KeyType::Ed25519))?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| other_key(KeyType::Ed25519))?;
        Ok(Self {
            value: Zeroizing::new(value.as_ref().to_vec()),
            public_key: public.as_ref().to_vec(),
        })
    }

    fn secret(file: &[u8], encoding: SecretEncoding, length: Option<usize>) -> Result<Self, String> {
        let text = || file.trim_ascii();
        let value = Zeroizing::new(match encoding {
            SecretEncoding::Raw => file.to_vec(),
            SecretEncoding::Hex => hex::decode(text()).map_err(|_| "expected hexadecimal".to_owned())?,
            SecretEncoding::Base64 => STANDARD.decode(text()).map_err(|_| "expected base64".to_owned())?,
        });
        match length {
            Some(expected) if value.len() != expected => Err(format!(
                "expected a key of {expected} bytes, found {}; --encoding says how they are written",
                value.len()
            )),
            _ => Ok(Self {
                value,
                public_key: Vec::new(),
            }),
        }
    }
}

/// Wraps key material for an import job: an AES key by RSA-OAEP, the material by AES-KWP (PKCS #11 CKM_RSA_AES_KEY_WRAP).
pub(super) fn wrap(material: &[u8], job: &ImportJob) -> Result<Vec<u8>, Failure> {
    let oaep = match job.method() {
        ImportMethod::RsaOaepSha1AesKwp => &OAEP_SHA1_MGF1SHA1,
        ImportMethod::RsaOaepSha256AesKwp => &OAEP_SHA256_MGF1SHA256,
        _ => return Err(unusable(job, "its method is none that this program has")),
    };
    let public = PublicEncryptingKey::from_der(&job.public_key)
        .map_err(|error| unusable(job, error))
        .and_then(|key| OaepPublicEncryptingKey::new(key).map_err(|error| unusable(job, error)))?;
    let mut transport = Zeroizing::new([0; 32]);
    rand::fill(transport.as_mut()).map_err(|error| Failure::Internal(format!("no random bytes: {error}")))?;
    let mut wrapped = vec![0; public.ciphertext_size()];
    let length = public
        .encrypt(oaep, transport.as_ref(), &mut wrapped, None)
        .map_err(|error| unusable(job, error))?
        .len();
    wrapped.truncate(length);
    let wrapping = KeyEncryptionKey::new(&AES_256, transport.as_ref()).map_err(|error| unusable(job, error))?;
    let mut under_it = vec![0; material.len().next_multiple_of(8) + 8];
    let under_it = wrapping
        .wrap_with_padding(material, &mut under_it)
        .map_err(|error| unusable(job, error))?;
    wrapped.extend_from_slice(under_it);
    Ok(wrapped)
}

/// The public key in a file, PEM or DER: SubjectPublicKeyInfo in DER.
pub(crate) fn public_key_in(file: &Source) -> Result<Vec<u8>, Failure> {
    let bytes = file.read(MAX_PUBLIC_BYTES, "more than any public key")?;
    if !is_pem(&bytes) {
        return Ok(bytes);
    }
    SubjectPublicKeyInfoDer::from_pem_slice(&bytes)
        .map(|key| key.as_ref().to_vec())
        .map_err(|error| {
            Failure::Usage(format!(
                "{file}: expected a public key in PEM (PUBLIC KEY): {}",
                words(&error)
            ))
        })
}

/// The certificates in a file: all of a PEM file, in their order, or the one of a DER file.
pub(crate) fn certificates_in(file: &Source) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = file.read(MAX_CERTIFICATES_BYTES, "more than any chain of certificates")?;
    if !is_pem(&bytes) {
        return Ok(vec![bytes]);
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes)
        .map(|certificate| certificate.map(|certificate| certificate.as_ref().to_vec()))
        .collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Failure::Usage(format!("{file}: there is no certificate in it"))),
        Err(error) => Err(Failure::Usage(format!("{file}: {}", words(&error)))),
    }
}

fn private_key(file: &[u8]) -> Result<PrivateKeyDer<'_>, String> {
    if contains(file, ENCRYPTED) {
        return Err(
            "the key has a password; `openssl pkey -in FILE` writes it without one: keep that in memory or remove it after"
                .to_owned(),
        );
    }
    if is_pem(file) {
        return PrivateKeyDer::from_pem_slice(file)
            .map_err(|error| format!("expected a private key: {}", words(&error)));
    }
    // The readers of each type look at what it is.
    PrivateKeyDer::try_from(file).map_err(|_| "expected a private key in PEM or DER".to_owned())
}

fn is_pem(file: &[u8]) -> bool {
    contains(file, b"-----BEGIN ")
}

fn contains(file: &[u8], mark: &[u8]) -> bool {
    file.windows(mark.len()).any(|part| part == mark)
}

/// What is wrong with a PEM file, without anything that stands in it.
fn words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins wrong",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "there is none in it",
        _ => "it cannot be read",
    }
}

fn other_key(key_type: KeyType) -> String {
    format!(
        "it holds no private key of type {}, which the key has",
        word::<KeyType>(key_type as i32)
    )
}

fn unusable(job: &ImportJob, why: impl Display) -> Failure {
    Failure::Internal(format!("cannot wrap for {}: {why}", job.name))
}

/// As in `-----BEGIN ENCRYPTED PRIVATE KEY-----` and, for older files, in a header of the section.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

const MAX_PUBLIC_BYTES: usize = 64 * 1024;
const MAX_CERTIFICATES_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    };

    #[test]
    fn an_edwards_key_has_its_public_half() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let read = KeyMaterial::read(pkcs8.as_ref(), KeyType::Ed25519, SecretEncoding::Raw).expect("read");
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&read.value).expect("the same key");
        assert!(read.public_key.ends_with(pair.public_key().as_ref()));
    }

    #[test]
    fn what_is_wrapped_is_unwrapped_by_the_jobs_key_alone() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key");
        let public_key: PublicKeyX509Der<'_> = private.public_key().as_der().expect("its public half");
        let job = |method: ImportMethod| ImportJob {
            method: method as i32,
            public_key: public_key.as_ref().to_vec().into(),
            ..ImportJob::default()
        };
        let private = OaepPrivateDecryptingKey::new(private).expect("for OAEP");
        for (method, oaep) in [
            (ImportMethod::RsaOaepSha1AesKwp, &OAEP_SHA1_MGF1SHA1),
            (ImportMethod::RsaOaepSha256AesKwp, &OAEP_SHA256_MGF1SHA256),
        ] {
            for length in [1, 32, 1217] {
                let material = vec![7; length];
                let wrapped = wrap(&material, &job(method)).expect("wrapped");
                let (transport, under_it) = wrapped.split_at(256);
                let mut opened = vec![0; 256];
                let transport = private
                    .decrypt(oaep, transport, &mut opened, None)
                    .expect("the transport key");
                let unwrapping = KeyEncryptionKey::new(&AES_256, transport).expect("an AES key");
                let mut found = vec![0; under_it.len()];
                let found = unwrapping.unwrap_with_padding(under_it, &mut found).expect("unwrapped");
                assert_eq!(found, material);
            }
        }
        assert!(wrap(b"key", &job(ImportMethod::Clear)).is_err());
    }
}

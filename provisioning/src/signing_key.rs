//! The keys with which custodians sign: Ed25519 (RFC 8032), and ECDSA on P-256 with SHA-256 for smart cards (FIPS 186-5).

use crate::Error;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        ParsedPublicKey,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use pkcs8::SecretDocument;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spki::Document;
use std::fmt;
use zeroize::Zeroizing;

/// The two kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningKeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256; signatures in DER.
    EcdsaP256,
}

/// Names a key: the SHA-256 of its SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// From its 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        crate::text::parse_digest(text).map(Self)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A custodian's public key: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) in DER. In texts it is written in base64.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    der: Vec<u8>,
}

impl PublicKey {
    /// From SubjectPublicKeyInfo in DER. Exactly one form of each key is taken, so that no key has two names.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let key = Self { der: der.to_vec() };
        let refused = |reason: &str| Error::NotASigningKey(reason.to_owned());
        let kind = key
            .find_kind()
            .ok_or_else(|| refused("it is of another kind or form"))?;
        // Looks whether the bytes are a point of the curve.
        key.parsed(kind).map_err(|()| refused("it is no point of its curve"))?;
        Ok(key)
    }

    /// From the text between `-----BEGIN PUBLIC KEY-----` and `-----END PUBLIC KEY-----`, with both lines.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        match Document::from_pem(pem) {
            Ok(("PUBLIC KEY", document)) => Self::from_der(document.as_bytes()),
            _ => Err(Error::NotASigningKey("it is no PUBLIC KEY in PEM".to_owned())),
        }
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(&self.der).into())
    }

    /// Its kind.
    pub fn kind(&self) -> SigningKeyKind {
        // Invariant: `from_der` takes nothing else.
        self.find_kind().expect("the kind of a key that was taken")
    }

    /// Whether a signature over a message is by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed(self.kind())
            .is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }

    fn find_kind(&self) -> Option<SigningKeyKind> {
        let length = self.der.len();
        if self.der.starts_with(ED25519_PREFIX) && length == ED25519_PREFIX.len() + 32 {
            Some(SigningKeyKind::Ed25519)
        } else if self.der.starts_with(P256_PREFIX) && length == P256_PREFIX.len() + 64 {
            Some(SigningKeyKind::EcdsaP256)
        } else {
            None
        }
    }

    fn parsed(&self, kind: SigningKeyKind) -> Result<ParsedPublicKey, ()> {
        match kind {
            SigningKeyKind::Ed25519 => ParsedPublicKey::new(&ED25519, &self.der[ED25519_PREFIX.len()..]),
            // The last byte of the prefix says that the point is uncompressed, and is part of the point.
            SigningKeyKind::EcdsaP256 => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.der[P256_PREFIX.len() - 1..])
            }
        }
        .map_err(|_| ())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let der = STANDARD
            .decode(&text)
            .map_err(|_| Error::NotASigningKey("it is not in base64".to_owned()))?;
        Self::from_der(&der)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        STANDARD.encode(key.der)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} key {}", self.kind(), self.id())
    }
}

/// A custodian's private key, where it is in a file. What is on a smart card signs there.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
}

impl SigningKey {
    /// Makes a new key; returns it with its PKCS#8 in PEM, to be kept by the custodian alone.
    pub fn generate(kind: SigningKeyKind) -> Result<(Self, Zeroizing<String>), Error> {
        let random = SystemRandom::new();
        let pkcs8 = match kind {
            SigningKeyKind::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&random),
            SigningKeyKind::EcdsaP256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random),
        }
        .map_err(|_| Error::NotAPrivateKey)?;
        let key = Self::from_der(pkcs8.as_ref())?;
        let document = SecretDocument::try_from(pkcs8.as_ref()).map_err(|_| Error::NotAPrivateKey)?;
        let pem = document
            .to_pem("PRIVATE KEY", pkcs8::LineEnding::LF)
            .map_err(|_| Error::NotAPrivateKey)?;
        Ok((key, pem))
    }

    /// From PKCS#8 in PEM (RFC 7468), as `openssl genpkey` writes it.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        match SecretDocument::from_pem(pem) {
            Ok(("PRIVATE KEY", document)) => Self::from_der(document.as_bytes()),
            _ => Err(Error::NotAPrivateKey),
        }
    }

    /// From PKCS#8 in DER (RFC 5958).
    pub fn from_der(pkcs8: &[u8]) -> Result<Self, Error> {
        let (pair, der) = if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            let der = [ED25519_PREFIX, pair.public_key().as_ref()].concat();
            (Pair::Ed25519(pair), der)
        } else if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8) {
            let point = pair.public_key().as_ref();
            let der = [P256_PREFIX, point.get(1..).unwrap_or_default()].concat();
            (Pair::EcdsaP256(pair), der)
        } else {
            return Err(Error::NotAPrivateKey);
        };
        let public = PublicKey::from_der(&der)?;
        Ok(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::EcdsaP256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                Ok(signature.map_err(|_| Error::NotAPrivateKey)?.as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the private half of {:?}", self.public)
    }
}

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING of 32 bytes } (RFC 8410 section 4).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SEQUENCE { SEQUENCE { OID id-ecPublicKey, OID secp256r1 } BIT STRING of 65 bytes }, to the byte that says that the point is
/// uncompressed (RFC 5480 section 2).
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_sign_and_are_read_again() {
        for kind in [SigningKeyKind::Ed25519, SigningKeyKind::EcdsaP256] {
            let (key, pem) = SigningKey::generate(kind).expect("a key");
            let again = SigningKey::from_pem(&pem).expect("the same key");
            assert_eq!(key.public(), again.public());
            assert_eq!(key.public().kind(), kind);
            let signature = again.sign(b"message").expect("a signature");
            assert!(key.public().verifies(b"message", &signature));
            assert!(!key.public().verifies(b"messagf", &signature));
            let text = String::from(key.public().clone());
            assert_eq!(PublicKey::try_from(text).expect("a key"), *key.public());
            assert!(!format!("{key:?}").contains(pem.lines().nth(1).expect("a line of PEM")));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (key, _) = SigningKey::generate(SigningKeyKind::EcdsaP256).expect("a key");
        let der = key.public().der();
        let mut off_the_curve = der.to_vec();
        *off_the_curve.last_mut().expect("a byte") ^= 1;
        for wrong in [&der[1..], &der[..90], &[der, &[0]].concat(), &off_the_curve, &[]] {
            assert!(matches!(PublicKey::from_der(wrong), Err(Error::NotASigningKey(_))));
        }
        assert!(matches!(SigningKey::from_der(der), Err(Error::NotAPrivateKey)));
        assert!(matches!(SigningKey::from_pem("PIN 1234"), Err(Error::NotAPrivateKey)));
    }
}

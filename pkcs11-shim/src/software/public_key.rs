//! Public keys: what is in a SubjectPublicKeyInfo (RFC 5280), as PKCS#11 shows it.

use super::rsa;
use der::{
    Decode, Encode, Sequence,
    asn1::{Any, BitString, Null, ObjectIdentifier, OctetStringRef, UintRef},
};
use portcullis_proto::v1::KeyType;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};

/// A public key in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Rsa {
        /// Big-endian, without leading zeros.
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// On a curve; Ed25519 too.
    Curve {
        /// The curve's object identifier in DER.
        parameters: Vec<u8>,
        /// As it stands in a SubjectPublicKeyInfo: 4, x and y; 32 bytes for Ed25519.
        point: Vec<u8>,
    },
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in DER.
    pub(crate) fn read(info: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(info).ok()?;
        let key = info.subject_public_key.as_bytes()?;
        match info.algorithm.oid.to_string().as_str() {
            RSA => {
                let key = RsaPublicKey::from_der(key).ok()?;
                Some(Self::Rsa {
                    modulus: key.modulus.as_bytes().to_vec(),
                    exponent: key.exponent.as_bytes().to_vec(),
                })
            }
            EC => Some(Self::Curve {
                parameters: info.algorithm.parameters?.to_der().ok()?,
                point: key.to_vec(),
            }),
            ED25519_OID => Some(Self::Curve {
                parameters: info.algorithm.oid.to_der().ok()?,
                point: key.to_vec(),
            }),
            _ => None,
        }
    }

    /// The same as SubjectPublicKeyInfo in DER.
    pub(crate) fn info(&self) -> Option<Vec<u8>> {
        let (oid, parameters, key) = match self {
            Self::Rsa { modulus, exponent } => {
                let key = RsaPublicKey {
                    modulus: UintRef::new(modulus).ok()?,
                    exponent: UintRef::new(exponent).ok()?,
                };
                (RSA, Some(Any::from(Null)), key.to_der().ok()?)
            }
            Self::Curve { point, .. } if self.key_type()? == KeyType::Ed25519 => (ED25519_OID, None, point.clone()),
            Self::Curve { parameters, point } => (EC, Some(Any::from_der(parameters).ok()?), point.clone()),
        };
        let info = SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid: ObjectIdentifier::new(oid).ok()?,
                parameters,
            },
            subject_public_key: BitString::from_bytes(&key).ok()?,
        };
        info.to_der().ok()
    }

    /// The type among those that the gateway knows; `None` for others, and for points of a wrong form.
    pub(crate) fn key_type(&self) -> Option<KeyType> {
        match self {
            // A longer exponent would take for ever, and is no key's.
            Self::Rsa { modulus, exponent } if exponent.len() > modulus.len() => None,
            Self::Rsa { modulus, .. } => match rsa::bits(modulus) {
                2048 => Some(KeyType::Rsa2048),
                3072 => Some(KeyType::Rsa3072),
                4096 => Some(KeyType::Rsa4096),
                _ => None,
            },
            Self::Curve { parameters, point } => match (parameters.as_slice(), point.first(), point.len()) {
                (P256, Some(4), 65) => Some(KeyType::EcP256),
                (P384, Some(4), 97) => Some(KeyType::EcP384),
                (P521, Some(4), 133) => Some(KeyType::EcP521),
                (ED25519 | ED25519_BY_NAME, _, 32) => Some(KeyType::Ed25519),
                _ => None,
            },
        }
    }

    /// `CKA_EC_POINT`: the point in an octet string (PKCS#11 3.0, section 2.3.3).
    pub(crate) fn wrapped_point(point: &[u8]) -> Option<Vec<u8>> {
        OctetStringRef::new(point).ok()?.to_der().ok()
    }

    /// A point as a caller gives it: in an octet string, or bare.
    pub(crate) fn bare_point(point: &[u8]) -> &[u8] {
        match <&OctetStringRef>::from_der(point) {
            Ok(inner) => inner.as_bytes(),
            Err(_) => point,
        }
    }
}

const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const ED25519_OID: &str = "1.3.101.112";

/// The curves' identifiers, as `CKA_EC_PARAMS` has them.
pub(crate) const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
pub(crate) const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
pub(crate) const P521: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x23";
pub(crate) const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
/// As older callers write it.
pub(crate) const ED25519_BY_NAME: &[u8] = b"\x13\x0cedwards25519";

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        encoding::AsDer,
        rsa::{KeyPair, KeySize},
        signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
    };

    #[test]
    fn what_is_read_is_written_again() {
        let rsa = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let ec = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
        let edwards = Ed25519KeyPair::generate().expect("a key");
        let infos = [
            (
                rsa.public_key().as_der().expect("DER").as_ref().to_vec(),
                KeyType::Rsa2048,
            ),
            (
                ec.public_key().as_der().expect("DER").as_ref().to_vec(),
                KeyType::EcP384,
            ),
            (
                edwards.public_key().as_der().expect("DER").as_ref().to_vec(),
                KeyType::Ed25519,
            ),
        ];
        for (info, key_type) in infos {
            let key = PublicKey::read(&info).expect("a public key");
            assert_eq!((key.key_type(), key.info()), (Some(key_type), Some(info)));
        }
    }
}

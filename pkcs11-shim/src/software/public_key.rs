//! Public keys: what is in a SubjectPublicKeyInfo (RFC 5280), as PKCS#11 shows it.

use der::{
    Decode, Encode, Sequence,
    asn1::{OctetStringRef, UintRef},
};
use spki::SubjectPublicKeyInfoRef;

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
            ED25519 => Some(Self::Curve {
                parameters: info.algorithm.oid.to_der().ok()?,
                point: key.to_vec(),
            }),
            _ => None,
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
const ED25519: &str = "1.3.101.112";

//! Public keys between PKCS#11 attributes and SubjectPublicKeyInfo (RFC 5280, RFC 5480, RFC 8410).

use crate::algorithm::{Family, KeyType};
use cryptoki_sys::{CKA_EC_POINT, CKA_MODULUS, CKA_PUBLIC_EXPONENT};
use der::{
    Decode, Encode, Sequence,
    asn1::{Any, BitString, Null, ObjectIdentifier, OctetStringRef, UintRef},
};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::pkcs11::{CallError, ObjectHandle, Session};

/// Why a public key could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The token did not give an attribute.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The token's value is not a public key of the type.
    #[error("the token's public key is not a valid {0} key: {1}")]
    Invalid(KeyType, String),
}

/// The public half of a generated pair as SubjectPublicKeyInfo in DER.
pub fn read_public_key(
    session: &mut Session,
    key_type: KeyType,
    public: ObjectHandle,
) -> Result<Vec<u8>, PublicKeyError> {
    let invalid = |error: &dyn std::fmt::Display| PublicKeyError::Invalid(key_type, error.to_string());
    match key_type.family() {
        Family::Rsa(_) => {
            let modulus = session.attribute(public, CKA_MODULUS, 1024)?;
            let exponent = session.attribute(public, CKA_PUBLIC_EXPONENT, 64)?;
            rsa_public_key(&modulus, &exponent).map_err(|error| invalid(&error))
        }
        Family::Ec | Family::Edwards => {
            let point = session.attribute(public, CKA_EC_POINT, 512)?;
            let point = bare_point(key_type, &point).ok_or_else(|| invalid(&"the point has the wrong length"))?;
            curve_public_key(key_type, point).map_err(|error| invalid(&error))
        }
        Family::Aes(_) | Family::Hmac(_) => Err(invalid(&"secret keys have no public half")),
    }
}

/// The DER of the curve's object identifier: `CKA_EC_PARAMS` and the parameters of the algorithm.
pub fn curve_parameters(key_type: KeyType) -> Option<Vec<u8>> {
    curve(key_type).and_then(|oid| oid.to_der().ok())
}

/// The modulus and exponent of an RSA SubjectPublicKeyInfo, big-endian without leading zeros.
pub fn rsa_components(public_key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), der::Error> {
    let info = SubjectPublicKeyInfoOwned::from_der(public_key)?;
    let key = RsaPublicKey::from_der(info.subject_public_key.raw_bytes())?;
    Ok((key.modulus.as_bytes().to_vec(), key.exponent.as_bytes().to_vec()))
}

/// The point of an elliptic-curve or Edwards SubjectPublicKeyInfo.
pub fn curve_point(public_key: &[u8]) -> Result<Vec<u8>, der::Error> {
    let info = SubjectPublicKeyInfoOwned::from_der(public_key)?;
    Ok(info.subject_public_key.raw_bytes().to_vec())
}

/// SubjectPublicKeyInfo of an RSA key from its big-endian components.
pub fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> der::Result<Vec<u8>> {
    let key = RsaPublicKey {
        modulus: UintRef::new(modulus)?,
        exponent: UintRef::new(exponent)?,
    };
    SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid: RSA_ENCRYPTION,
            parameters: Some(Any::from(Null)),
        },
        subject_public_key: BitString::from_bytes(&key.to_der()?)?,
    }
    .to_der()
}

/// SubjectPublicKeyInfo of a curve's key from its bare point.
pub(crate) fn curve_public_key(key_type: KeyType, point: &[u8]) -> der::Result<Vec<u8>> {
    let algorithm = match (key_type, curve(key_type)) {
        (KeyType::Ed25519, Some(oid)) => AlgorithmIdentifierOwned { oid, parameters: None },
        (_, curve) => AlgorithmIdentifierOwned {
            oid: EC_PUBLIC_KEY,
            parameters: curve.map(|oid| Any::from(&oid)),
        },
    };
    SubjectPublicKeyInfoOwned {
        algorithm,
        subject_public_key: BitString::from_bytes(point)?,
    }
    .to_der()
}

/// Whether an algorithm identifier is that of a key type: its object identifier, and the curve in its parameters.
pub(crate) fn has_algorithm(
    key_type: KeyType,
    algorithm: ObjectIdentifier,
    parameters: Option<ObjectIdentifier>,
) -> bool {
    match key_type.family() {
        Family::Rsa(_) => algorithm == RSA_ENCRYPTION,
        Family::Ec => algorithm == EC_PUBLIC_KEY && parameters == curve(key_type),
        Family::Edwards => Some(algorithm) == curve(key_type) && parameters.is_none(),
        Family::Aes(_) | Family::Hmac(_) => false,
    }
}

/// The key inside a SubjectPublicKeyInfo of exactly this type and size, as AWS-LC takes it: the point of a curve's key,
/// RSAPublicKey (RFC 8017) of an RSA key.
///
/// # Errors
///
/// In words, when it is another type of key, of another size, or has bytes after its end.
pub fn bare_public_key(key_type: KeyType, public_key: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = || format!("expected SubjectPublicKeyInfo in DER of a {key_type} key");
    let info = SubjectPublicKeyInfoOwned::from_der(public_key).map_err(|_| wrong())?;
    let parameters = info.algorithm.parameters.as_ref();
    let parameters = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if !has_algorithm(key_type, info.algorithm.oid, parameters) {
        return Err(wrong());
    }
    let key = info.subject_public_key.raw_bytes();
    let right = match key_type.family() {
        Family::Rsa(bits) => {
            let (modulus, exponent) = rsa_components(public_key).map_err(|_| wrong())?;
            modulus.len() * 8 == bits as usize && modulus[0] & 0x80 != 0 && exponent == [1, 0, 1]
        }
        _ => bare_point(key_type, key).is_some_and(|point| point.len() == key.len()),
    };
    if right { Ok(key.to_vec()) } else { Err(wrong()) }
}

/// A public key of exactly this type and size in the one form in which it is stored: two encodings of a key are equal then.
pub fn canonical_public_key(key_type: KeyType, public_key: &[u8]) -> Result<Vec<u8>, String> {
    let bare = bare_public_key(key_type, public_key)?;
    let canonical = match key_type.family() {
        Family::Rsa(_) => {
            rsa_components(public_key).and_then(|(modulus, exponent)| rsa_public_key(&modulus, &exponent))
        }
        _ => curve_public_key(key_type, &bare),
    };
    canonical.map_err(|error| error.to_string())
}

/// `CKA_EC_POINT` is an OCTET STRING around the point; some tokens return the point itself.
fn bare_point(key_type: KeyType, value: &[u8]) -> Option<&[u8]> {
    let field = key_type.field_length()?;
    let length = if key_type == KeyType::Ed25519 {
        field
    } else {
        1 + 2 * field
    };
    if value.len() == length {
        return Some(value);
    }
    let wrapped: &OctetStringRef = Decode::from_der(value).ok()?;
    Some(wrapped.as_bytes()).filter(|point| point.len() == length)
}

fn curve(key_type: KeyType) -> Option<ObjectIdentifier> {
    match key_type {
        KeyType::EcP256 => Some(ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7")),
        KeyType::EcP384 => Some(ObjectIdentifier::new_unwrap("1.3.132.0.34")),
        KeyType::EcP521 => Some(ObjectIdentifier::new_unwrap("1.3.132.0.35")),
        KeyType::Ed25519 => Some(ObjectIdentifier::new_unwrap("1.3.101.112")),
        _ => None,
    }
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_bare_and_wrapped() {
        let mut point = vec![4u8];
        point.extend([7u8; 64]);
        let mut wrapped = vec![0x04, 65];
        wrapped.extend(&point);
        assert_eq!(bare_point(KeyType::EcP256, &point), Some(point.as_slice()));
        assert_eq!(bare_point(KeyType::EcP256, &wrapped), Some(point.as_slice()));
        assert_eq!(bare_point(KeyType::EcP256, &point[1..]), None);
    }

    #[test]
    fn rsa_components_read_back() {
        let modulus = [0xc5; 256];
        let der = rsa_public_key(&modulus, &[1, 0, 1]).expect("a valid key");
        assert_eq!(rsa_components(&der), Ok((modulus.to_vec(), vec![1, 0, 1])));
    }
}

//! Private keys in clear, as an import brings them: PKCS#8 (RFC 5208, RFC 5958) read into PKCS#11 attributes.
//!
//! Only an import of a clear value uses this; the bytes are wiped with the template that holds them.

use crate::{
    algorithm::{Family, KeyType},
    pkcs11::Attribute,
    public_key::{curve_public_key, has_algorithm, rsa_public_key},
};
use cryptoki_sys::*;
use der::{Decode, asn1::OctetStringRef};
use pkcs8::PrivateKeyInfoRef;

/// Why bytes are not a private key of a type. Says nothing of the key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Not PKCS#8.
    #[error("expected a private key in PKCS#8 (DER, not encrypted)")]
    NotPkcs8,
    /// A key of another algorithm, curve or size.
    #[error("the PKCS#8 private key is not of type {0}")]
    OtherType(KeyType),
    /// The inner structure is not what the algorithm has.
    #[error("the {0} private key inside the PKCS#8 structure is malformed")]
    Malformed(KeyType),
    /// RSA with another exponent, or with more than two primes.
    #[error("expected an RSA key of two primes with the public exponent 65537")]
    Exponent,
}

/// A clear private key as the attributes that `C_CreateObject` takes for it, with its public half where it is known.
#[derive(Debug)]
pub struct ClearPrivateKey {
    /// What comes on top of the usual template.
    pub attributes: Vec<Attribute>,
    /// SubjectPublicKeyInfo in DER; `None` where the structure does not contain it.
    pub public_key: Option<Vec<u8>>,
}

impl ClearPrivateKey {
    /// Reads PKCS#8 that must hold a key of this type.
    pub fn from_pkcs8(key_type: KeyType, der: &[u8]) -> Result<Self, PrivateKeyError> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(|_| PrivateKeyError::NotPkcs8)?;
        let parameters = match info.algorithm.parameters {
            Some(any) => any.decode_as::<der::asn1::ObjectIdentifier>().ok(),
            None => None,
        };
        if !has_algorithm(key_type, info.algorithm.oid, parameters) {
            return Err(PrivateKeyError::OtherType(key_type));
        }
        let inner = info.private_key.as_bytes();
        let outer_public = info.public_key.as_ref().map(|bits| bits.raw_bytes());
        match key_type.family() {
            Family::Rsa(bits) => rsa(key_type, bits, inner),
            Family::Ec => elliptic(key_type, inner, outer_public),
            Family::Edwards => edwards(key_type, inner, outer_public),
            Family::Aes(_) | Family::Hmac(_) => Err(PrivateKeyError::OtherType(key_type)),
        }
    }
}

fn rsa(key_type: KeyType, bits: u32, inner: &[u8]) -> Result<ClearPrivateKey, PrivateKeyError> {
    let malformed = PrivateKeyError::Malformed(key_type);
    let key = pkcs1::RsaPrivateKeyRef::from_der(inner).map_err(|_| malformed)?;
    let modulus = key.modulus.as_bytes();
    if modulus.len() * 8 != bits as usize || modulus.first().is_none_or(|first| first & 0x80 == 0) {
        return Err(PrivateKeyError::OtherType(key_type));
    }
    if key.public_exponent.as_bytes() != [1, 0, 1] || key.other_prime_infos.is_some() {
        return Err(PrivateKeyError::Exponent);
    }
    let public_key = rsa_public_key(modulus, key.public_exponent.as_bytes()).map_err(|_| malformed)?;
    Ok(ClearPrivateKey {
        attributes: vec![
            Attribute::bytes(CKA_MODULUS, modulus),
            Attribute::bytes(CKA_PUBLIC_EXPONENT, key.public_exponent.as_bytes()),
            Attribute::secret(CKA_PRIVATE_EXPONENT, key.private_exponent.as_bytes()),
            Attribute::secret(CKA_PRIME_1, key.prime1.as_bytes()),
            Attribute::secret(CKA_PRIME_2, key.prime2.as_bytes()),
            Attribute::secret(CKA_EXPONENT_1, key.exponent1.as_bytes()),
            Attribute::secret(CKA_EXPONENT_2, key.exponent2.as_bytes()),
            Attribute::secret(CKA_COEFFICIENT, key.coefficient.as_bytes()),
        ],
        public_key: Some(public_key),
    })
}

fn elliptic(key_type: KeyType, inner: &[u8], outer: Option<&[u8]>) -> Result<ClearPrivateKey, PrivateKeyError> {
    let malformed = PrivateKeyError::Malformed(key_type);
    let key = sec1::EcPrivateKey::from_der(inner).map_err(|_| malformed)?;
    if key_type.field_length() != Some(key.private_key.len()) {
        return Err(malformed);
    }
    Ok(ClearPrivateKey {
        attributes: curve_attributes(key_type, key.private_key),
        public_key: point(key_type, key.public_key.or(outer))?,
    })
}

/// CurvePrivateKey (RFC 8410 section 7): an OCTET STRING inside the OCTET STRING.
fn edwards(key_type: KeyType, inner: &[u8], outer: Option<&[u8]>) -> Result<ClearPrivateKey, PrivateKeyError> {
    let malformed = PrivateKeyError::Malformed(key_type);
    let seed: &OctetStringRef = Decode::from_der(inner).map_err(|_| malformed)?;
    if key_type.field_length() != Some(seed.as_bytes().len()) {
        return Err(malformed);
    }
    Ok(ClearPrivateKey {
        attributes: curve_attributes(key_type, seed.as_bytes()),
        public_key: point(key_type, outer)?,
    })
}

fn curve_attributes(key_type: KeyType, value: &[u8]) -> Vec<Attribute> {
    let parameters = crate::public_key::curve_parameters(key_type).unwrap_or_default();
    vec![
        Attribute::bytes(CKA_EC_PARAMS, parameters),
        Attribute::secret(CKA_VALUE, value),
    ]
}

fn point(key_type: KeyType, point: Option<&[u8]>) -> Result<Option<Vec<u8>>, PrivateKeyError> {
    point
        .map(|point| curve_public_key(key_type, point))
        .transpose()
        .map_err(|_| PrivateKeyError::Malformed(key_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ed25519 key (RFC 8410 section 10.3, the form without a public key).
    const ED25519: &str =
        "302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";

    #[test]
    fn an_edwards_key_is_read_and_is_no_other_type() {
        let der = hex::decode(ED25519).expect("hexadecimal");
        let key = ClearPrivateKey::from_pkcs8(KeyType::Ed25519, &der).expect("a key");
        assert_eq!(key.public_key, None);
        assert!(key.attributes.contains(&Attribute::secret(CKA_VALUE, &der[16..])));
        for other in [KeyType::EcP256, KeyType::Rsa2048, KeyType::Aes256] {
            assert_eq!(
                ClearPrivateKey::from_pkcs8(other, &der).err(),
                Some(PrivateKeyError::OtherType(other))
            );
        }
        assert_eq!(
            ClearPrivateKey::from_pkcs8(KeyType::Ed25519, &der[..der.len() - 1]).err(),
            Some(PrivateKeyError::NotPkcs8)
        );
    }
}

//! Keys that callers bring in clear to be stored: what they shall be, and their material as the gateway takes it.

use super::generation::{self, Wanted};
use crate::{
    error::{Error, Result},
    software::{
        public_key::{P256, P384, P521},
        rsa,
    },
    template::Template,
};
use aws_lc_rs::agreement::{ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey};
use cryptoki_sys::*;
use der::{
    Decode, Encode, Sequence,
    asn1::{Any, BitStringRef, Null, ObjectIdentifier, OctetStringRef, UintRef},
};
use portcullis_proto::v1::KeyType;
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

/// A key in clear.
pub(crate) struct Clear {
    /// What it shall be.
    pub(crate) wanted: Wanted,
    /// A secret key's value, or PKCS#8 in DER.
    pub(crate) material: Zeroizing<Vec<u8>>,
}

impl Clear {
    pub(crate) fn new(template: &Template) -> Result<Self> {
        let class = template.number(CKA_CLASS)?;
        let kind = template
            .number(CKA_KEY_TYPE)?
            .ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, "the template lacks CKA_KEY_TYPE"))?;
        let (key_type, material) = match (class, kind) {
            (Some(CKO_SECRET_KEY), kind) => {
                let value = given(template, CKA_VALUE, "CKA_VALUE")?;
                let key_type = match (kind, value.len()) {
                    (CKK_AES, 16) => KeyType::Aes128,
                    (CKK_AES, 32) => KeyType::Aes256,
                    (CKK_GENERIC_SECRET, 32) => KeyType::HmacSha256,
                    (CKK_GENERIC_SECRET, 48) => KeyType::HmacSha384,
                    (CKK_GENERIC_SECRET, 64) => KeyType::HmacSha512,
                    _ => return Err(unknown()),
                };
                (key_type, Zeroizing::new(value.to_vec()))
            }
            (Some(CKO_PRIVATE_KEY), CKK_RSA) => rsa_key(template)?,
            (Some(CKO_PRIVATE_KEY), CKK_EC) => curve_key(template)?,
            _ => return Err(unknown()),
        };
        Ok(Self {
            wanted: generation::brought(key_type, template)?,
            material,
        })
    }
}

/// RFC 8017, appendix A.1.2.
#[derive(Sequence)]
struct RsaPrivateKey<'a> {
    version: u8,
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
    private_exponent: UintRef<'a>,
    prime_1: UintRef<'a>,
    prime_2: UintRef<'a>,
    exponent_1: UintRef<'a>,
    exponent_2: UintRef<'a>,
    coefficient: UintRef<'a>,
}

/// RFC 5915, with the public half, which the gateway wants.
#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT")]
    public_key: BitStringRef<'a>,
}

/// RFC 5208.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    version: u8,
    algorithm: AlgorithmIdentifierOwned,
    private_key: &'a OctetStringRef,
}

fn rsa_key(template: &Template) -> Result<(KeyType, Zeroizing<Vec<u8>>)> {
    let part = |kind, name| {
        let number = given(template, kind, name)?;
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
        UintRef::new(&number[start..]).map_err(|_| unknown())
    };
    let modulus = part(CKA_MODULUS, "CKA_MODULUS")?;
    let key_type = match rsa::bits(modulus.as_bytes()) {
        2048 => KeyType::Rsa2048,
        3072 => KeyType::Rsa3072,
        4096 => KeyType::Rsa4096,
        _ => return Err(unknown()),
    };
    let key = RsaPrivateKey {
        version: 0,
        modulus,
        public_exponent: part(CKA_PUBLIC_EXPONENT, "CKA_PUBLIC_EXPONENT")?,
        private_exponent: part(CKA_PRIVATE_EXPONENT, "CKA_PRIVATE_EXPONENT")?,
        prime_1: part(CKA_PRIME_1, "CKA_PRIME_1")?,
        prime_2: part(CKA_PRIME_2, "CKA_PRIME_2")?,
        exponent_1: part(CKA_EXPONENT_1, "CKA_EXPONENT_1")?,
        exponent_2: part(CKA_EXPONENT_2, "CKA_EXPONENT_2")?,
        coefficient: part(CKA_COEFFICIENT, "CKA_COEFFICIENT")?,
    };
    let key = Zeroizing::new(key.to_der().map_err(|_| unknown())?);
    Ok((key_type, pkcs8("1.2.840.113549.1.1.1", Any::from(Null), &key)?))
}

fn curve_key(template: &Template) -> Result<(KeyType, Zeroizing<Vec<u8>>)> {
    let parameters = given(template, CKA_EC_PARAMS, "CKA_EC_PARAMS")?;
    let (key_type, algorithm, length) = match parameters {
        P256 => (KeyType::EcP256, &ECDH_P256, 32),
        P384 => (KeyType::EcP384, &ECDH_P384, 48),
        P521 => (KeyType::EcP521, &ECDH_P521, 66),
        _ => return Err(CKR_CURVE_NOT_SUPPORTED.into()),
    };
    let value = given(template, CKA_VALUE, "CKA_VALUE")?;
    let start = value.iter().position(|byte| *byte != 0).unwrap_or(value.len());
    let padding = length + start;
    let padding = padding.checked_sub(value.len()).ok_or_else(unknown)?;
    let number = Zeroizing::new([&vec![0; padding], &value[start..]].concat());
    let pair = PrivateKey::from_private_key(algorithm, &number).map_err(|_| unknown())?;
    let public = pair.compute_public_key().map_err(|_| unknown())?;
    let key = EcPrivateKey {
        version: 1,
        private_key: OctetStringRef::new(&number).map_err(|_| unknown())?,
        public_key: BitStringRef::from_bytes(public.as_ref()).map_err(|_| unknown())?,
    };
    let key = Zeroizing::new(key.to_der().map_err(|_| unknown())?);
    let parameters = Any::from_der(parameters).map_err(|_| unknown())?;
    Ok((key_type, pkcs8("1.2.840.10045.2.1", parameters, &key)?))
}

fn pkcs8(algorithm: &str, parameters: Any, key: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let info = PrivateKeyInfo {
        version: 0,
        algorithm: AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new(algorithm).map_err(|_| unknown())?,
            parameters: Some(parameters),
        },
        private_key: OctetStringRef::new(key).map_err(|_| unknown())?,
    };
    info.to_der().map(Zeroizing::new).map_err(|_| unknown())
}

fn given<'t>(template: &'t Template, kind: CK_ATTRIBUTE_TYPE, name: &str) -> Result<&'t [u8]> {
    let value = template.bytes(kind);
    value.ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, format!("the template lacks {name}")))
}

fn unknown() -> Error {
    Error::new(
        CKR_ATTRIBUTE_VALUE_INVALID,
        "it is no key of a type and size that the gateway has",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};

    fn template(attributes: &[(CK_ATTRIBUTE_TYPE, &[u8])]) -> Template {
        let attributes = attributes
            .iter()
            .map(|(kind, value)| (*kind, Zeroizing::new(value.to_vec())));
        Template::new(attributes.collect()).expect("a template")
    }

    #[test]
    fn a_number_on_a_curve_becomes_a_key_that_others_read() {
        let (class, kind) = (CKO_PRIVATE_KEY.to_ne_bytes(), CKK_EC.to_ne_bytes());
        // Shorter than the field, as some callers write it.
        for value in [&[5; 48][..], &[7; 40], &[&[0; 10][..], &[9; 48]].concat()] {
            let template = template(&[
                (CKA_CLASS, &class),
                (CKA_KEY_TYPE, &kind),
                (CKA_EC_PARAMS, P384),
                (CKA_VALUE, value),
            ]);
            let clear = Clear::new(&template).expect("a key");
            assert!(clear.wanted.key_type == KeyType::EcP384);
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &clear.material).expect("PKCS#8");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (class, kind) = (CKO_PRIVATE_KEY.to_ne_bytes(), CKK_EC.to_ne_bytes());
        for value in [&[0; 48][..], &[0xff; 48], &[1; 49]] {
            let template = template(&[
                (CKA_CLASS, &class),
                (CKA_KEY_TYPE, &kind),
                (CKA_EC_PARAMS, P384),
                (CKA_VALUE, value),
            ]);
            assert!(Clear::new(&template).is_err(), "{value:?}");
        }
    }
}

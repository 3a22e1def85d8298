//! Objects: what a token shows, and their attributes.

use crate::{
    error::{Error, Result},
    key::{Key, Reference, Standing},
    software::public_key::PublicKey,
    template::Template,
};
use cryptoki_sys::*;
use der::{Decode, Encode};
use portcullis_proto::v1::{KeyOperation, Mechanism};
use std::sync::Arc;
use x509_cert::Certificate;
use zeroize::Zeroizing;

/// An object of a token.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) handle: CK_OBJECT_HANDLE,
    pub(crate) slot: CK_SLOT_ID,
    /// The session that made it, for one that is not stored.
    pub(crate) owner: Option<CK_SESSION_HANDLE>,
    pub(crate) content: Content,
}

/// What an object is.
#[derive(Clone)]
pub(crate) enum Content {
    PublicKey(Arc<Key>),
    PrivateKey(Arc<Key>),
    SecretKey(Arc<Key>),
    /// A secret that the caller may read, which never reaches an HSM.
    Secret(Arc<Secret>),
    Certificate(Arc<StoredCertificate>),
    Data(Arc<StoredData>),
}

/// The caller's own secret.
pub(crate) struct Secret {
    pub(crate) value: Zeroizing<Vec<u8>>,
    pub(crate) key_type: CK_KEY_TYPE,
    pub(crate) id: Vec<u8>,
    pub(crate) label: Vec<u8>,
}

/// A certificate of the ring.
pub(crate) struct StoredCertificate {
    /// The stored object's name; one of a chain has no name of its own.
    pub(crate) name: Option<String>,
    pub(crate) identity: String,
    pub(crate) id: Vec<u8>,
    pub(crate) label: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// In DER: subject, issuer, serial number, public key.
    pub(crate) parts: [Vec<u8>; 4],
    pub(crate) is_authority: bool,
}

/// A data object of the ring.
pub(crate) struct StoredData {
    pub(crate) name: String,
    pub(crate) identity: String,
    pub(crate) label: Vec<u8>,
    pub(crate) application: String,
    pub(crate) oid: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// What an object says of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attribute {
    Value(Vec<u8>),
    Sensitive,
    Absent,
}

impl Object {
    /// What it has the same of in all lives of the module, and no other object has.
    pub(crate) fn identity(&self) -> String {
        self.content.identity()
    }

    /// Whether it is hidden from who is not logged in.
    pub(crate) fn is_private(&self) -> bool {
        matches!(
            self.content,
            Content::PrivateKey(_) | Content::SecretKey(_) | Content::Secret(_)
        )
    }

    /// The gateway's key behind it.
    pub(crate) fn key(&self) -> Option<&Arc<Key>> {
        match &self.content {
            Content::PublicKey(key) | Content::PrivateKey(key) | Content::SecretKey(key) => Some(key),
            _ => None,
        }
    }

    /// Whether all attributes of a template have the values that they have there.
    pub(crate) fn matches(&self, template: &Template) -> bool {
        template.iter().all(|(kind, value)| match self.attribute(kind) {
            Attribute::Value(found) => found == value,
            Attribute::Sensitive | Attribute::Absent => false,
        })
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        SIZED
            .iter()
            .map(|kind| match self.attribute(*kind) {
                Attribute::Value(value) => value.len(),
                _ => 0,
            })
            .sum()
    }

    /// An attribute.
    pub(crate) fn attribute(&self, kind: CK_ATTRIBUTE_TYPE) -> Attribute {
        let is_stored = self.owner.is_none();
        let common = match kind {
            CKA_CLASS => Some(number(self.content.class())),
            CKA_TOKEN => Some(flag(is_stored)),
            CKA_PRIVATE => Some(flag(self.is_private())),
            CKA_MODIFIABLE => Some(flag(is_stored && self.content.can_be_renamed())),
            CKA_COPYABLE => Some(flag(self.content.can_be_copied())),
            CKA_DESTROYABLE => Some(flag(self.content.can_be_destroyed() || !is_stored)),
            CKA_UNIQUE_ID => Some(self.identity().into_bytes()),
            _ => None,
        };
        if let Some(value) = common {
            return Attribute::Value(value);
        }
        let value = match &self.content {
            Content::PublicKey(key) => public_key(key, kind),
            Content::PrivateKey(key) => match kind {
                CKA_PRIVATE_EXPONENT | CKA_PRIME_1 | CKA_PRIME_2 | CKA_EXPONENT_1 | CKA_EXPONENT_2
                | CKA_COEFFICIENT
                    if key.pkcs11_type() == CKK_RSA =>
                {
                    return Attribute::Sensitive;
                }
                CKA_VALUE if key.pkcs11_type() != CKK_RSA => return Attribute::Sensitive,
                kind => private_key(key, kind),
            },
            Content::SecretKey(key) => match kind {
                CKA_VALUE => return Attribute::Sensitive,
                kind => secret_key(key, kind),
            },
            Content::Secret(secret) => own_secret(secret, kind),
            Content::Certificate(certificate) => self::certificate(certificate, kind),
            Content::Data(data) => self::data(data, kind),
        };
        value.map_or(Attribute::Absent, Attribute::Value)
    }
}

impl Content {
    fn class(&self) -> CK_OBJECT_CLASS {
        match self {
            Self::PublicKey(_) => CKO_PUBLIC_KEY,
            Self::PrivateKey(_) => CKO_PRIVATE_KEY,
            Self::SecretKey(_) | Self::Secret(_) => CKO_SECRET_KEY,
            Self::Certificate(_) => CKO_CERTIFICATE,
            Self::Data(_) => CKO_DATA,
        }
    }

    pub(crate) fn identity(&self) -> String {
        match self {
            Self::PublicKey(key) => format!("{}/public", key.identity),
            Self::PrivateKey(key) => format!("{}/private", key.identity),
            Self::SecretKey(key) => key.identity.clone(),
            Self::Secret(secret) => format!("secret/{:p}", Arc::as_ptr(secret)),
            Self::Certificate(certificate) => certificate.identity.clone(),
            Self::Data(data) => data.identity.clone(),
        }
    }

    fn can_be_renamed(&self) -> bool {
        match self {
            Self::PublicKey(_) | Self::PrivateKey(_) | Self::SecretKey(_) | Self::Data(_) => true,
            Self::Certificate(certificate) => certificate.name.is_some(),
            Self::Secret(_) => false,
        }
    }

    /// Whether its values are the caller's to have twice: those of keys that the gateway keeps are not.
    pub(crate) fn can_be_copied(&self) -> bool {
        match self {
            Self::PublicKey(key) => key.is_brought(),
            Self::PrivateKey(_) | Self::SecretKey(_) => false,
            Self::Secret(_) | Self::Certificate(_) | Self::Data(_) => true,
        }
    }

    fn can_be_destroyed(&self) -> bool {
        match self {
            // It is what its private half makes it, and goes with that.
            Self::PublicKey(_) => false,
            Self::Certificate(certificate) => certificate.name.is_some(),
            _ => true,
        }
    }
}

impl StoredCertificate {
    /// Reads a certificate in DER; `None` where it is none.
    pub(crate) fn parts(value: &[u8]) -> Option<([Vec<u8>; 4], bool)> {
        let certificate = Certificate::from_der(value).ok()?;
        let inner = certificate.tbs_certificate();
        let parts = [
            inner.subject().to_der().ok()?,
            inner.issuer().to_der().ok()?,
            inner.serial_number().to_der().ok()?,
            inner.subject_public_key_info().to_der().ok()?,
        ];
        let constraints = inner.get_extension::<x509_cert::ext::pkix::BasicConstraints>();
        let is_authority = constraints
            .ok()
            .flatten()
            .is_some_and(|(_, constraints)| constraints.ca);
        Some((parts, is_authority))
    }
}

fn any_key(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    Some(match kind {
        CKA_KEY_TYPE => number(key.pkcs11_type()),
        CKA_ID => key.id.clone(),
        CKA_LABEL => key.label.clone().into_bytes(),
        CKA_START_DATE | CKA_END_DATE => Vec::new(),
        CKA_LOCAL => flag(key.is_generated),
        CKA_KEY_GEN_MECHANISM => number(key.generator()),
        CKA_ALLOWED_MECHANISMS => key
            .allowed_mechanisms()
            .iter()
            .flat_map(|one| one.to_ne_bytes())
            .collect(),
        _ => return None,
    })
}

fn either_half(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    match (kind, &key.public) {
        (CKA_SUBJECT, _) => Some(Vec::new()),
        (CKA_PUBLIC_KEY_INFO, _) => Some(key.info.clone()),
        (CKA_MODULUS, Some(PublicKey::Rsa { modulus, .. })) => Some(modulus.clone()),
        (CKA_PUBLIC_EXPONENT, Some(PublicKey::Rsa { exponent, .. })) => Some(exponent.clone()),
        (CKA_EC_PARAMS, Some(PublicKey::Curve { parameters, .. })) => Some(parameters.clone()),
        (CKA_EC_POINT, Some(PublicKey::Curve { point, .. })) => PublicKey::wrapped_point(point),
        _ => any_key(key, kind),
    }
}

fn public_key(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let has = |operation| key.uses.iter().any(|(one, _)| *one == operation);
    match kind {
        CKA_ENCRYPT => Some(flag(has(KeyOperation::Decrypt) && key.standing == Standing::Active)),
        CKA_VERIFY => Some(flag(has(KeyOperation::Sign) || key.is_brought())),
        CKA_VERIFY_RECOVER | CKA_WRAP | CKA_TRUSTED | CKA_DERIVE => Some(flag(false)),
        CKA_MODULUS_BITS => key
            .rsa()
            .map(|(modulus, _)| number(crate::software::rsa::bits(modulus) as CK_ULONG)),
        _ => either_half(key, kind),
    }
}

fn private_key(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    match kind {
        CKA_SIGN => Some(flag(key.does(KeyOperation::Sign))),
        CKA_DECRYPT => Some(flag(key.does(KeyOperation::Decrypt))),
        CKA_DERIVE => Some(flag(key.does(KeyOperation::Derive))),
        CKA_UNWRAP | CKA_SIGN_RECOVER | CKA_ALWAYS_AUTHENTICATE => Some(flag(false)),
        _ => guarded(key, kind).or_else(|| either_half(key, kind)),
    }
}

fn secret_key(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    match kind {
        CKA_ENCRYPT => {
            let by_callers = [
                Mechanism::AesEcb,
                Mechanism::AesGcmCallerIv,
                Mechanism::AesCbcCallerIv,
                Mechanism::AesCbcPadCallerIv,
            ];
            let may = |mechanism| key.permits(KeyOperation::Encrypt, mechanism);
            Some(flag(
                by_callers.into_iter().any(may) || key.permits(KeyOperation::Decrypt, Mechanism::AesCtr),
            ))
        }
        CKA_DECRYPT => Some(flag(key.does(KeyOperation::Decrypt))),
        CKA_SIGN => Some(flag(key.does(KeyOperation::MacSign))),
        CKA_VERIFY => Some(flag(
            key.does(KeyOperation::MacVerify) || key.does(KeyOperation::MacSign),
        )),
        CKA_WRAP => Some(flag(key.does(KeyOperation::Wrap))),
        CKA_UNWRAP => Some(flag(key.does(KeyOperation::Unwrap))),
        CKA_DERIVE | CKA_TRUSTED => Some(flag(false)),
        CKA_VALUE_LEN => key.secret_length().map(|length| number(length as CK_ULONG)),
        _ => guarded(key, kind).or_else(|| any_key(key, kind)),
    }
}

/// What says how well a private or secret key is kept.
fn guarded(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    Some(flag(match kind {
        CKA_SENSITIVE => true,
        CKA_EXTRACTABLE => key.is_exportable,
        // Never in clear outside of an HSM, unless it came from there.
        CKA_ALWAYS_SENSITIVE => key.is_generated,
        // A key that is kept sealed was extractable at the moment of its sealing.
        CKA_NEVER_EXTRACTABLE => key.is_generated && key.is_resident,
        CKA_WRAP_WITH_TRUSTED => key.is_exportable,
        _ => return None,
    }))
}

fn own_secret(secret: &Secret, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    Some(match kind {
        CKA_KEY_TYPE => number(secret.key_type),
        CKA_VALUE => secret.value.to_vec(),
        CKA_VALUE_LEN => number(secret.value.len() as CK_ULONG),
        CKA_ID => secret.id.clone(),
        CKA_LABEL => secret.label.clone(),
        CKA_EXTRACTABLE => flag(true),
        CKA_SENSITIVE | CKA_ALWAYS_SENSITIVE | CKA_NEVER_EXTRACTABLE | CKA_LOCAL | CKA_WRAP_WITH_TRUSTED => flag(false),
        CKA_SIGN | CKA_VERIFY => flag(true),
        CKA_ENCRYPT | CKA_DECRYPT => flag(secret.key_type == CKK_AES),
        CKA_WRAP | CKA_UNWRAP | CKA_DERIVE | CKA_TRUSTED => flag(false),
        CKA_START_DATE | CKA_END_DATE => Vec::new(),
        CKA_KEY_GEN_MECHANISM => number(CK_UNAVAILABLE_INFORMATION),
        _ => return None,
    })
}

fn certificate(certificate: &StoredCertificate, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let [subject, issuer, serial, info] = &certificate.parts;
    Some(match kind {
        CKA_CERTIFICATE_TYPE => number(CKC_X_509),
        CKA_CERTIFICATE_CATEGORY => number(match certificate.is_authority {
            true => CK_CERTIFICATE_CATEGORY_AUTHORITY,
            false => CK_CERTIFICATE_CATEGORY_UNSPECIFIED,
        }),
        CKA_TRUSTED => flag(false),
        CKA_ID => certificate.id.clone(),
        CKA_LABEL => certificate.label.clone(),
        CKA_VALUE => certificate.value.clone(),
        CKA_SUBJECT => subject.clone(),
        CKA_ISSUER => issuer.clone(),
        CKA_SERIAL_NUMBER => serial.clone(),
        CKA_PUBLIC_KEY_INFO => info.clone(),
        CKA_URL | CKA_HASH_OF_SUBJECT_PUBLIC_KEY | CKA_HASH_OF_ISSUER_PUBLIC_KEY | CKA_START_DATE | CKA_END_DATE => {
            Vec::new()
        }
        _ => return None,
    })
}

fn data(data: &StoredData, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    Some(match kind {
        CKA_LABEL => data.label.clone(),
        CKA_APPLICATION => data.application.clone().into_bytes(),
        CKA_OBJECT_ID => data.oid.clone(),
        CKA_VALUE => data.value.clone(),
        _ => return None,
    })
}

/// A number as an attribute has it.
pub(crate) fn number(number: CK_ULONG) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

/// A Boolean as an attribute has it.
pub(crate) fn flag(is_so: bool) -> Vec<u8> {
    vec![if is_so { CK_TRUE } else { CK_FALSE }]
}

impl Object {
    /// The stored version behind a key.
    pub(crate) fn stored_version(&self) -> Result<(String, u32)> {
        match self.key().map(|key| &key.reference) {
            Some(Reference::Stored { key, version }) => Ok((key.clone(), *version)),
            _ => Err(Error::new(CKR_ACTION_PROHIBITED, "it is not a stored key")),
        }
    }
}

const SIZED: &[CK_ATTRIBUTE_TYPE] = &[
    CKA_ID,
    CKA_LABEL,
    CKA_VALUE,
    CKA_PUBLIC_KEY_INFO,
    CKA_MODULUS,
    CKA_EC_POINT,
    CKA_SUBJECT,
    CKA_ISSUER,
];

//! Objects that callers bring (`C_CreateObject`, `C_CopyObject`): certificates and data are stored in the ring, secrets and public keys
//! are their session's.

use crate::{
    catalogue,
    error::{Error, Result},
    gateway::request_id,
    key::{Key, Reference, Standing},
    library::Library,
    object::{Attribute, Content, Object, Secret},
    operation::import::Clear,
    session::Session,
    software::public_key::PublicKey,
    storage,
    template::Template,
    token::{Token, lock},
};
use cryptoki_sys::*;
use portcullis_proto::v1::{self, KeyOperation, KeyType, Mechanism, stored_object};
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Makes an object from values that the caller has (`C_CreateObject`).
pub(crate) fn create(
    library: &Library,
    session: &Session,
    token: &Token,
    template: &Template,
) -> Result<CK_OBJECT_HANDLE> {
    let class = template
        .number(CKA_CLASS)?
        .ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, "the template lacks CKA_CLASS"))?;
    let is_stored = template.flag(CKA_TOKEN)?.unwrap_or(false);
    let content = match (class, is_stored) {
        (CKO_CERTIFICATE, true) => new_certificate(token, library, template)?,
        (CKO_DATA, true) => new_data(template)?,
        (CKO_SECRET_KEY, false) if !library.config.own_secrets => return Err(no_own_secrets()),
        (CKO_SECRET_KEY, false) => return Ok(of_session(library, session, token, own_secret(template)?)),
        (CKO_PUBLIC_KEY, false) => return Ok(of_session(library, session, token, public_key(template)?)),
        (CKO_PUBLIC_KEY, true) => {
            return Err(Error::new(
                CKR_TEMPLATE_INCONSISTENT,
                "a public key is stored with its private key alone: CKA_TOKEN must be false",
            ));
        }
        (CKO_SECRET_KEY | CKO_PRIVATE_KEY, true) => {
            return storage::store(library, session, token, Clear::new(template)?);
        }
        _ => {
            return Err(Error::new(
                CKR_TEMPLATE_INCONSISTENT,
                "objects of this class are not made here",
            ));
        }
    };
    session.require_writable()?;
    let made = library.pool.create_object(v1::CreateObjectRequest {
        parent: format!("keyRings/{}", token.ring),
        object_id: format!("pkcs11-{}", Uuid::new_v4()),
        object: Some(content),
        request_id: request_id(),
        validate_only: false,
    })?;
    // Its own first, then those of its chain, of which a new one has none.
    let shown = catalogue::shown(made, &keys(library, token)).into_iter().next();
    let content = shown.ok_or_else(|| Error::from(CKR_DEVICE_ERROR))?;
    let handle = lock(&library.objects).put(token.slot, None, content);
    token.add(&[handle]);
    Ok(handle)
}

/// Makes another object with an object's values, some of which the template replaces (`C_CopyObject`). Keys of the gateway have one
/// place, and one set of uses: they are not copied.
pub(crate) fn copy(
    library: &Library,
    session: &Session,
    token: &Token,
    object: &Object,
    template: &Template,
) -> Result<CK_OBJECT_HANDLE> {
    if !object.content.can_be_copied() {
        let message =
            "a key of the gateway cannot be copied, and a session's key cannot be kept: generate it with CKA_TOKEN";
        return Err(Error::new(CKR_ACTION_PROHIBITED, message));
    }
    if let Some((kind, _)) = template.iter().find(|(kind, _)| !REPLACED.contains(kind)) {
        return Err(Error::new(
            CKR_ATTRIBUTE_READ_ONLY,
            format!("the attribute {kind:#x} is copied as it is"),
        ));
    }
    let copied = COPIED.iter().filter_map(|kind| match object.attribute(*kind) {
        Attribute::Value(value) if template.bytes(*kind).is_none() && !value.is_empty() => {
            Some((*kind, Zeroizing::new(value)))
        }
        _ => None,
    });
    let replaced = template
        .iter()
        .map(|(kind, value)| (kind, Zeroizing::new(value.to_vec())));
    create(
        library,
        session,
        token,
        &Template::new(copied.chain(replaced).collect())?,
    )
}

/// What the configuration says of callers' own secrets.
pub(crate) fn no_own_secrets() -> Error {
    Error::new(
        CKR_ACTION_PROHIBITED,
        "own_secrets is off: a secret that a caller may read is not kept here",
    )
}

fn of_session(library: &Library, session: &Session, token: &Token, content: Content) -> CK_OBJECT_HANDLE {
    lock(&library.objects).put(token.slot, Some(session.handle), content)
}

fn new_certificate(token: &Token, library: &Library, template: &Template) -> Result<v1::StoredObject> {
    template.has_only(CERTIFICATE)?;
    if template
        .number(CKA_CERTIFICATE_TYPE)?
        .is_some_and(|kind| kind != CKC_X_509)
    {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID.into());
    }
    let value = template
        .bytes(CKA_VALUE)
        .ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, "the template lacks CKA_VALUE"))?;
    let (parts, _) = crate::object::StoredCertificate::parts(value).ok_or_else(|| {
        Error::new(
            CKR_ATTRIBUTE_VALUE_INVALID,
            "CKA_VALUE is not one X.509 certificate in DER",
        )
    })?;
    token.refresh(&library.pool, &library.objects, library.config.refresh)?;
    let key = keys(library, token).into_iter().find(|key| key.info == parts[3]);
    let key = key.and_then(|key| match &key.reference {
        Reference::Stored { key, version } => Some(format!("{key}/versions/{version}")),
        Reference::Ephemeral(_) | Reference::Brought => None,
    });
    Ok(v1::StoredObject {
        label: template.bytes(CKA_LABEL).unwrap_or_default().to_vec().into(),
        object_id: template.bytes(CKA_ID).unwrap_or_default().to_vec().into(),
        key: key.unwrap_or_default(),
        content: Some(stored_object::Content::Certificate(value.to_vec().into())),
        ..v1::StoredObject::default()
    })
}

pub(crate) fn new_data(template: &Template) -> Result<v1::StoredObject> {
    template.has_only(DATA)?;
    // What is stored beside keys is shown to all who may read the ring's objects.
    if template.flag(CKA_PRIVATE)? == Some(true) {
        return Err(Error::new(
            CKR_TEMPLATE_INCONSISTENT,
            "data objects are public to those who may read the ring: CKA_PRIVATE must be false",
        ));
    }
    Ok(v1::StoredObject {
        label: template.bytes(CKA_LABEL).unwrap_or_default().to_vec().into(),
        content: Some(stored_object::Content::Data(v1::DataObject {
            application: template.text(CKA_APPLICATION)?.unwrap_or_default().to_owned(),
            oid: template.bytes(CKA_OBJECT_ID).unwrap_or_default().to_vec().into(),
            value: template.bytes(CKA_VALUE).unwrap_or_default().to_vec().into(),
        })),
        ..v1::StoredObject::default()
    })
}

/// A secret that the caller brings is its own, and stays here.
pub(crate) fn own_secret(template: &Template) -> Result<Content> {
    let value = template
        .bytes(CKA_VALUE)
        .ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, "the template lacks CKA_VALUE"))?;
    if template.flag(CKA_SENSITIVE)? == Some(true) || template.flag(CKA_EXTRACTABLE)? == Some(false) {
        let message =
            "a secret that the caller brings is its own: CKA_SENSITIVE must be false and CKA_EXTRACTABLE true";
        return Err(Error::new(CKR_TEMPLATE_INCONSISTENT, message));
    }
    let key_type = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
    if key_type == CKK_AES && !matches!(value.len(), 16 | 24 | 32) {
        return Err(Error::new(
            CKR_ATTRIBUTE_VALUE_INVALID,
            "an AES key has 16, 24 or 32 bytes",
        ));
    }
    Ok(Content::Secret(Arc::new(Secret {
        value: Zeroizing::new(value.to_vec()),
        key_type,
        id: template.bytes(CKA_ID).unwrap_or_default().to_vec(),
        label: template.bytes(CKA_LABEL).unwrap_or_default().to_vec(),
    })))
}

/// A public key that the caller brings: it verifies and encrypts here, and no gateway knows it.
pub(crate) fn public_key(template: &Template) -> Result<Content> {
    template.has_only(PUBLIC_KEY)?;
    let given = |kind, name: &str| {
        let value = template.bytes(kind);
        value.ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, format!("the template lacks {name}")))
    };
    let wrong = || {
        Error::new(
            CKR_ATTRIBUTE_VALUE_INVALID,
            "the template has no public key that is known here",
        )
    };
    let public = match template.number(CKA_KEY_TYPE)? {
        Some(CKK_RSA) => PublicKey::Rsa {
            modulus: without_zeros(given(CKA_MODULUS, "CKA_MODULUS")?).to_vec(),
            exponent: without_zeros(given(CKA_PUBLIC_EXPONENT, "CKA_PUBLIC_EXPONENT")?).to_vec(),
        },
        Some(CKK_EC | CKK_EC_EDWARDS) => PublicKey::Curve {
            parameters: given(CKA_EC_PARAMS, "CKA_EC_PARAMS")?.to_vec(),
            point: PublicKey::bare_point(given(CKA_EC_POINT, "CKA_EC_POINT")?).to_vec(),
        },
        Some(_) => return Err(CKR_ATTRIBUTE_VALUE_INVALID.into()),
        None => return Err(Error::new(CKR_TEMPLATE_INCOMPLETE, "the template lacks CKA_KEY_TYPE")),
    };
    let key_type = public.key_type().ok_or_else(wrong)?;
    let uses = match key_type {
        KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => ENCRYPTIONS,
        _ => &[],
    };
    let id = template.bytes(CKA_ID).unwrap_or_default().to_vec();
    let label = template.text(CKA_LABEL)?.unwrap_or_default().to_owned();
    Ok(Content::PublicKey(Arc::new(Key {
        reference: Reference::Brought,
        identity: format!("brought/{}", Uuid::new_v4()),
        key_type,
        uses: uses.to_vec(),
        standing: Standing::Active,
        info: public.info().ok_or_else(wrong)?,
        public: Some(public),
        id,
        label,
        is_exportable: true,
        is_generated: false,
        is_resident: false,
    })))
}

/// A number without the zeros before it.
fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[start..]
}

/// The keys that a token shows, by what was fetched last.
fn keys(library: &Library, token: &Token) -> Vec<Arc<Key>> {
    let objects = lock(&library.objects);
    let stored = token.stored();
    stored
        .iter()
        .filter_map(|handle| objects.find(token.slot, *handle).ok()?.key().cloned())
        .collect()
}

const CERTIFICATE: &[CK_ATTRIBUTE_TYPE] = &[
    CKA_CLASS,
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_MODIFIABLE,
    CKA_COPYABLE,
    CKA_DESTROYABLE,
    CKA_LABEL,
    CKA_ID,
    CKA_CERTIFICATE_TYPE,
    CKA_CERTIFICATE_CATEGORY,
    CKA_TRUSTED,
    CKA_VALUE,
    CKA_SUBJECT,
    CKA_ISSUER,
    CKA_SERIAL_NUMBER,
    CKA_PUBLIC_KEY_INFO,
    CKA_CHECK_VALUE,
    CKA_START_DATE,
    CKA_END_DATE,
];

const DATA: &[CK_ATTRIBUTE_TYPE] = &[
    CKA_CLASS,
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_MODIFIABLE,
    CKA_COPYABLE,
    CKA_DESTROYABLE,
    CKA_LABEL,
    CKA_APPLICATION,
    CKA_OBJECT_ID,
    CKA_VALUE,
];

const PUBLIC_KEY: &[CK_ATTRIBUTE_TYPE] = &[
    CKA_CLASS,
    CKA_TOKEN,
    CKA_PRIVATE,
    CKA_MODIFIABLE,
    CKA_COPYABLE,
    CKA_DESTROYABLE,
    CKA_LABEL,
    CKA_KEY_TYPE,
    CKA_ID,
    CKA_SUBJECT,
    CKA_START_DATE,
    CKA_END_DATE,
    CKA_DERIVE,
    CKA_LOCAL,
    CKA_ENCRYPT,
    CKA_VERIFY,
    CKA_VERIFY_RECOVER,
    CKA_WRAP,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_PUBLIC_EXPONENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_PUBLIC_KEY_INFO,
];

/// What a copy has of its original.
const COPIED: &[CK_ATTRIBUTE_TYPE] = &[
    CKA_CLASS,
    CKA_TOKEN,
    CKA_LABEL,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_CERTIFICATE_TYPE,
    CKA_APPLICATION,
    CKA_OBJECT_ID,
    CKA_VALUE,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
];

/// What a copy may have otherwise.
const REPLACED: &[CK_ATTRIBUTE_TYPE] = &[CKA_TOKEN, CKA_LABEL, CKA_ID];

/// Of whoever's public key it is, the private key decides what it decrypts.
const ENCRYPTIONS: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Decrypt, Mechanism::RsaOaepSha1),
    (KeyOperation::Decrypt, Mechanism::RsaOaepSha256),
    (KeyOperation::Decrypt, Mechanism::RsaPkcs1Encryption),
];

//! What callers change: objects that are made, renamed and destroyed, by way of the gateway.

use crate::{
    catalogue,
    error::{Error, Result},
    gateway::request_id,
    key::{Key, Reference, Standing},
    library::Library,
    object::{Attribute, Content, Object, Secret},
    operation::generation::Wanted,
    session::Session,
    software::public_key::PublicKey,
    template::Template,
    token::{Token, lock},
};
use cryptoki_sys::*;
use portcullis_proto::v1::{self, stored_object};
use prost_types::FieldMask;
use std::{collections::BTreeMap, sync::Arc};
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
        (CKO_SECRET_KEY, false) => {
            let content = own_secret(template)?;
            return Ok(lock(&library.objects).put(token.slot, Some(session.handle), content));
        }
        (CKO_SECRET_KEY | CKO_PRIVATE_KEY, true) => {
            return Err(Error::new(
                CKR_TEMPLATE_INCONSISTENT,
                "keys are not imported by this module: the gateway's command line does that",
            ));
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

/// Generates a key or a pair; the handles of its objects, the private or secret one first.
pub(crate) fn generate(
    library: &Library,
    session: &Session,
    token: &Token,
    wanted: Wanted,
) -> Result<Vec<CK_OBJECT_HANDLE>> {
    if wanted.is_stored {
        session.require_writable()?;
    }
    let key = match wanted.is_stored {
        true => generate_stored(library, token, &wanted)?,
        false => generate_ephemeral(library, token, wanted)?,
    };
    let owner = matches!(key.reference, Reference::Ephemeral(_)).then_some(session.handle);
    let mut objects = lock(&library.objects);
    let halves = catalogue::halves(Arc::new(key)).into_iter();
    let handles: Vec<_> = halves.map(|content| objects.put(token.slot, owner, content)).collect();
    drop(objects);
    if owner.is_none() {
        token.add(&handles);
    }
    Ok(handles)
}

/// Removes an object (`C_DestroyObject`). The destruction of a key's version waits as long as its ring asks for; it is not shown, and
/// does nothing, from now on.
pub(crate) fn destroy(library: &Library, session: &Session, token: &Token, object: &Object) -> Result<()> {
    if object.owner.is_none() {
        session.require_writable()?;
        match &object.content {
            Content::Certificate(certificate) => {
                let name = certificate.name.clone();
                let name = name.ok_or_else(|| {
                    Error::new(CKR_ACTION_PROHIBITED, "it belongs to the chain of another certificate")
                })?;
                delete(library, name)?;
            }
            Content::Data(data) => delete(library, data.name.clone())?,
            Content::PublicKey(key) => {
                let private = Content::PrivateKey(Arc::clone(key));
                // Callers destroy both halves, in either order; with the private one this one is gone too.
                if key.standing == Standing::Announced || lock(&library.objects).has(token.slot, &private) {
                    let message = "a public key goes with its private key";
                    return Err(Error::new(CKR_ACTION_PROHIBITED, message));
                }
            }
            Content::PrivateKey(_) | Content::SecretKey(_) => {
                let (key, version) = object.stored_version()?;
                library
                    .pool
                    .schedule_key_version_destruction(v1::ScheduleKeyVersionDestructionRequest {
                        name: format!("{key}/versions/{version}"),
                        reason: "destroyed by C_DestroyObject".into(),
                        request_id: request_id(),
                        ..v1::ScheduleKeyVersionDestructionRequest::default()
                    })?;
            }
            Content::Secret(_) => {}
        }
    }
    token.forget();
    lock(&library.objects).remove(object.handle);
    Ok(())
}

/// Changes `CKA_ID` and `CKA_LABEL`. Anything else has to be what it is.
pub(crate) fn rename(
    library: &Library,
    session: &Session,
    token: &Token,
    object: &Object,
    template: &Template,
) -> Result<()> {
    let mut changes = Vec::new();
    for (kind, value) in template.iter() {
        match object.attribute(kind) {
            Attribute::Value(found) if found == value => {}
            Attribute::Value(_) if matches!(kind, CKA_ID | CKA_LABEL) => changes.push((kind, value)),
            Attribute::Value(_) | Attribute::Sensitive => {
                return Err(Error::new(
                    CKR_ATTRIBUTE_READ_ONLY,
                    format!("the attribute {kind:#x} cannot be changed"),
                ));
            }
            Attribute::Absent => return Err(CKR_ATTRIBUTE_TYPE_INVALID.into()),
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    if object.owner.is_some() {
        return Err(Error::new(CKR_ATTRIBUTE_READ_ONLY, "a session object keeps its name"));
    }
    session.require_writable()?;
    let new = |kind| {
        changes
            .iter()
            .find(|(one, _)| *one == kind)
            .map(|(_, value)| value.to_vec())
    };
    match &object.content {
        Content::PublicKey(_) | Content::PrivateKey(_) | Content::SecretKey(_) => {
            let (key, version) = object.stored_version()?;
            let text = new(CKA_LABEL).map(|_| template.text(CKA_LABEL)).transpose()?.flatten();
            let labels = labels(version, new(CKA_ID).as_deref(), text)?;
            let paths = labels.keys().map(|name| format!("labels.{name}")).collect();
            library.pool.update_key(v1::UpdateKeyRequest {
                key: Some(v1::Key {
                    name: key,
                    labels,
                    ..v1::Key::default()
                }),
                update_mask: Some(FieldMask { paths }),
                request_id: request_id(),
                validate_only: false,
            })?;
        }
        Content::Certificate(certificate) => {
            let name = certificate.name.clone();
            let name = name.ok_or_else(|| {
                Error::new(
                    CKR_ATTRIBUTE_READ_ONLY,
                    "it belongs to the chain of another certificate",
                )
            })?;
            update(library, name, new(CKA_ID), new(CKA_LABEL))?;
        }
        Content::Data(data) => update(library, data.name.clone(), None, new(CKA_LABEL))?,
        Content::Secret(_) => return Err(CKR_ATTRIBUTE_READ_ONLY.into()),
    }
    token.forget();
    token.refresh(&library.pool, &library.objects, library.config.refresh)
}

fn generate_stored(library: &Library, token: &Token, wanted: &Wanted) -> Result<Key> {
    let stem = stem(&wanted.label);
    let mut id = stem.clone();
    // The label need not be unique, and a key's name must be.
    for _ in 0..ATTEMPTS {
        let mut labels = labels(1, None, Some(&wanted.label))?;
        if !wanted.id.is_empty() {
            labels.extend(self::labels(1, Some(&wanted.id), None)?);
        }
        let made = library.pool.create_key(v1::CreateKeyRequest {
            parent: format!("keyRings/{}", token.ring),
            key_id: id.clone(),
            key: Some(v1::Key {
                r#type: wanted.key_type.into(),
                permitted_uses: wanted.uses.clone(),
                exportable: wanted.is_exportable,
                labels,
                ..v1::Key::default()
            }),
            request_id: request_id(),
            ..v1::CreateKeyRequest::default()
        });
        match made {
            Ok(made) => return with_public_half(library, made),
            Err(error)
                if error
                    .detail()
                    .is_some_and(|detail| detail.contains("KEY_ALREADY_EXISTS")) =>
            {
                id = format!("{stem}-{}", &Uuid::new_v4().simple().to_string()[..8]);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(CKR_FUNCTION_FAILED, "no name was free for the new key"))
}

/// A new key does not come with its public half.
fn with_public_half(library: &Library, made: v1::Key) -> Result<Key> {
    let mut version = made.primary.clone().ok_or_else(|| Error::from(CKR_DEVICE_ERROR))?;
    let is_secret = matches!(
        made.r#type(),
        v1::KeyType::Aes128
            | v1::KeyType::Aes256
            | v1::KeyType::HmacSha256
            | v1::KeyType::HmacSha384
            | v1::KeyType::HmacSha512
    );
    if !is_secret {
        let public = library.pool.get_public_key(v1::GetPublicKeyRequest {
            name: version.name.clone(),
            format: v1::PublicKeyFormat::Der.into(),
        })?;
        version.public_key = public.public_key;
    }
    let made = v1::Key {
        versions: vec![version],
        ..made
    };
    let version = catalogue::versions(&made).into_iter().next();
    version.map(Arc::unwrap_or_clone).ok_or_else(|| CKR_DEVICE_ERROR.into())
}

fn generate_ephemeral(library: &Library, token: &Token, wanted: Wanted) -> Result<Key> {
    let uses = wanted
        .uses
        .iter()
        .map(|one| (one.operation(), one.mechanism()))
        .collect();
    let made = library.pool.create_ephemeral_key(v1::CreateEphemeralKeyRequest {
        parent: format!("keyRings/{}", token.ring),
        r#type: wanted.key_type.into(),
        permitted_uses: wanted.uses,
        lifetime: Some(prost_types::Duration {
            seconds: LIFETIME_SECONDS,
            nanos: 0,
        }),
        exportable: wanted.is_exportable,
        ..v1::CreateEphemeralKeyRequest::default()
    })?;
    let public = match made.public_key.is_empty() {
        true => None,
        false => Some(PublicKey::read(&made.public_key).ok_or_else(|| Error::from(CKR_DEVICE_ERROR))?),
    };
    Ok(Key {
        reference: Reference::Ephemeral(Zeroizing::new(made.token.to_vec())),
        identity: format!("session/{}", made.uid),
        key_type: wanted.key_type,
        uses,
        standing: Standing::Active,
        info: made.public_key.to_vec(),
        public,
        id: wanted.id,
        label: wanted.label,
        is_exportable: wanted.is_exportable,
        is_generated: true,
        is_resident: false,
    })
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
        Reference::Ephemeral(_) => None,
    });
    Ok(v1::StoredObject {
        label: template.bytes(CKA_LABEL).unwrap_or_default().to_vec().into(),
        object_id: template.bytes(CKA_ID).unwrap_or_default().to_vec().into(),
        key: key.unwrap_or_default(),
        content: Some(stored_object::Content::Certificate(value.to_vec().into())),
        ..v1::StoredObject::default()
    })
}

fn new_data(template: &Template) -> Result<v1::StoredObject> {
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
fn own_secret(template: &Template) -> Result<Content> {
    let value = template
        .bytes(CKA_VALUE)
        .ok_or_else(|| Error::new(CKR_TEMPLATE_INCOMPLETE, "the template lacks CKA_VALUE"))?;
    if template.flag(CKA_SENSITIVE)? == Some(true) || template.flag(CKA_EXTRACTABLE)? == Some(false) {
        let message =
            "a secret that the caller brings is its own: CKA_SENSITIVE must be false and CKA_EXTRACTABLE true";
        return Err(Error::new(CKR_TEMPLATE_INCONSISTENT, message));
    }
    Ok(Content::Secret(Arc::new(Secret {
        value: Zeroizing::new(value.to_vec()),
        key_type: template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET),
        id: template.bytes(CKA_ID).unwrap_or_default().to_vec(),
        label: template.bytes(CKA_LABEL).unwrap_or_default().to_vec(),
    })))
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

/// The labels that say a version's `CKA_ID` and `CKA_LABEL`.
fn labels(version: u32, id: Option<&[u8]>, label: Option<&str>) -> Result<BTreeMap<String, String>> {
    let [id_name, label_name] = catalogue::label_names(version);
    if id.is_some_and(|id| id.len() > LONGEST_ID) || label.is_some_and(|label| label.len() > LONGEST_LABEL) {
        let message =
            format!("expected a CKA_ID of at most {LONGEST_ID} bytes and a CKA_LABEL of at most {LONGEST_LABEL}");
        return Err(Error::new(CKR_ATTRIBUTE_VALUE_INVALID, message));
    }
    let id = id.map(|id| (id_name, hex::encode(id)));
    let label = label.map(|label| (label_name, label.to_owned()));
    Ok(id.into_iter().chain(label).collect())
}

fn update(library: &Library, name: String, id: Option<Vec<u8>>, label: Option<Vec<u8>>) -> Result<()> {
    let paths = [("object_id", id.is_some()), ("label", label.is_some())];
    let paths = paths
        .into_iter()
        .filter(|(_, is_new)| *is_new)
        .map(|(path, _)| path.to_owned())
        .collect();
    library.pool.update_object(v1::UpdateObjectRequest {
        object: Some(v1::StoredObject {
            name,
            object_id: id.unwrap_or_default().into(),
            label: label.unwrap_or_default().into(),
            ..v1::StoredObject::default()
        }),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id(),
        validate_only: false,
    })?;
    Ok(())
}

fn delete(library: &Library, name: String) -> Result<()> {
    library.pool.delete_object(v1::DeleteObjectRequest {
        name,
        request_id: request_id(),
        ..v1::DeleteObjectRequest::default()
    })?;
    Ok(())
}

/// The beginning of a key's name, from its label.
fn stem(label: &str) -> String {
    let usable = |one: char| match one.to_ascii_lowercase() {
        one if one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-' || one == '_' => one,
        _ => '-',
    };
    let stem: String = label.chars().map(usable).take(LONGEST_STEM).collect();
    let stem = stem.trim_matches(['-', '_']);
    match stem.is_empty() {
        true => "key".into(),
        false => stem.into(),
    }
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

/// The value of a label of a key has 255 bytes.
const LONGEST_ID: usize = 127;
const LONGEST_LABEL: usize = 255;
const LONGEST_STEM: usize = 40;
const ATTEMPTS: usize = 4;
/// As long as an ephemeral key may live.
const LIFETIME_SECONDS: i64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_any_label() {
        assert_eq!(stem("Web server (2026)"), "web-server--2026");
        assert_eq!(
            (stem(""), stem("äöü"), stem("__")),
            ("key".into(), "key".into(), "key".into())
        );
        assert!(stem(&"x".repeat(300)).len() + 9 <= 63);
    }
}

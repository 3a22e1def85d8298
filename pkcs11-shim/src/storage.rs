//! What callers change: keys that are generated, objects that are renamed and destroyed, by way of the gateway.

use crate::{
    catalogue,
    error::{Error, Result},
    gateway::request_id,
    key::{Key, Reference, Standing},
    library::Library,
    object::{Attribute, Content, Object},
    operation::{generation::Wanted, import::Clear, wrapping::Arrival},
    session::Session,
    software::public_key::PublicKey,
    template::Template,
    token::{Token, lock},
};
use bytes::Bytes;
use cryptoki_sys::*;
use portcullis_proto::v1;
use prost_types::FieldMask;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;
use zeroize::Zeroizing;

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
    // A template says what the key is for, and not by which of the gateway's mechanisms: those that no HSM has are left out.
    let wanted = match library.abilities() {
        Some(abilities) => Wanted {
            uses: abilities.among(wanted.uses),
            ..wanted
        },
        None => wanted,
    };
    let key = match wanted.is_stored {
        true => generate_stored(library, token, &wanted)?,
        false => generate_ephemeral(library, token, &wanted)?,
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

/// Stores a key that comes wrapped (`C_UnwrapKey`).
pub(crate) fn unwrap(
    library: &Library,
    session: &Session,
    token: &Token,
    arrival: Arrival,
    wrapped: &[u8],
) -> Result<CK_OBJECT_HANDLE> {
    let request = v1::ImportKeyVersionRequest {
        method: Arrival::METHOD.into(),
        unwrapping_key: arrival.unwrapping,
        wrapped_key: wrapped.to_vec().into(),
        public_key: arrival.public_key.into(),
        ..v1::ImportKeyVersionRequest::default()
    };
    import(library, session, token, &arrival.wanted, request)
}

/// Stores a key that comes in clear (`C_CreateObject`), for which the gateway's policy has a permission of its own.
pub(crate) fn store(library: &Library, session: &Session, token: &Token, clear: Clear) -> Result<CK_OBJECT_HANDLE> {
    let request = v1::ImportKeyVersionRequest {
        method: v1::ImportMethod::Clear.into(),
        wrapped_key: Bytes::from_owner(clear.material),
        ..v1::ImportKeyVersionRequest::default()
    };
    import(library, session, token, &clear.wanted, request)
}

/// Where the gateway does not take the key, nothing is left of it but a name.
fn import(
    library: &Library,
    session: &Session,
    token: &Token,
    wanted: &Wanted,
    request: v1::ImportKeyVersionRequest,
) -> Result<CK_OBJECT_HANDLE> {
    session.require_writable()?;
    let made = create_key(library, token, wanted, true)?;
    let imported = library.pool.import_key_version(v1::ImportKeyVersionRequest {
        parent: made.name.clone(),
        request_id: request_id(),
        ..request
    });
    let version = match imported {
        Ok(version) => version,
        Err(error) => {
            // What waits for its key material would wait for ever. That it still does changes nothing for the caller.
            drop(schedule_destruction(
                library,
                format!("{}/versions/1", made.name),
                "it was not taken",
            ));
            return Err(error);
        }
    };
    let key = with_public_half(library, made, version)?;
    let handles: Vec<_> = {
        let mut objects = lock(&library.objects);
        let halves = catalogue::halves(Arc::new(key)).into_iter();
        halves.map(|content| objects.put(token.slot, None, content)).collect()
    };
    token.add(&handles);
    handles.first().copied().ok_or_else(|| CKR_DEVICE_ERROR.into())
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
                schedule_destruction(
                    library,
                    format!("{key}/versions/{version}"),
                    "destroyed by C_DestroyObject",
                )?;
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
    let made = create_key(library, token, wanted, false)?;
    let version = made.primary.clone().ok_or_else(|| Error::from(CKR_DEVICE_ERROR))?;
    with_public_half(library, made, version)
}

fn schedule_destruction(library: &Library, name: String, reason: &str) -> Result<()> {
    library
        .pool
        .schedule_key_version_destruction(v1::ScheduleKeyVersionDestructionRequest {
            name,
            reason: reason.into(),
            request_id: request_id(),
            ..v1::ScheduleKeyVersionDestructionRequest::default()
        })?;
    Ok(())
}

/// A stored key, generated or waiting for what is imported.
fn create_key(library: &Library, token: &Token, wanted: &Wanted, import_only: bool) -> Result<v1::Key> {
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
            import_only,
            ..v1::CreateKeyRequest::default()
        });
        match made {
            Err(error) if error.is("KEY_ALREADY_EXISTS") => {
                id = format!("{stem}-{}", &Uuid::new_v4().simple().to_string()[..8]);
            }
            made => return made,
        }
    }
    Err(Error::new(CKR_FUNCTION_FAILED, "no name was free for the new key"))
}

/// A new key does not come with its public half.
fn with_public_half(library: &Library, made: v1::Key, mut version: v1::KeyVersion) -> Result<Key> {
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

fn generate_ephemeral(library: &Library, token: &Token, wanted: &Wanted) -> Result<Key> {
    let uses = wanted
        .uses
        .iter()
        .map(|one| (one.operation(), one.mechanism()))
        .collect();
    let made = library.pool.create_ephemeral_key(v1::CreateEphemeralKeyRequest {
        parent: format!("keyRings/{}", token.ring),
        r#type: wanted.key_type.into(),
        permitted_uses: wanted.uses.clone(),
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
        id: wanted.id.clone(),
        label: wanted.label.clone(),
        is_exportable: wanted.is_exportable,
        is_generated: true,
        is_resident: false,
    })
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

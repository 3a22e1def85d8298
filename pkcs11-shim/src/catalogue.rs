//! What a ring holds, fetched in bulk: versions of keys with their public halves, certificates, data objects.

use crate::{
    error::Result,
    gateway::Pool,
    key::{Key, Reference, Standing},
    object::{Content, StoredCertificate, StoredData},
    software::public_key::PublicKey,
};
use cryptoki_sys::CKR_ACTION_PROHIBITED;
use portcullis_proto::v1::{self, KeyOrigin, KeyProtection, KeyVersionState, stored_object};
use std::sync::Arc;

/// Fetches all that a ring shows. Where the caller may not read its objects, its keys are shown alone.
pub(crate) fn fetch(pool: &Pool, ring: &str) -> Result<Vec<Content>> {
    let parent = format!("keyRings/{ring}");
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = pool.list_keys(v1::ListKeysRequest {
            parent: parent.clone(),
            page_size: KEYS_A_PAGE,
            page_token,
            with_versions: true,
            ..v1::ListKeysRequest::default()
        })?;
        keys.extend(page.keys.iter().flat_map(versions));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let stored = match objects(pool, &parent) {
        Err(error) if error.code() == CKR_ACTION_PROHIBITED => Vec::new(),
        stored => stored?,
    };
    let stored: Vec<_> = stored.into_iter().flat_map(|object| shown(object, &keys)).collect();
    Ok(keys.into_iter().flat_map(halves).chain(stored).collect())
}

/// The versions of a key that are shown, the primary one first: whoever looks for a label finds that.
pub(crate) fn versions(key: &v1::Key) -> Vec<Arc<Key>> {
    let mut versions: Vec<_> = key.versions.iter().collect();
    versions.sort_by_key(|version| (version.version != key.primary_version, version.version));
    versions
        .into_iter()
        .filter_map(|version| self::version(key, version))
        .map(Arc::new)
        .collect()
}

/// The objects of a version.
pub(crate) fn halves(key: Arc<Key>) -> Vec<Content> {
    match (key.public.is_some(), key.standing) {
        (true, Standing::Announced) => vec![Content::PublicKey(key)],
        (true, _) => vec![Content::PrivateKey(Arc::clone(&key)), Content::PublicKey(key)],
        (false, Standing::Announced) => Vec::new(),
        (false, _) => vec![Content::SecretKey(key)],
    }
}

/// The names of the labels in which a version's `CKA_ID` (hexadecimal) and `CKA_LABEL` are kept.
pub(crate) fn label_names(version: u32) -> [String; 2] {
    [format!("pkcs11/id/{version}"), format!("pkcs11/label/{version}")]
}

fn version(key: &v1::Key, version: &v1::KeyVersion) -> Option<Key> {
    let standing = match version.state() {
        KeyVersionState::Active => Standing::Active,
        KeyVersionState::Deactivated => Standing::Old,
        KeyVersionState::PreActive => Standing::Announced,
        // Suspended, compromised, or gone.
        _ => return None,
    };
    let public = match version.public_key.is_empty() {
        true => None,
        false => Some(PublicKey::read(&version.public_key)?),
    };
    let [id, label] = label_names(version.version);
    let id = key.labels.get(&id).and_then(|id| hex::decode(id).ok());
    let name = key.name.rsplit('/').next().unwrap_or_default();
    Some(Key {
        reference: Reference::Stored {
            key: key.name.clone(),
            version: version.version,
        },
        identity: format!("{}/{}", key.uid, version.version),
        key_type: key.r#type(),
        uses: key
            .permitted_uses
            .iter()
            .map(|one| (one.operation(), one.mechanism()))
            .collect(),
        standing,
        info: version.public_key.to_vec(),
        public,
        id: id.unwrap_or_else(|| default_id(&key.uid, version.version)),
        label: key.labels.get(&label).cloned().unwrap_or_else(|| name.to_owned()),
        is_exportable: key.exportable,
        is_generated: version.origin() == KeyOrigin::Generated,
        is_resident: key.protection() == KeyProtection::Resident,
    })
}

/// The key's uid and the version's number: 20 bytes that no other version has.
fn default_id(uid: &str, version: u32) -> Vec<u8> {
    let uid: String = uid.chars().filter(|one| *one != '-').collect();
    let mut id = hex::decode(uid).unwrap_or_default();
    id.extend(version.to_be_bytes());
    id
}

fn objects(pool: &Pool, parent: &str) -> Result<Vec<v1::StoredObject>> {
    let mut objects = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = pool.list_objects(v1::ListObjectsRequest {
            parent: parent.to_owned(),
            page_size: OBJECTS_A_PAGE,
            page_token,
            ..v1::ListObjectsRequest::default()
        })?;
        objects.extend(page.objects);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(objects);
        }
    }
}

/// What a stored object is shown as: a certificate with those of its chain, or data.
pub(crate) fn shown(object: v1::StoredObject, keys: &[Arc<Key>]) -> Vec<Content> {
    let certificate = |name: Option<&str>, identity: String, id: &[u8], label: &[u8], value: &[u8]| {
        let (parts, is_authority) = StoredCertificate::parts(value)?;
        Some(Content::Certificate(Arc::new(StoredCertificate {
            name: name.map(str::to_owned),
            identity,
            id: id.to_vec(),
            label: label.to_vec(),
            value: value.to_vec(),
            parts,
            is_authority,
        })))
    };
    match object.content {
        Some(stored_object::Content::Certificate(value)) => {
            // A certificate of a key has the key's id where it has none of its own.
            let key = keys.iter().find(|key| match &key.reference {
                Reference::Stored { key, version } => {
                    object.key == *key || object.key == format!("{key}/versions/{version}")
                }
                Reference::Ephemeral(_) | Reference::Brought => false,
            });
            let id = match (object.object_id.is_empty(), key) {
                (true, Some(key)) => key.id.clone(),
                _ => object.object_id.to_vec(),
            };
            let chain = object.chain.iter().enumerate();
            let own = certificate(Some(&object.name), object.uid.clone(), &id, &object.label, &value);
            let chain =
                chain.map(|(at, value)| certificate(None, format!("{}/chain/{at}", object.uid), &[], &[], value));
            [own].into_iter().chain(chain).flatten().collect()
        }
        Some(stored_object::Content::Data(data)) => vec![Content::Data(Arc::new(StoredData {
            name: object.name,
            identity: object.uid,
            label: object.label.to_vec(),
            application: data.application,
            oid: data.oid.to_vec(),
            value: data.value.to_vec(),
        }))],
        None => Vec::new(),
    }
}

const KEYS_A_PAGE: i32 = 250;
const OBJECTS_A_PAGE: i32 = 250;

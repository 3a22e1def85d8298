//! Secrets from key agreement. The gateway gives them to the caller, whose own they are from then on.

use crate::{
    error::{Error, Result},
    gateway::Pool,
    mechanism::{Mechanism, Parameters},
    object::{Content, Object, Secret},
    software::public_key::PublicKey,
    template::Template,
};
use cryptoki_sys::*;
use der::{Decode, Encode};
use portcullis_proto::v1::{self, KeyOperation, Mechanism as Gateway};
use spki::SubjectPublicKeyInfoOwned;
use std::sync::Arc;
use zeroize::Zeroizing;

/// ECDH with a peer's point (`CKM_ECDH1_DERIVE`, `CKD_NULL`): the x-coordinate, or as many of its first bytes as are asked for.
pub(crate) fn derive(pool: &Pool, mechanism: &Mechanism, base: &Object, template: &Template) -> Result<Content> {
    let (CKM_ECDH1_DERIVE, Parameters::Agreement { kdf, shared, public }) = (mechanism.kind, &mechanism.parameters)
    else {
        return Err(mechanism.invalid());
    };
    if *kdf != CKD_NULL || !shared.is_empty() {
        return Err(Error::new(
            CKR_MECHANISM_PARAM_INVALID,
            "expected CKD_NULL and no shared data",
        ));
    }
    let Content::PrivateKey(key) = &base.content else {
        return Err(CKR_KEY_TYPE_INCONSISTENT.into());
    };
    if key.curve().is_none() {
        return Err(CKR_KEY_TYPE_INCONSISTENT.into());
    }
    if !key.permits(KeyOperation::Derive, Gateway::Ecdh) {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED.into());
    }
    let secret = wanted(template)?;
    let (name, key_token) = key.named();
    let answer = pool.derive_shared_secret(v1::DeriveSharedSecretRequest {
        name,
        key_token: key_token.into(),
        peer_public_key: peer(&key.info, PublicKey::bare_point(public))?.into(),
        mechanism: Gateway::Ecdh.into(),
        ..v1::DeriveSharedSecretRequest::default()
    })?;
    let length = secret.length.unwrap_or(answer.shared_secret.len());
    let value = answer
        .shared_secret
        .get(..length)
        .ok_or_else(|| Error::from(CKR_KEY_SIZE_RANGE))?;
    Ok(Content::Secret(Arc::new(Secret {
        value: Zeroizing::new(value.to_vec()),
        key_type: secret.key_type,
        id: template.bytes(CKA_ID).unwrap_or_default().to_vec(),
        label: template.bytes(CKA_LABEL).unwrap_or_default().to_vec(),
    })))
}

pub(crate) struct Wanted {
    key_type: CK_KEY_TYPE,
    length: Option<usize>,
}

/// What may be derived: a session object that its caller may read. What must not be read would have to stay in an HSM.
pub(crate) fn wanted(template: &Template) -> Result<Wanted> {
    if template.flag(CKA_TOKEN)? == Some(true) {
        return Err(Error::new(
            CKR_TEMPLATE_INCONSISTENT,
            "a derived secret is a session object: CKA_TOKEN must be false",
        ));
    }
    if template.flag(CKA_SENSITIVE)? == Some(true) || template.flag(CKA_EXTRACTABLE)? == Some(false) {
        let message = "a derived secret is its caller's own: CKA_SENSITIVE must be false and CKA_EXTRACTABLE true";
        return Err(Error::new(CKR_TEMPLATE_INCONSISTENT, message));
    }
    if template.number(CKA_CLASS)?.is_some_and(|class| class != CKO_SECRET_KEY) {
        return Err(CKR_TEMPLATE_INCONSISTENT.into());
    }
    let key_type = template.number(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET);
    if !matches!(key_type, CKK_GENERIC_SECRET | CKK_AES) {
        return Err(CKR_TEMPLATE_INCONSISTENT.into());
    }
    let length = template
        .number(CKA_VALUE_LEN)?
        .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let length = length.filter(|length| *length > 0);
    if key_type == CKK_AES && !matches!(length, Some(16 | 24 | 32)) {
        return Err(CKR_TEMPLATE_INCONSISTENT.into());
    }
    Ok(Wanted { key_type, length })
}

/// The peer's point on the curve of a key, as SubjectPublicKeyInfo.
fn peer(own: &[u8], point: &[u8]) -> Result<Vec<u8>> {
    let invalid = || Error::from(CKR_MECHANISM_PARAM_INVALID);
    let own = SubjectPublicKeyInfoOwned::from_der(own).map_err(|_| invalid())?;
    let peer = SubjectPublicKeyInfoOwned {
        subject_public_key: der::asn1::BitString::from_bytes(point).map_err(|_| invalid())?,
        ..own
    };
    peer.to_der().map_err(|_| invalid())
}

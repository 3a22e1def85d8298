//! A worthless key that goes to a joining member before the domain does.

use super::{KNOWN_KEY, OaepHash, Transport, WRAPPED_CAPACITY};
use crate::{
    Error,
    algorithm::KeyType,
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session, Template},
    record::CanonicalWriter,
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;
use sha2::{Digest, Sha256};
use std::fmt;

/// What a canary key makes of a known input: equal on both sides exactly when both have the same key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Canary([u8; 32]);

impl Canary {
    /// From what the other side said.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn of(session: &mut Session, key: ObjectHandle, key_wrap: CK_MECHANISM_TYPE) -> Result<Self, Error> {
        let known = known_key(session)?;
        let wrapped = session.wrap_key(CallMechanism::Plain(key_wrap), key, known, WRAPPED_CAPACITY)?;
        session.destroy_object(known)?;
        let parts = CanonicalWriter::new()
            .bytes(b"portcullis canary v1")
            .bytes(&wrapped)
            .finish();
        Ok(Self(Sha256::digest(parts).into()))
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl Transport {
    /// Unwraps a canary as the domain would be unwrapped, and says what its key makes of the known input. The key is destroyed.
    pub fn answer_canary(
        &self,
        session: &mut Session,
        wrapped: &[u8],
        oaep_hash: OaepHash,
        key_wrap: CK_MECHANISM_TYPE,
    ) -> Result<Canary, Error> {
        let template = template(Extraction::Forbidden, key_wrap);
        let key = session.unwrap_key(oaep_hash.call(), self.private(), wrapped, &template)?;
        let canary = Canary::of(session, key, key_wrap)?;
        session.destroy_object(key)?;
        Ok(canary)
    }
}

/// A canary key: a session object that can only wrap.
pub(super) fn template(extraction: Extraction, key_wrap: CK_MECHANISM_TYPE) -> Template {
    let usage = Usage {
        wrap: true,
        ..Usage::NONE
    };
    template::frozen(
        template::key(KeyType::Aes256, Lifetime::Session, extraction, usage),
        &[key_wrap],
    )
}

/// The key that is wrapped to compare wrapping keys.
pub(super) fn known_key(session: &mut Session) -> Result<ObjectHandle, Error> {
    let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Allowed, Usage::NONE)
        .with(Attribute::bytes(CKA_VALUE, KNOWN_KEY));
    Ok(session.create_object(&template)?)
}

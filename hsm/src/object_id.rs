//! Objects that a ceremony makes: found again by a `CKA_ID` that was known before they were made.
//!
//! A ceremony that was interrupted asks the token what there is of a step, and adopts it or destroys it.

use crate::{
    Error,
    pkcs11::{Attribute, ObjectHandle, Session, Template},
    record::CanonicalWriter,
};
use cryptoki_sys::*;
use sha2::{Digest, Sha256};
use std::fmt;

/// The `CKA_ID` of all token objects that one step of one ceremony makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId([u8; 32]);

/// One object, as its token describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundObject {
    /// `CKA_LABEL`.
    pub label: String,
    /// `CKA_CLASS`.
    pub class: CK_OBJECT_CLASS,
}

impl ObjectId {
    /// The id of a step's objects. `ceremony` is what tells the ceremony from all others, for example the hash of its first
    /// entry.
    pub fn of(ceremony: &[u8], step: &str) -> Self {
        let parts = CanonicalWriter::new()
            .bytes(b"portcullis ceremony object v1")
            .bytes(ceremony)
            .bytes(step.as_bytes())
            .finish();
        Self(Sha256::digest(parts).into())
    }

    /// From its 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (hex::encode(bytes) == text).then_some(Self(bytes))
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The token objects that have it.
    pub fn find(&self, session: &mut Session) -> Result<Vec<FoundObject>, Error> {
        let mut found = Vec::new();
        for handle in self.handles(session)? {
            let class = session.attribute(handle, CKA_CLASS, size_of::<CK_OBJECT_CLASS>())?;
            let label = session.attribute(handle, CKA_LABEL, MOST_LABEL)?;
            found.push(FoundObject {
                label: String::from_utf8_lossy(&label).into_owned(),
                class: class
                    .try_into()
                    .map_or(CKO_VENDOR_DEFINED, CK_OBJECT_CLASS::from_ne_bytes),
            });
        }
        found.sort_by(|one, other| (&one.label, one.class).cmp(&(&other.label, other.class)));
        Ok(found)
    }

    /// Destroys every token object that has it and looks that none is left; returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::NotDestroyed`] when the token still shows one.
    pub fn destroy(&self, session: &mut Session) -> Result<usize, Error> {
        let handles = self.handles(session)?;
        for handle in &handles {
            session.destroy_object(*handle)?;
        }
        if self.handles(session)?.is_empty() {
            Ok(handles.len())
        } else {
            Err(Error::NotDestroyed)
        }
    }

    fn handles(&self, session: &mut Session) -> Result<Vec<ObjectHandle>, Error> {
        let template = Template::new([Attribute::flag(CKA_TOKEN, true), Attribute::bytes(CKA_ID, self.0)]);
        Ok(session.find_objects(&template, MOST_OBJECTS)?)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A step makes three objects at most.
const MOST_OBJECTS: usize = 64;
const MOST_LABEL: usize = 256;

//! Key material on its way in: what it is, and how it becomes an object.

use crate::{
    Error,
    algorithm::KeyType,
    loaded::LoadedKey,
    pkcs11::{Attribute, ObjectHandle, Session},
    private_key::ClearPrivateKey,
};
use cryptoki_sys::CKA_VALUE;
use std::sync::Arc;

/// Key material on its way in.
pub(super) struct Arrival<'a> {
    pub(super) way: Way<'a>,
    // What the source said of the public half.
    pub(super) public_key: Option<Vec<u8>>,
}

/// How it becomes an object.
pub(super) enum Way<'a> {
    /// By `C_CreateObject` with these attributes.
    Create(Vec<Attribute>),
    /// By `C_UnwrapKey`.
    Unwrap { by: UnwrappingKey, wrapped: &'a [u8] },
}

/// What unwraps it.
pub(super) enum UnwrappingKey {
    /// A key of this domain, which stays loaded meanwhile.
    Loaded(Arc<LoadedKey>),
    /// An object of the session that came with the key material.
    Passing(ObjectHandle),
}

impl UnwrappingKey {
    pub(super) fn handle(&self) -> ObjectHandle {
        match self {
            Self::Loaded(key) => key.handle(),
            Self::Passing(handle) => *handle,
        }
    }
}

impl<'a> Arrival<'a> {
    pub(super) fn wrapped(by: UnwrappingKey, wrapped: &'a [u8]) -> Self {
        Self {
            way: Way::Unwrap { by, wrapped },
            public_key: None,
        }
    }

    pub(super) fn clear(key_type: KeyType, value: &[u8]) -> Result<Self, Error> {
        match key_type.secret_length() {
            Some(length) if value.len() != length => Err(refused(&format!(
                "a key of type {key_type} has {length} bytes, found {}",
                value.len()
            ))),
            Some(_) => Ok(Self {
                way: Way::Create(vec![Attribute::secret(CKA_VALUE, value)]),
                public_key: None,
            }),
            None => {
                let key = ClearPrivateKey::from_pkcs8(key_type, value).map_err(|error| refused(&error.to_string()))?;
                Ok(Self {
                    way: Way::Create(key.attributes),
                    public_key: key.public_key,
                })
            }
        }
    }

    /// Destroys what came with the key material.
    pub(super) fn forget(self, session: &mut Session) -> Result<(), Error> {
        if let Way::Unwrap {
            by: UnwrappingKey::Passing(passing),
            ..
        } = self.way
        {
            session.destroy_object(passing)?;
        }
        Ok(())
    }
}

/// Checks the length of key material wrapped by RFC 5649 as far as it can be told from outside.
pub(super) fn check_length(key_type: KeyType, wrapped: &[u8]) -> Result<(), Error> {
    let right = match key_type.secret_length() {
        Some(length) => wrapped.len() == wrapped_length_of(length),
        None => wrapped.len() >= 24 && wrapped.len().is_multiple_of(8),
    };
    if right {
        return Ok(());
    }
    let expected = match key_type.secret_length() {
        Some(length) => wrapped_length_of(length).to_string(),
        None => "a multiple of 8, at least 24,".to_owned(),
    };
    Err(refused(&format!(
        "a key of type {key_type} wrapped by AES key wrap with padding has {expected} bytes, found {}",
        wrapped.len()
    )))
}

/// The length of a secret of this length wrapped by RFC 5649.
pub(super) fn wrapped_length_of(length: usize) -> usize {
    length.next_multiple_of(8) + 8
}

/// The refusal of key material, in words without any of it.
pub(super) fn refused(why: &str) -> Error {
    Error::ImportRefused(why.to_owned())
}

//! Whether a token can hold the sealing keys of a domain, found by trying it with keys that die at once.
//!
//! What a token must do for that: wrap and unwrap by RFC 5649, take the seal key's `CKA_UNWRAP_TEMPLATE`, and then refuse to
//! unwrap a key as anything less. A token that does not can still authenticate, and keep resident keys.

use crate::{
    Error,
    algorithm::KeyType,
    domain::{DomainKey, WRAPPED_CAPACITY},
    pkcs11::{Attribute, CallError, CallMechanism, CallResult, ObjectHandle, Session, SessionKind},
    return_code::Class,
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;
use std::fmt;

/// Why a token cannot hold a sealing domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealingObstacle {
    /// It does not list AES key wrap with padding for both directions, under any of its names.
    NoKeyWrap,
    /// It makes a key like the seal key only without the unwrap template.
    UnwrapTemplateRefused(CallError),
    /// It makes no key like the seal key at all.
    SealKeyRefused(CallError),
    /// The key that it made does not wrap or unwrap.
    SealKeyUnusable(CallError),
    /// It took the unwrap template, and then unwrapped a key against it.
    UnwrapTemplateNotEnforced,
}

impl SealingObstacle {
    /// The name that programs know it by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKeyWrap => "NO_KEY_WRAP",
            Self::UnwrapTemplateRefused(_) => "UNWRAP_TEMPLATE_REFUSED",
            Self::SealKeyRefused(_) => "SEAL_KEY_REFUSED",
            Self::SealKeyUnusable(_) => "SEAL_KEY_UNUSABLE",
            Self::UnwrapTemplateNotEnforced => "UNWRAP_TEMPLATE_NOT_ENFORCED",
        }
    }
}

impl fmt::Display for SealingObstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeyWrap => formatter.write_str("the token has no AES key wrap with padding (RFC 5649)"),
            Self::UnwrapTemplateRefused(error) => {
                write!(formatter, "the token refuses a key with CKA_UNWRAP_TEMPLATE ({error})")
            }
            Self::SealKeyRefused(error) => write!(formatter, "the token makes no AES key that may only wrap ({error})"),
            Self::SealKeyUnusable(error) => {
                write!(
                    formatter,
                    "a key with CKA_UNWRAP_TEMPLATE does not wrap and unwrap ({error})"
                )
            }
            Self::UnwrapTemplateNotEnforced => {
                formatter.write_str("the token unwraps a key as extractable although CKA_UNWRAP_TEMPLATE forbids it")
            }
        }
    }
}

/// Tries, with session objects, what a sealing domain needs; returns what stands against it, nothing where nothing does.
/// `key_wrap` is the token's mechanism for RFC 5649, if it has one.
pub(crate) fn try_sealing(near: &Session, key_wrap: Option<CK_MECHANISM_TYPE>) -> Result<Vec<SealingObstacle>, Error> {
    let mut obstacles = Vec::new();
    if key_wrap.is_none() {
        obstacles.push(SealingObstacle::NoKeyWrap);
    }
    // Without the right mechanism, the template can be tried all the same.
    let mechanism = key_wrap.unwrap_or(CKM_AES_KEY_WRAP);
    // Each session closes with all its objects, and before the next one opens: tokens may have few.
    let tried = {
        let mut session = open(near)?;
        match seal_key(&mut session, mechanism, true) {
            Ok(seal) => {
                if let Some(key_wrap) = key_wrap {
                    obstacles.extend(use_seal_key(&mut session, seal, key_wrap)?);
                }
                return Ok(obstacles);
            }
            Err(refused) => refused,
        }
    };
    // What a token in trouble says once is asked again: it must not be taken for one that can do less.
    let refused = match tried.code.class() {
        Class::CallerFault => tried,
        _ => match seal_key(&mut open(near)?, mechanism, true) {
            Ok(_) => return Err(tried.into()),
            Err(again) => again,
        },
    };
    obstacles.push(match seal_key(&mut open(near)?, mechanism, false) {
        Ok(_) => SealingObstacle::UnwrapTemplateRefused(refused),
        Err(error) if error.code.class() == Class::CallerFault => SealingObstacle::SealKeyRefused(refused),
        Err(error) => return Err(error.into()),
    });
    Ok(obstacles)
}

/// The obstacles as one text: each with its code.
pub fn in_words(obstacles: &[SealingObstacle]) -> String {
    let words: Vec<_> = obstacles.iter().map(|one| format!("{one} [{}]", one.code())).collect();
    words.join("; ")
}

fn open(near: &Session) -> Result<Session, Error> {
    Ok(Session::open(near.module(), near.slot(), SessionKind::ReadOnly)?)
}

/// A key like the seal key, as a session object.
fn seal_key(
    session: &mut Session,
    key_wrap: CK_MECHANISM_TYPE,
    with_unwrap_template: bool,
) -> CallResult<ObjectHandle> {
    let mut template = DomainKey::Seal
        .template(Lifetime::Session, key_wrap)
        .with(Attribute::number(CKA_VALUE_LEN, 32));
    if !with_unwrap_template {
        template = template.without(CKA_UNWRAP_TEMPLATE);
    }
    session.generate_key(CallMechanism::Plain(CKM_AES_KEY_GEN), &template)
}

/// Wraps a key and unwraps it: as it should be, which must work, and as extractable, which must not. Returns what is wrong.
fn use_seal_key(
    session: &mut Session,
    seal: ObjectHandle,
    key_wrap: CK_MECHANISM_TYPE,
) -> Result<Option<SealingObstacle>, Error> {
    let mechanism = CallMechanism::Plain(key_wrap);
    let like = |extraction| template::key(KeyType::Aes256, Lifetime::Session, extraction, Usage::NONE);
    let passing = like(Extraction::Allowed).with(Attribute::number(CKA_VALUE_LEN, 32));
    let mut wrap_and_unwrap = || -> CallResult<Vec<u8>> {
        let passing = session.generate_key(CallMechanism::Plain(CKM_AES_KEY_GEN), &passing)?;
        let wrapped = session.wrap_key(mechanism, seal, passing, WRAPPED_CAPACITY)?;
        session.unwrap_key(mechanism, seal, &wrapped, &like(Extraction::Forbidden))?;
        Ok(wrapped)
    };
    let wrapped = match wrap_and_unwrap() {
        Ok(wrapped) => wrapped,
        Err(error) if error.code.class() == Class::CallerFault => {
            return Ok(Some(SealingObstacle::SealKeyUnusable(error)));
        }
        Err(error) => return Err(error.into()),
    };
    let against = session.unwrap_key(mechanism, seal, &wrapped, &like(Extraction::Allowed));
    Ok(against.is_ok().then_some(SealingObstacle::UnwrapTemplateNotEnforced))
}

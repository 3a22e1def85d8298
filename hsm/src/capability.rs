//! What a token can really do: asked of its mechanism list, and tried where the list cannot tell.

use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation},
    pkcs11::{Attribute, CallMechanism, Module, Session, SessionKind, SlotId},
    template::{self, Extraction, Lifetime, Usage, pkcs11_mechanism},
};
use cryptoki_sys::*;
use std::collections::BTreeMap;

/// The mechanisms of a token with what it does with them, and what it was seen to wrap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    mechanisms: BTreeMap<CK_MECHANISM_TYPE, CK_FLAGS>,
    wrappable: Vec<KeyType>,
}

impl Capabilities {
    /// Asks a token for its mechanisms.
    pub fn ask(module: &Module, slot: SlotId) -> Result<Self, Error> {
        let mut mechanisms = BTreeMap::new();
        for mechanism in module.mechanisms(slot)? {
            // A token may list a mechanism that it then denies: leave that one out.
            if let Ok(flags) = module.mechanism_flags(slot, mechanism) {
                mechanisms.insert(mechanism, flags);
            }
        }
        Ok(Self {
            mechanisms,
            wrappable: Vec::new(),
        })
    }

    /// Tries, with session objects, which quickly made key types the token wraps by RFC 5649. A token that wraps one kind
    /// of private key may refuse another.
    pub fn try_wrapping(&mut self, near: &Session) -> Result<(), Error> {
        let Some(key_wrap) = self.key_wrap() else { return Ok(()) };
        for key_type in [KeyType::Aes256, KeyType::HmacSha256, KeyType::EcP256, KeyType::Ed25519] {
            if self.generates(key_type) && wraps(near, key_wrap, key_type).is_ok() {
                self.wrappable.push(key_type);
            }
        }
        Ok(())
    }

    /// The token's name for RFC 5649: newer tokens have `CKM_AES_KEY_WRAP_KWP`, older ones do it under
    /// `CKM_AES_KEY_WRAP_PAD`. That two members mean the same is shown by their equal fingerprints.
    pub fn key_wrap(&self) -> Option<CK_MECHANISM_TYPE> {
        [CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD]
            .into_iter()
            .find(|mechanism| self.has(*mechanism, CKF_WRAP | CKF_UNWRAP))
    }

    /// Whether the token generates keys of a type.
    pub fn generates(&self, key_type: KeyType) -> bool {
        let flag = if key_type.is_asymmetric() {
            CKF_GENERATE_KEY_PAIR
        } else {
            CKF_GENERATE
        };
        self.has(template::generation_mechanism(key_type), flag)
    }

    /// Whether the token has the mechanism for an operation.
    pub fn supports(&self, operation: Operation, mechanism: Mechanism) -> bool {
        let flag = match operation {
            Operation::Sign | Operation::MacSign | Operation::MacVerify => CKF_SIGN,
            Operation::Encrypt => CKF_ENCRYPT,
            Operation::Decrypt => CKF_DECRYPT,
            Operation::Wrap => CKF_WRAP,
            Operation::Unwrap => CKF_UNWRAP,
            Operation::Derive => CKF_DERIVE,
        };
        self.has(pkcs11_mechanism(mechanism), flag)
    }

    /// Names of what the token can do, for people: `generate EC_P256`, `wrap EC_P256`, `SIGN with ECDSA_SHA256`.
    pub fn describe(&self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(
            KeyType::ALL
                .iter()
                .filter(|one| self.generates(**one))
                .map(|one| format!("generate {one}")),
        );
        names.extend(self.wrappable.iter().map(|one| format!("wrap {one}")));
        for operation in Operation::ALL {
            for mechanism in Mechanism::ALL {
                let meaningful = KeyType::ALL
                    .iter()
                    .any(|key_type| mechanism.fits(*operation, *key_type));
                if meaningful && self.supports(*operation, *mechanism) {
                    names.push(format!("{operation} with {mechanism}"));
                }
            }
        }
        names
    }

    fn has(&self, mechanism: CK_MECHANISM_TYPE, flags: CK_FLAGS) -> bool {
        self.mechanisms
            .get(&mechanism)
            .is_some_and(|have| have & flags == flags)
    }
}

/// Generates a session key and wraps it under another; both die with the session.
fn wraps(near: &Session, key_wrap: CK_MECHANISM_TYPE, key_type: KeyType) -> Result<(), Error> {
    let mut session = Session::open(near.module(), near.slot(), SessionKind::ReadOnly)?;
    let wrapping = session.generate_key(
        CallMechanism::Plain(CKM_AES_KEY_GEN),
        &template::key(
            KeyType::Aes256,
            Lifetime::Session,
            Extraction::Forbidden,
            Usage {
                wrap: true,
                ..Usage::NONE
            },
        )
        .with(Attribute::number(CKA_VALUE_LEN, 32)),
    )?;
    let template = template::key(key_type, Lifetime::Session, Extraction::Allowed, Usage::NONE);
    let mechanism = CallMechanism::Plain(template::generation_mechanism(key_type));
    let key = match key_type.secret_length() {
        Some(length) => session.generate_key(
            mechanism,
            &template.with(Attribute::number(CKA_VALUE_LEN, length as u64)),
        )?,
        None => {
            session
                .generate_key_pair(
                    mechanism,
                    &template::public_half(key_type, Lifetime::Session),
                    &template,
                )?
                .1
        }
    };
    session.wrap_key(
        CallMechanism::Plain(key_wrap),
        wrapping,
        key,
        crate::domain::WRAPPED_CAPACITY,
    )?;
    Ok(())
}

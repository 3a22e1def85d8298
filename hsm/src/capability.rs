//! What a token can really do: asked of its mechanism list, and tried where the list cannot tell.

use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation},
    pkcs11::{Attribute, CallMechanism, Module, Session, SessionKind, SlotId, Template},
    return_code::{Class, ReturnCode},
    sealing::{SealingObstacle, try_sealing},
    template::{self, Extraction, Lifetime, Usage, pkcs11_mechanism},
};
use cryptoki_sys::*;
use std::collections::BTreeMap;

/// The mechanisms of a token with what it does with them, and what it was seen to wrap and to refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    mechanisms: BTreeMap<CK_MECHANISM_TYPE, CK_FLAGS>,
    wrappable: Vec<KeyType>,
    // Listed, tried and refused.
    refused: Vec<Mechanism>,
    sealing_obstacles: Vec<SealingObstacle>,
}

impl Capabilities {
    /// Asks a token for its mechanisms.
    pub fn ask(module: &Module, slot: SlotId) -> Result<Self, Error> {
        let mut mechanisms = BTreeMap::new();
        for mechanism in module.mechanisms(slot)? {
            match module.mechanism_flags(slot, mechanism) {
                Ok(flags) => drop(mechanisms.insert(mechanism, flags)),
                // A token may list a mechanism that it then denies: leave that one out.
                Err(error) if error.code.class() == Class::CallerFault => {}
                // A token in trouble must not be taken for one that can do less.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            mechanisms,
            wrappable: Vec::new(),
            refused: Vec::new(),
            sealing_obstacles: Vec::new(),
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

    /// Tries, with session objects, whether the token can hold the sealing keys of a domain.
    pub fn try_sealing(&mut self, near: &Session) -> Result<(), Error> {
        self.sealing_obstacles = try_sealing(near, self.key_wrap())?;
        Ok(())
    }

    /// What stands against a sealing domain on this token; nothing where it can hold one.
    pub fn sealing_obstacles(&self) -> &[SealingObstacle] {
        &self.sealing_obstacles
    }

    /// Tries the hashes of RSA-OAEP: the list names the mechanism whatever its parameters, and some tokens then take only
    /// SHA-1. A public key and the start of an encryption are enough, because the parameters are the same to decrypt.
    pub fn try_encrypting(&mut self, near: &Session) -> Result<(), Error> {
        for mechanism in [Mechanism::RsaOaepSha1, Mechanism::RsaOaepSha256] {
            if self.has(pkcs11_mechanism(mechanism), CKF_ENCRYPT) && refuses(near, mechanism)? {
                self.refused.push(mechanism);
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
        self.has(pkcs11_mechanism(mechanism), flag) && !self.refused.contains(&mechanism)
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

/// Whether a token refuses to encrypt so under a public key. A token that does not even take the key has said nothing.
fn refuses(near: &Session, mechanism: Mechanism) -> Result<bool, Error> {
    let mut session = Session::open(near.module(), near.slot(), SessionKind::ReadOnly)?;
    let (Some(call), Ok(modulus)) = (template::decryption_call(mechanism), hex::decode(MODULUS)) else {
        return Ok(false);
    };
    let key = Template::new([
        Attribute::number(CKA_CLASS, CKO_PUBLIC_KEY),
        Attribute::number(CKA_KEY_TYPE, CKK_RSA),
        Attribute::flag(CKA_TOKEN, false),
        Attribute::flag(CKA_PRIVATE, false),
        Attribute::bytes(CKA_MODULUS, modulus),
        Attribute::bytes(CKA_PUBLIC_EXPONENT, [1, 0, 1]),
        Attribute::flag(CKA_ENCRYPT, true),
        Attribute::flag(CKA_VERIFY, false),
        Attribute::flag(CKA_VERIFY_RECOVER, false),
        Attribute::flag(CKA_WRAP, false),
        Attribute::flag(CKA_DERIVE, false),
    ]);
    let Ok(key) = session.create_object(&key) else {
        return Ok(false);
    };
    // The session closes with the operation and the key in it.
    Ok(matches!(session.begin_encryption(call, key), Err(error) if PARAMETERS_REFUSED.contains(&error.code)))
}

/// What tokens answer to parameters that they do not do.
const PARAMETERS_REFUSED: [ReturnCode; 4] = [
    ReturnCode::MECHANISM_PARAM_INVALID,
    ReturnCode::MECHANISM_INVALID,
    ReturnCode::ARGUMENTS_BAD,
    ReturnCode::FUNCTION_NOT_SUPPORTED,
];

/// A modulus of 2048 bits whose factors nobody has kept: nothing is ever encrypted under it.
const MODULUS: &str = "b04064a1ad140091f975311e0606b466294e8fb8caff4a0159190633daab0c406aa56c3bae40cda3a1d68e9d91e6a0a1\
                       7770e64a0bf57a336b50a46073a763a224ecb3ee495fea872dd60f7a8f4784bb23faafcb873e5216ca5f7c83c5e5a24c\
                       c48b561e4ac3359915402a4820dab2370a68a81ead9e7124b355240c5dbfdd3c677ca899dc25290c45acda33418bcf72\
                       eb32466494ca4ee0bc44f8bc6c233828ba99e3aac0330d24ef3a542c41da56c5f06b6f630f632e3ec61515e1cfcf08b7\
                       ec247e89a66ab4e4a462e70708fb42fe4c2245524679998183fb5d33b760eb701dfecaa378c0e1612f92ad8bc9a07568\
                       d81c8e27238aff0821336b17b918ab5b";

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

//! Tries on a member's domain keys what must fail, with the user's login, and says what happened.

use super::{
    DomainKey, DomainKeys, OaepHash, OriginDomain, SealingKeys, Transport, WRAPPED_CAPACITY, clone::rsa_public_key,
};
use crate::{
    Error,
    algorithm::KeyType,
    pkcs11::{Attribute, CallMechanism, CallResult, ObjectHandle, Session, SessionKind, Template},
    refusal::copy_and_destroy,
    return_code::ReturnCode,
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The token refused it, as it must.
    Refused(ReturnCode),
    /// The token did it where the template said nothing, and made the key as its unwrapping key's template says (PKCS#11 3.0
    /// section 4.9: that template is applied first).
    Forced,
    /// The token allowed it.
    Allowed,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The key and the deed, in words.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// Tries everything that someone with the user PIN must not be able to do with the domain keys and with keys loaded under
/// them. First does what must work, so that a token that refuses everything does not pass.
///
/// # Errors
///
/// [`Error::Call`] when what must work fails. An attempt that the token allowed is an entry with
/// [`Verdict::Allowed`], not an error: the caller decides.
pub fn try_forbidden(session: &mut Session, domain: &DomainKeys) -> Result<Vec<Attempt>, Error> {
    let mut trial = Trial {
        attempts: Vec::new(),
        mechanisms: Vec::new(),
        wrapping: Vec::new(),
    };
    let mut keys = vec![(DomainKey::Mac, domain.mac)];
    match domain.sealing {
        Some(SealingKeys {
            seal,
            portable,
            key_wrap,
        }) => {
            trial.mechanisms = vec![key_wrap];
            trial.wrapping = vec![("the seal key", seal), ("the portable key", portable)];
            keys.splice(0..0, [(DomainKey::Seal, seal), (DomainKey::Portable, portable)]);
            trial.loaded_keys(
                session,
                [(DomainKey::Seal, seal), (DomainKey::Portable, portable)],
                key_wrap,
            )?;
        }
        None => {
            domain.known_answer(session)?;
            trial.mechanisms = vec![
                CKM_AES_KEY_WRAP,
                CKM_AES_KEY_WRAP_PAD,
                CKM_AES_KEY_WRAP_KWP,
                CKM_AES_CBC_PAD,
            ];
        }
    }
    for (key, handle) in keys {
        trial.use_against_its_purpose(session, key, handle)?;
        trial.take_out(session, key, handle)?;
        trial.change(session, key, handle)?;
    }
    Ok(trial.attempts)
}

/// Tries everything that someone with the user PIN of an origin token must not be able to do with the domain on it: whoever has no
/// trusted key can only fingerprint it. First computes the fingerprint, which must work.
///
/// # Errors
///
/// As [`try_forbidden`].
pub fn try_forbidden_on_origin(session: &mut Session, origin: &OriginDomain) -> Result<Vec<Attempt>, Error> {
    origin.fingerprint(session)?;
    let [seal, portable, mac] = origin.keys;
    let mut trial = Trial {
        attempts: Vec::new(),
        mechanisms: vec![origin.key_wrap],
        wrapping: vec![("the seal key", seal), ("the portable key", portable)],
    };
    let transport = Transport::generate(session)?;
    let (modulus, exponent) = rsa_public_key(transport.public_key())?;
    transport.destroy(session)?;
    let own = template::wrapping_public_key(&modulus, &exponent);
    for (key, handle) in [
        (DomainKey::Seal, seal),
        (DomainKey::Portable, portable),
        (DomainKey::Mac, mac),
    ] {
        trial.use_against_its_purpose(session, key, handle)?;
        trial.take_out(session, key, handle)?;
        trial.change(session, key, handle)?;
        trial.go_without_trust(session, key, handle, &own)?;
    }
    Ok(trial.attempts)
}

struct Trial {
    attempts: Vec<Attempt>,
    // By what a key might be wrapped: the domain's own mechanism, or all that a token may have.
    mechanisms: Vec<CK_MECHANISM_TYPE>,
    // The domain keys that wrap.
    wrapping: Vec<(&'static str, ObjectHandle)>,
}

impl Trial {
    /// Runs one attempt on a session of its own, because a refused operation may leave a session stuck.
    fn attempt<T>(
        &mut self,
        near: &Session,
        what: String,
        deed: impl FnOnce(&mut Session) -> CallResult<T>,
    ) -> Result<(), Error> {
        let mut session = Session::open(near.module(), near.slot(), SessionKind::ReadWrite)?;
        let verdict = match deed(&mut session) {
            Ok(_) => Verdict::Allowed,
            Err(error) => Verdict::Refused(error.code),
        };
        self.attempts.push(Attempt { what, verdict });
        Ok(())
    }

    /// Runs one attempt that makes a key, which is harmless if the key's attribute has the right value.
    fn attempt_and_look(
        &mut self,
        near: &Session,
        what: String,
        (attribute, right): (CK_ATTRIBUTE_TYPE, bool),
        deed: impl FnOnce(&mut Session) -> CallResult<ObjectHandle>,
    ) -> Result<(), Error> {
        let mut session = Session::open(near.module(), near.slot(), SessionKind::ReadWrite)?;
        let verdict = match deed(&mut session) {
            Ok(key) if session.attribute(key, attribute, 1)?.as_slice() == [u8::from(right)] => Verdict::Forced,
            Ok(_) => Verdict::Allowed,
            Err(error) => Verdict::Refused(error.code),
        };
        self.attempts.push(Attempt { what, verdict });
        Ok(())
    }

    /// The mechanism in words, where there are several.
    fn by(&self, mechanism: CK_MECHANISM_TYPE) -> String {
        match self.mechanisms.as_slice() {
            [_] => String::new(),
            _ => format!(" by mechanism 0x{mechanism:x}"),
        }
    }

    /// Keys that are unwrapped under the seal and portable keys.
    fn loaded_keys(
        &mut self,
        session: &mut Session,
        keys: [(DomainKey, ObjectHandle); 2],
        key_wrap: CK_MECHANISM_TYPE,
    ) -> Result<(), Error> {
        let key_wrap = CallMechanism::Plain(key_wrap);
        for (key, wrapping) in keys {
            let name = key.name();
            let victim = temporary_key(session, Usage::NONE)?;
            let wrapped = session.wrap_key(key_wrap, wrapping, victim, WRAPPED_CAPACITY)?;
            session.destroy_object(victim)?;
            let proper = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, Usage::NONE);
            let loaded = session.unwrap_key(key_wrap, wrapping, &wrapped, &proper)?;

            let mut must_be = vec![(CKA_SENSITIVE, true, "not sensitive", "sensitivity")];
            if key == DomainKey::Seal {
                must_be.push((CKA_EXTRACTABLE, false, "extractable", "extraction"));
            }
            for (attribute, value, wrong, property) in must_be {
                let template = proper.clone().with(Attribute::flag(attribute, !value));
                self.attempt(session, format!("{name}: unwrap a key {wrong}"), |session| {
                    session.unwrap_key(key_wrap, wrapping, &wrapped, &template)
                })?;
                let silent = proper.clone().without(attribute);
                let what = format!("{name}: unwrap a key with nothing said of {property}");
                self.attempt_and_look(session, what, (attribute, value), |session| {
                    session.unwrap_key(key_wrap, wrapping, &wrapped, &silent)
                })?;
            }
            for mechanism in [CKM_AES_KEY_WRAP, CKM_AES_CBC_PAD, CKM_AES_ECB] {
                self.attempt(
                    session,
                    format!("{name}: unwrap by mechanism 0x{mechanism:x}"),
                    |session| session.unwrap_key(CallMechanism::Plain(mechanism), wrapping, &wrapped, &proper),
                )?;
            }
            self.attempt(session, format!("{name}: read the value of a loaded key"), |session| {
                session.attribute(loaded, CKA_VALUE, 64)
            })?;
            self.attempt(session, format!("{name}: wrap a loaded key again"), |session| {
                session.wrap_key(key_wrap, wrapping, loaded, WRAPPED_CAPACITY)
            })?;
            let own = temporary_key(
                session,
                Usage {
                    wrap: true,
                    ..Usage::NONE
                },
            )?;
            self.attempt(
                session,
                format!("{name}: wrap a loaded key under another key"),
                |session| session.wrap_key(key_wrap, own, loaded, WRAPPED_CAPACITY),
            )?;
            session.destroy_object(own)?;
            for (attribute, value) in [(CKA_EXTRACTABLE, true), (CKA_SENSITIVE, false)] {
                let template = Template::new([Attribute::flag(attribute, value)]);
                self.attempt(
                    session,
                    format!("{name}: set attribute 0x{attribute:x} of a loaded key"),
                    |session| session.set_attributes(loaded, &template),
                )?;
                self.attempt(
                    session,
                    format!("{name}: copy a loaded key with attribute 0x{attribute:x}"),
                    |session| session.copy_object(loaded, &template),
                )?;
            }
            session.destroy_object(loaded)?;
        }
        Ok(())
    }

    fn use_against_its_purpose(
        &mut self,
        session: &mut Session,
        key: DomainKey,
        handle: ObjectHandle,
    ) -> Result<(), Error> {
        let name = key.name();
        let block = [0u8; 16];
        let nonce = [0u8; 12];
        let modes = [
            ("ECB", CallMechanism::Plain(CKM_AES_ECB)),
            ("CBC", CallMechanism::Bytes(CKM_AES_CBC, &block)),
            (
                "GCM",
                CallMechanism::Gcm {
                    nonce: &nonce,
                    associated_data: &[],
                },
            ),
        ];
        for (mode, mechanism) in modes {
            self.attempt(session, format!("{name}: encrypt by {mode}"), |session| {
                session.encrypt(mechanism, handle, &block, 32)
            })?;
            self.attempt(session, format!("{name}: decrypt by {mode}"), |session| {
                session.decrypt(mechanism, handle, &[0; 32])
            })?;
        }
        for mechanism in self.mechanisms.clone() {
            let how = self.by(mechanism);
            self.attempt(session, format!("{name}: decrypt{how}"), |session| {
                session.decrypt(CallMechanism::Plain(mechanism), handle, &[0; 40])
            })?;
        }
        self.attempt(session, format!("{name}: derive a key"), |session| {
            let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Allowed, Usage::NONE);
            session.derive_key(
                CallMechanism::Bytes(CKM_AES_ECB_ENCRYPT_DATA, &[0; 32]),
                handle,
                &template,
            )
        })?;
        if key == DomainKey::Mac {
            self.attempt(session, format!("{name}: MAC with another hash"), |session| {
                session.sign(CallMechanism::Plain(CKM_SHA512_HMAC), handle, &block, 64)
            })?;
            let victim = temporary_key(session, Usage::NONE)?;
            for mechanism in self.mechanisms.clone() {
                let how = self.by(mechanism);
                self.attempt(session, format!("{name}: wrap a key{how}"), |session| {
                    session.wrap_key(CallMechanism::Plain(mechanism), handle, victim, WRAPPED_CAPACITY)
                })?;
            }
            session.destroy_object(victim)?;
        } else {
            self.attempt(session, format!("{name}: compute a CMAC"), |session| {
                session.sign(CallMechanism::Plain(CKM_AES_CMAC), handle, &block, 16)
            })?;
        }
        Ok(())
    }

    fn take_out(&mut self, session: &mut Session, key: DomainKey, handle: ObjectHandle) -> Result<(), Error> {
        let name = key.name();
        self.attempt(session, format!("{name}: read the value"), |session| {
            session.attribute(handle, CKA_VALUE, 64)
        })?;
        let own = temporary_key(
            session,
            Usage {
                wrap: true,
                ..Usage::NONE
            },
        )?;
        let mut wrapping = vec![("a key of one's own", own)];
        wrapping.extend(&self.wrapping);
        for (wrapper, wrapping) in wrapping {
            for mechanism in self.mechanisms.clone() {
                let how = self.by(mechanism);
                self.attempt(session, format!("{name}: wrap it under {wrapper}{how}"), |session| {
                    session.wrap_key(CallMechanism::Plain(mechanism), wrapping, handle, WRAPPED_CAPACITY)
                })?;
            }
        }
        session.destroy_object(own)?;
        Ok(())
    }

    /// Ways around the trusted key: a public key of one's own, which nobody has trusted, and trusting one as the user.
    fn go_without_trust(
        &mut self,
        session: &mut Session,
        key: DomainKey,
        handle: ObjectHandle,
        own: &Template,
    ) -> Result<(), Error> {
        let name = key.name();
        for hash in [OaepHash::Sha1, OaepHash::Sha256] {
            let what = format!("{name}: wrap it to a transport key that is not trusted, by OAEP with {hash}");
            self.attempt(session, what, |session| {
                let untrusted = session.create_object(own)?;
                session.wrap_key(hash.call(), untrusted, handle, WRAPPED_CAPACITY)
            })?;
        }
        self.attempt(
            session,
            format!("{name}: trust a transport key as the user"),
            |session| session.create_object(&own.clone().with(Attribute::flag(CKA_TRUSTED, true))),
        )?;
        let freed = Template::new([Attribute::flag(CKA_WRAP_WITH_TRUSTED, false)]);
        self.attempt(session, format!("{name}: make it wrappable under any key"), |session| {
            session.set_attributes(handle, &freed)
        })?;
        self.attempt(session, format!("{name}: copy it wrappable under any key"), |session| {
            copy_and_destroy(session, handle, &freed)
        })
    }

    fn change(&mut self, session: &mut Session, key: DomainKey, handle: ObjectHandle) -> Result<(), Error> {
        let name = key.name();
        let mut changes = vec![
            ("extractable", Attribute::flag(CKA_EXTRACTABLE, true)),
            ("not sensitive", Attribute::flag(CKA_SENSITIVE, false)),
            ("able to encrypt", Attribute::flag(CKA_ENCRYPT, true)),
            ("able to decrypt", Attribute::flag(CKA_DECRYPT, true)),
            ("able to derive", Attribute::flag(CKA_DERIVE, true)),
            ("modifiable", Attribute::flag(CKA_MODIFIABLE, true)),
            ("copyable", Attribute::flag(CKA_COPYABLE, true)),
            (
                "free in its mechanisms",
                Attribute::mechanisms(CKA_ALLOWED_MECHANISMS, [CKM_AES_ECB, CKM_AES_CBC]),
            ),
        ];
        if key != DomainKey::Mac {
            changes.push((
                "free in what it unwraps",
                Attribute::attributes(
                    CKA_UNWRAP_TEMPLATE,
                    Template::new([Attribute::flag(CKA_SENSITIVE, false)]),
                ),
            ));
        }
        for (how, attribute) in changes {
            let template = Template::new([attribute]);
            self.attempt(session, format!("{name}: make it {how}"), |session| {
                session.set_attributes(handle, &template)
            })?;
            self.attempt(session, format!("{name}: copy it {how}"), |session| {
                copy_and_destroy(session, handle, &template)
            })?;
        }
        self.attempt(session, format!("{name}: copy it as it is"), |session| {
            copy_and_destroy(session, handle, &Template::default())
        })
    }
}

/// An AES key of one's own, which may be wrapped.
fn temporary_key(session: &mut Session, usage: Usage) -> Result<ObjectHandle, Error> {
    let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Allowed, usage)
        .with(Attribute::number(CKA_VALUE_LEN, 32));
    Ok(session.generate_key(CallMechanism::Plain(CKM_AES_KEY_GEN), &template)?)
}

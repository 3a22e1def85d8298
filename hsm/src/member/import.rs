//! Import: a key that was made elsewhere becomes a key token of this domain.
//!
//! The key is brought into the HSM as a sensitive session object that can do nothing but be wrapped once, wrapped under
//! the domain, and destroyed. What is stored is then loaded again and examined: it must be of the declared type and size,
//! and the secret half of its public key. A key to be kept as RESIDENT is examined as a session object first and only
//! then made a token object.

mod arrival;

use self::arrival::{Arrival, UnwrappingKey, Way, check_length, refused, wrapped_length_of};
use super::{KeyReference, Member, NOT_WRAPPABLE, NewKey};
use crate::{
    Error,
    algorithm::{Family, KeyType, Mechanism, Operation},
    domain::{KNOWN_KEY, OaepHash, WRAPPED_CAPACITY},
    key_token::{KeyToken, Origin, Storage},
    pkcs11::{Attribute, CallError, CallMechanism, ObjectHandle, Session, SessionKind, Template},
    proof,
    public_key::{bare_public_key, canonical_public_key, curve_parameters, rsa_public_key},
    record::{self, RecordKind},
    resident,
    return_code::Class,
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;

/// Where the key material of an import comes from.
#[derive(Clone, Copy)]
pub enum ImportSource<'a> {
    /// RSA-OAEP over an AES key, then AES key wrap with padding over the key material: the layout of
    /// `CKM_RSA_AES_KEY_WRAP` (PKCS#11 3.0 section 6.1.25).
    RsaAes {
        /// An import job's RSA key.
        key: KeyReference<'a>,
        /// OAEP with its hash.
        mechanism: Mechanism,
        /// Both parts, one after the other.
        wrapped: &'a [u8],
    },
    /// AES key wrap with padding (RFC 5649) under a key that both sides hold.
    AesKwp {
        /// The key that unwraps.
        key: KeyReference<'a>,
        /// The wrapped key material.
        wrapped: &'a [u8],
    },
    /// The value of a secret key, or PKCS#8 in DER.
    Clear(&'a [u8]),
}

impl Member {
    /// Imports a key and returns its token with the tag.
    ///
    /// `public_key` is SubjectPublicKeyInfo in DER, or empty. It is needed where the token cannot show the public half of a
    /// private key and the source does not contain it: elliptic-curve keys that arrive wrapped.
    ///
    /// # Errors
    ///
    /// [`Error::ImportRefused`] for whatever is wrong with the key material. Which step of unwrapping failed is not told. After an
    /// error that may be about the key material or about the member, the member must wrap and unwrap something else, and fail again
    /// with the key material, before that is called wrong.
    pub fn import(
        &self,
        session: &mut Session,
        new: &NewKey,
        source: ImportSource<'_>,
        public_key: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let is_ambiguous = |error: &Error| matches!(error, Error::Call(_)) && error.class() == Class::MemberFault;
        match self.import_once(session, new, source, public_key) {
            Err(error) if is_ambiguous(&error) && self.still_unwraps() => {}
            outcome => return outcome,
        }
        *session = self.open_session(match new.storage {
            Storage::Resident => SessionKind::ReadWrite,
            Storage::Sealed | Storage::Portable => SessionKind::ReadOnly,
        })?;
        match self.import_once(session, new, source, public_key) {
            Err(error) if is_ambiguous(&error) && self.still_answers() => Err(refused(NOT_UNWRAPPED)),
            outcome => outcome,
        }
    }

    /// Whether the member makes an object of a value, and, if it can do that at all, wraps it and unwraps that.
    fn still_unwraps(&self) -> bool {
        let tried = self.open_session(SessionKind::ReadOnly).and_then(|mut session| {
            let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Allowed, Usage::NONE);
            let value = Attribute::bytes(CKA_VALUE, KNOWN_KEY);
            let known = session.create_object(&template.clone().with(value))?;
            let Some(key_wrap) = self.capabilities.key_wrap() else {
                return Ok(());
            };
            let usage = Usage {
                wrap: true,
                unwrap: true,
                ..Usage::NONE
            };
            let wrapping = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, usage);
            let wrapping = session.generate_key(
                CallMechanism::Plain(CKM_AES_KEY_GEN),
                &wrapping.with(Attribute::number(CKA_VALUE_LEN, 32)),
            )?;
            let mechanism = CallMechanism::Plain(key_wrap);
            let wrapped = session.wrap_key(mechanism, wrapping, known, WRAPPED_CAPACITY)?;
            session.unwrap_key(mechanism, wrapping, &wrapped, &template)?;
            Ok(())
        });
        tried.is_ok()
    }

    fn import_once(
        &self,
        session: &mut Session,
        new: &NewKey,
        source: ImportSource<'_>,
        public_key: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.check_uses(&new.uses)?;
        let domain = self.domain()?;
        let arrival = self.receive(session, new.key_type, source)?;
        let declared = match (public_key, &arrival.public_key) {
            ([], contained) => contained.clone(),
            (given, contained) => {
                let given = canonical_public_key(new.key_type, given).map_err(Error::ImportRefused)?;
                if contained.as_ref().is_some_and(|contained| *contained != given) {
                    return Err(refused("the public key is not that of the private key"));
                }
                Some(given)
            }
        };
        let origin = match source {
            ImportSource::Clear(_) => Origin::ImportedClear,
            _ => Origin::ImportedWrapped,
        };
        let (wrapped, public_key) = match new.storage {
            Storage::Sealed => self.seal_arrival(session, new, &arrival, Extraction::Forbidden, declared)?,
            Storage::Portable => self.seal_arrival(session, new, &arrival, Extraction::Allowed, declared)?,
            Storage::Resident => (new.making_bytes(), self.keep_arrival(session, new, &arrival, declared)?),
        };
        arrival.forget(session)?;
        let token = KeyToken {
            epoch: domain.epoch(),
            uid: new.uid,
            version: new.version,
            key_type: new.key_type,
            storage: new.storage,
            origin,
            uses: new.uses.clone(),
            wrapped,
            public_key,
        };
        let tag = record::authenticate(session, domain.mac(), RecordKind::KeyToken, &token.body())?;
        Ok(token.sealed(&tag))
    }

    /// Makes what arrived ready to become an object: loads or unwraps the key that unwraps it, or reads the clear value.
    fn receive<'a>(
        &self,
        session: &mut Session,
        key_type: KeyType,
        source: ImportSource<'a>,
    ) -> Result<Arrival<'a>, Error> {
        match source {
            ImportSource::Clear(value) => Arrival::clear(key_type, value),
            ImportSource::AesKwp { key, wrapped } => {
                check_length(key_type, wrapped)?;
                let key = self.key_for(session, key, Operation::Unwrap, Mechanism::AesKwp)?;
                Ok(Arrival::wrapped(UnwrappingKey::Loaded(key), wrapped))
            }
            ImportSource::RsaAes {
                key,
                mechanism,
                wrapped,
            } => {
                let key = self.key_for(session, key, Operation::Unwrap, mechanism)?;
                let Family::Rsa(bits) = key.key_type().family() else {
                    return Err(Error::NotPermitted(Operation::Unwrap, mechanism));
                };
                let (to_rsa, to_aes) = wrapped.split_at_checked(bits as usize / 8).ok_or_else(|| {
                    refused("it is shorter than its first part, the AES key that the import job's RSA key wraps")
                })?;
                check_length(key_type, to_aes)?;
                let usage = Usage {
                    unwrap: true,
                    ..Usage::NONE
                };
                let passing = template::frozen(
                    template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, usage),
                    &[self.key_wrap()?],
                );
                let hash = OaepHash::of(mechanism).ok_or(Error::NotPermitted(Operation::Unwrap, mechanism))?;
                let passing = session
                    .unwrap_key(hash.call(), key.handle(), to_rsa, &passing)
                    .map_err(|error| self.judge_arrival(error))?;
                Ok(Arrival::wrapped(UnwrappingKey::Passing(passing), to_aes))
            }
        }
    }

    /// Wraps what arrived under the domain, and examines what that gave.
    fn seal_arrival(
        &self,
        session: &mut Session,
        new: &NewKey,
        arrival: &Arrival<'_>,
        exportable: Extraction,
        declared: Option<Vec<u8>>,
    ) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let under = self.domain()?.wrapping(exportable)?;
        let template = template::key(new.key_type, Lifetime::Session, Extraction::Allowed, Usage::NONE);
        let arrived = self.bring(session, arrival, template)?;
        let wrapped = session.wrap_key(under.mechanism, under.key, arrived, WRAPPED_CAPACITY);
        let wrapped = match wrapped {
            Err(error) if NOT_WRAPPABLE.contains(&error.code) => return Err(Error::NotWrappable(new.key_type)),
            wrapped => wrapped.map_err(|error| self.judge_arrival(error))?,
        };
        let kept = session
            .unwrap_key(under.mechanism, under.key, &wrapped, &examined(new.key_type))
            .map_err(|error| self.judge_arrival(error))?;
        if let Some(length) = new.key_type.secret_length() {
            self.examine_secret(session, length, wrapped.len(), [arrived, kept])?;
        }
        let public_key = self.examine_pair(session, new.key_type, kept, declared)?;
        session.destroy_object(kept)?;
        session.destroy_object(arrived)?;
        Ok((wrapped, public_key))
    }

    /// Examines what arrived as a session object, then makes it a token object, unless that is there already.
    fn keep_arrival(
        &self,
        session: &mut Session,
        new: &NewKey,
        arrival: &Arrival<'_>,
        declared: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Error> {
        let name = new.resident_name()?;
        let public_key = if new.key_type.is_asymmetric() {
            let probe = self.bring(session, arrival, examined(new.key_type))?;
            let public_key = self.examine_pair(session, new.key_type, probe, declared)?;
            session.destroy_object(probe)?;
            public_key
        } else if !self.domain()?.seals() {
            self.examine_length(session, new.key_type, arrival)?;
            declared.map_or(Ok(Vec::new()), |_| Err(refused(SECRET_WITH_PUBLIC_KEY)))?
        } else {
            // Sealed for the examination alone; the result is dropped.
            self.seal_arrival(session, new, arrival, Extraction::Forbidden, declared)?
                .1
        };
        if resident::is_present(session, name, new.key_type)? {
            return Ok(public_key);
        }
        let template = template::key(
            new.key_type,
            Lifetime::Token,
            Extraction::Forbidden,
            Usage::of(&new.uses),
        )
        .with(Attribute::bytes(CKA_LABEL, name.label().as_bytes()))
        .with(Attribute::bytes(CKA_ID, name.object_id()));
        self.bring(
            session,
            arrival,
            template::frozen(template, &template::allowed_mechanisms(&new.uses)),
        )?;
        Ok(public_key)
    }

    /// Makes an object of what arrived.
    fn bring(&self, session: &mut Session, arrival: &Arrival<'_>, template: Template) -> Result<ObjectHandle, Error> {
        let made = match &arrival.way {
            Way::Create(attributes) => {
                // `CKA_MODIFIABLE` false stays last.
                let modifiable = template
                    .iter()
                    .find(|attribute| attribute.kind() == CKA_MODIFIABLE)
                    .cloned();
                let mut template = template.without(CKA_MODIFIABLE);
                for attribute in attributes.iter().cloned().chain(modifiable) {
                    template = template.with(attribute);
                }
                session.create_object(&template)
            }
            Way::Unwrap { by, wrapped } => {
                session.unwrap_key(CallMechanism::Plain(self.key_wrap()?), by.handle(), wrapped, &template)
            }
        };
        made.map_err(|error| self.judge_arrival(error))
    }

    /// Checks that a private key is of its declared type and has its public key; returns that. Empty for secret keys.
    fn examine_pair(
        &self,
        session: &mut Session,
        key_type: KeyType,
        key: ObjectHandle,
        declared: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Error> {
        if !key_type.is_asymmetric() {
            return match declared {
                None => Ok(Vec::new()),
                Some(_) => Err(refused(SECRET_WITH_PUBLIC_KEY)),
            };
        }
        let shown = shown_public_key(session, key_type, key)?;
        let public_key = match (shown, declared) {
            (Some(shown), Some(declared)) if shown != declared => {
                return Err(refused("the public key is not that of the private key"));
            }
            (Some(public_key), _) | (None, Some(public_key)) => public_key,
            (None, None) => {
                return Err(refused(
                    "the HSM does not show the public half of such a key, so the request must bring it in public_key",
                ));
            }
        };
        let proven = proof::belongs_together(session, key_type, key, &public_key);
        match proven {
            Ok(true) => Ok(public_key),
            Ok(false) => Err(refused("the private key does not sign for its public key")),
            Err(Error::Call(error)) => Err(self.judge_arrival(error)),
            Err(error) => Err(error),
        }
    }

    /// Checks that a secret key has exactly its declared length, which some tokens do not say of an unwrapped key. Wrapping
    /// tells it to eight bytes; a token that pads a value before it wraps it makes another key of an odd one, and the
    /// digests of the key before and after differ then.
    fn examine_secret(
        &self,
        session: &mut Session,
        length: usize,
        wrapped_length: usize,
        [arrived, kept]: [ObjectHandle; 2],
    ) -> Result<(), Error> {
        let other_length = || refused(&format!("the secret key does not have {length} bytes"));
        if wrapped_length != wrapped_length_of(length) {
            return Err(other_length());
        }
        if let Some(told) = told_length(session, arrived) {
            return if told == length as CK_ULONG {
                Ok(())
            } else {
                Err(other_length())
            };
        }
        // In sessions of their own, because a token that does not digest keys leaves the operation open.
        let digest = |key| {
            let mut session = self.open_session(SessionKind::ReadOnly).ok()?;
            session.digest_key(CallMechanism::Plain(CKM_SHA256), key, 32).ok()
        };
        match (digest(arrived), digest(kept)) {
            (Some(arrived), Some(kept)) if arrived != kept => Err(other_length()),
            _ => Ok(()),
        }
    }

    /// Checks the length of a secret key where nothing can be wrapped: by what the token tells, which it must if the value was not
    /// seen in clear.
    fn examine_length(&self, session: &mut Session, key_type: KeyType, arrival: &Arrival<'_>) -> Result<(), Error> {
        let probe = self.bring(session, arrival, examined(key_type))?;
        let told = told_length(session, probe);
        session.destroy_object(probe)?;
        let right = key_type.secret_length().map(|length| length as CK_ULONG);
        match (told, &arrival.way) {
            (None, Way::Create(_)) => Ok(()),
            (None, Way::Unwrap { .. }) => Err(refused("the HSM does not tell the length of a key that it unwrapped")),
            (told, _) if told == right => Ok(()),
            _ => Err(refused(&format!(
                "it is not a key of type {key_type}: its length is another"
            ))),
        }
    }

    /// What an error over key material from outside means. Tokens answer wrong key material with anything up to
    /// `CKR_GENERAL_ERROR`; as with ciphertexts, [`Member::import`] tells that from a broken member.
    fn judge_arrival(&self, error: CallError) -> Error {
        match error.code.class() {
            Class::CallerFault => refused(NOT_UNWRAPPED),
            _ => error.into(),
        }
    }
}

/// The length in bytes that the token tells of a secret key, if it does.
fn told_length(session: &mut Session, key: ObjectHandle) -> Option<CK_ULONG> {
    let told = session.attribute(key, CKA_VALUE_LEN, size_of::<CK_ULONG>()).ok()?;
    Some(CK_ULONG::from_ne_bytes(told.try_into().ok()?)).filter(|told| *told != 0)
}

/// A key as it is examined: it may sign, to prove its public half, and nothing else.
fn examined(key_type: KeyType) -> Template {
    let (usage, mechanisms) = match proof::signature_of(key_type) {
        Some((mechanism, _)) => (
            Usage {
                sign: true,
                ..Usage::NONE
            },
            vec![template::pkcs11_mechanism(mechanism)],
        ),
        None => (Usage::NONE, Vec::new()),
    };
    let template = template::key(key_type, Lifetime::Session, Extraction::Forbidden, usage);
    if mechanisms.is_empty() {
        return template;
    }
    template::frozen(template, &mechanisms)
}

/// The public key that the token shows of a private key, after a check of the key's type; `None` if it shows none.
fn shown_public_key(session: &mut Session, key_type: KeyType, private: ObjectHandle) -> Result<Option<Vec<u8>>, Error> {
    let other_type = || refused(&format!("the private key is not of type {key_type}"));
    match key_type.family() {
        Family::Rsa(_) => {
            let modulus = session.attribute(private, CKA_MODULUS, 1024);
            let exponent = session.attribute(private, CKA_PUBLIC_EXPONENT, 64);
            let (Ok(modulus), Ok(exponent)) = (modulus, exponent) else {
                return Ok(None);
            };
            let public_key = rsa_public_key(&modulus, &exponent).map_err(|_| other_type())?;
            bare_public_key(key_type, &public_key).map_err(|_| other_type())?;
            Ok(Some(public_key))
        }
        Family::Ec | Family::Edwards => match session.attribute(private, CKA_EC_PARAMS, 64) {
            Ok(parameters) if !is_curve(key_type, &parameters) => Err(other_type()),
            _ => Ok(None),
        },
        Family::Aes(_) | Family::Hmac(_) => Ok(None),
    }
}

/// Whether `CKA_EC_PARAMS` names a key type's curve. Edwards curves have two encodings, and signing tells them apart.
fn is_curve(key_type: KeyType, parameters: &[u8]) -> bool {
    key_type.family() == Family::Edwards || curve_parameters(key_type).is_some_and(|expected| expected == parameters)
}

const SECRET_WITH_PUBLIC_KEY: &str = "a secret key has no public key, and one was given";
const NOT_UNWRAPPED: &str = "it cannot be unwrapped: it was wrapped for another key or in another way, was damaged, or is not of the declared type";

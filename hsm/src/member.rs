//! An open member: a token found by label or serial, logged in once, with its domain, and what can be done with it.
//!
//! A guard session keeps the login for the member's life; `C_Logout` is never called. Operations take a session of the
//! caller's, so that each thread brings its own.
//!
//! - `signing`: signatures and message authentication codes.
//! - `gcm`: authenticated encryption, data keys, and encrypting anew.
//! - `bare`: AES modes whose result is their ciphertext alone.
//! - `private_key`: RSA decryption and key agreement.
//! - `decryption`: whether a failed decryption is about the ciphertext or about the member.
//! - `login`, `probe`: whether the member is still logged in, and still what it was.

mod bare;
mod decryption;
mod gcm;
mod login;
mod private_key;
mod probe;
mod signing;

pub use bare::{BareOutput, Mode};
pub use gcm::{Gcm, GcmAssociatedData, GcmOutput};

mod ephemeral;
mod export;
mod import;

pub use ephemeral::Tenure;
pub use export::Recipient;
pub use import::ImportSource;

use login::Guard;

use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    capability::Capabilities,
    domain::{DomainKeys, Fingerprint, create_resident},
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, Origin, ResidentName, Storage, TokenDigest, token_digest},
    loaded::{LoadedKey, LoadedKeyCounts, LoadedKeys, LoadedLimits},
    pkcs11::{Attribute, CallMechanism, CallResult, Module, Session, SessionKind, SlotId, TokenInfo, UserType},
    public_key::read_public_key,
    record::{self, RecordKind, Tag},
    resident,
    return_code::{Class, ReturnCode},
    sealing,
    template::{self, Extraction, Lifetime, Usage},
    token::{TokenSelector, find_token},
};
use cryptoki_sys::*;
use secrecy::SecretSlice;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

/// A key as a caller refers to it: by the digest of its token, with the token itself where the member lacks it.
#[derive(Debug, Clone, Copy)]
pub struct KeyReference<'a> {
    /// Identifies the exact token.
    pub digest: &'a TokenDigest,
    /// The token with its tag.
    pub sealed: Option<&'a [u8]>,
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The key's identity.
    pub uid: Uuid,
    /// The version's number.
    pub version: u32,
    /// What the key is.
    pub key_type: KeyType,
    /// What it may do.
    pub uses: PermittedUses,
    /// How its secret half is kept.
    pub storage: Storage,
    /// Which making of the version this is. A resident key needs it: its objects have it in their id.
    pub making: Option<Uuid>,
}

impl NewKey {
    /// What its objects are called where it is resident.
    fn resident_name(&self) -> Result<ResidentName, Error> {
        if self.making.is_none() {
            return Err(Error::Refused(
                "a resident key is made without a name for its making".to_owned(),
            ));
        }
        Ok(ResidentName {
            uid: self.uid,
            version: self.version,
            making: self.making,
        })
    }

    /// What its token says where a wrapped key would stand.
    fn making_bytes(&self) -> Vec<u8> {
        self.making.map(|making| making.as_bytes().to_vec()).unwrap_or_default()
    }
}

/// An open member.
#[derive(Debug)]
pub struct Member {
    module: Arc<Module>,
    slot: SlotId,
    info: TokenInfo,
    capabilities: Capabilities,
    pin: SecretSlice<u8>,
    guard: Mutex<Guard>,
    repairs_login: bool,
    // Opened before others may have taken all sessions that the token gives, and replaced after an error.
    probing: Mutex<Option<Session>>,
    domain: OnceLock<DomainKeys>,
    known_answer: OnceLock<Tag>,
    loaded: LoadedKeys,
}

impl Member {
    /// Finds the token, logs in with the user PIN (once), and asks the token what it can do.
    pub fn open(
        module: Arc<Module>,
        selector: &TokenSelector,
        pin: SecretSlice<u8>,
        limits: LoadedLimits,
    ) -> Result<Self, Error> {
        let (slot, info) = find_token(&module, selector)?;
        let mut guard = Session::open(&module, slot, SessionKind::ReadWrite)?;
        match guard.login(UserType::User, &pin) {
            Ok(()) => {}
            Err(error) if error.code.class() == Class::Fatal => return Err(Error::PinRefused(error)),
            Err(error) => return Err(error.into()),
        }
        let mut capabilities = Capabilities::ask(&module, slot)?;
        capabilities.try_wrapping(&guard)?;
        capabilities.try_encrypting(&guard)?;
        capabilities.try_sealing(&guard)?;
        Ok(Self {
            loaded: LoadedKeys::open(&module, slot, limits)?,
            probing: Mutex::new(Some(Session::open(&module, slot, SessionKind::ReadOnly)?)),
            module,
            slot,
            info,
            capabilities,
            pin,
            guard: Mutex::new(Guard::new(guard)),
            repairs_login: true,
            domain: OnceLock::new(),
            known_answer: OnceLock::new(),
        })
    }

    /// What the token said of itself when it was opened.
    pub fn token_info(&self) -> &TokenInfo {
        &self.info
    }

    /// What the token can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What became of requests for loaded keys so far.
    pub fn loaded_keys(&self) -> LoadedKeyCounts {
        self.loaded.counts()
    }

    /// Opens a session for an operation's thread.
    pub fn open_session(&self, kind: SessionKind) -> Result<Session, Error> {
        Ok(Session::open(&self.module, self.slot, kind)?)
    }

    /// Finds the domain of an epoch and computes its fingerprint. Keys can be used only after this.
    pub fn find_domain(&self, epoch: u32) -> Result<Fingerprint, Error> {
        let (key_wrap, obstacles) = (self.capabilities.key_wrap(), self.capabilities.sealing_obstacles());
        let (domain, fingerprint, answer) = self.in_probing_session(|session| {
            let domain = match DomainKeys::find(session, epoch, key_wrap) {
                Err(Error::NoDomain(epoch)) if !obstacles.is_empty() => {
                    return Err(Error::NoDomainPossible(epoch, sealing::in_words(obstacles)));
                }
                found => found?,
            };
            Ok((domain, domain.fingerprint(session)?, domain.known_answer(session)?))
        })?;
        if *self.known_answer.get_or_init(|| answer) != answer || self.domain.get_or_init(|| domain).epoch() != epoch {
            return Err(Error::NotAuthentic("the domain of a member that already has one"));
        }
        Ok(fingerprint)
    }

    /// Makes a resident domain on a token that cannot hold a sealing one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] on a token that can: a resident domain would only take wrapped keys away.
    pub fn create_resident_domain(&self, session: &mut Session, epoch: u32) -> Result<(), Error> {
        if self.capabilities.sealing_obstacles().is_empty() {
            return Err(Error::Refused(
                "the token can hold a domain under which keys are wrapped: a resident domain is for tokens that cannot"
                    .to_owned(),
            ));
        }
        create_resident(session, epoch).map(|_| ())
    }

    /// The token's mechanism for RFC 5649.
    pub fn key_wrap(&self) -> Result<CK_MECHANISM_TYPE, Error> {
        let missing = || Error::Unsupported("AES key wrap with padding (RFC 5649)".to_owned());
        self.capabilities.key_wrap().ok_or_else(missing)
    }

    /// The domain keys, once [`Member::find_domain`] has found them.
    pub fn domain(&self) -> Result<&DomainKeys, Error> {
        self.domain.get().ok_or(Error::NoDomain(0))
    }

    /// Unloads a key that is destroyed.
    pub fn unload(&self, digest: &TokenDigest) {
        self.loaded.unload(digest);
    }

    /// Fills a buffer from the token's random generator.
    pub fn random(&self, session: &mut Session, length: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut bytes = Zeroizing::new(vec![0; length]);
        session.generate_random(&mut bytes)?;
        Ok(bytes)
    }

    /// Generates a key and returns its token with the tag. What a failure leaves behind are objects of `session`, so drop
    /// it then.
    pub fn generate(&self, session: &mut Session, new: &NewKey) -> Result<Vec<u8>, Error> {
        self.check_generation(new)?;
        let domain = self.domain()?;
        let (wrapped, public_key) = match new.storage {
            Storage::Resident => {
                let name = new.resident_name()?;
                let public_key = resident::adopt_or_create(session, name, new.key_type, &new.uses)?;
                (new.making_bytes(), public_key)
            }
            Storage::Sealed => self.generate_wrapped(session, new.key_type, Extraction::Forbidden)?,
            Storage::Portable => self.generate_wrapped(session, new.key_type, Extraction::Allowed)?,
        };
        let token = KeyToken {
            epoch: domain.epoch(),
            uid: new.uid,
            version: new.version,
            key_type: new.key_type,
            storage: new.storage,
            origin: Origin::Generated,
            uses: new.uses.clone(),
            wrapped,
            public_key,
        };
        let tag = record::authenticate(session, domain.mac(), RecordKind::KeyToken, &token.body())?;
        Ok(token.sealed(&tag))
    }

    /// Checks the tag of a stored message. That one is wrong is believed only of a member that says so twice and still gives the
    /// known answer: the caller would take it for a forgery.
    pub fn is_authentic(
        &self,
        session: &mut Session,
        kind: RecordKind,
        message: &[u8],
        tag: &[u8],
    ) -> Result<bool, Error> {
        let mac = self.domain()?.mac();
        if record::is_authentic(session, mac, kind, message, tag)? {
            return Ok(true);
        }
        if record::is_authentic(session, mac, kind, message, tag)? || !self.still_answers() {
            return Err(Error::WrongAnswer);
        }
        Ok(false)
    }

    /// Computes the tag of a message to be stored. Key tokens get theirs only where they are made.
    pub fn authenticate_row(&self, session: &mut Session, message: &[u8]) -> Result<Tag, Error> {
        Ok(record::authenticate(
            session,
            self.domain()?.mac(),
            RecordKind::Row,
            message,
        )?)
    }

    fn check_generation(&self, new: &NewKey) -> Result<(), Error> {
        self.check_uses(&new.uses)?;
        if !self.capabilities.generates(new.key_type) {
            return Err(Error::Unsupported(format!("generating keys of type {}", new.key_type)));
        }
        Ok(())
    }

    fn check_uses(&self, uses: &PermittedUses) -> Result<(), Error> {
        let supported = |one: &PermittedUse| self.capabilities.supports(one.operation, one.mechanism);
        match uses.iter().find(|one| !supported(one)) {
            None => Ok(()),
            Some(missing) => Err(Error::Unsupported(missing.to_string())),
        }
    }

    fn generate_wrapped(
        &self,
        session: &mut Session,
        key_type: KeyType,
        exportable: Extraction,
    ) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let under = self.domain()?.wrapping(exportable)?;
        // Extractable, because it must be wrapped once, and able to do nothing else until it is loaded again.
        let secret = template::key(key_type, Lifetime::Session, Extraction::Allowed, Usage::NONE);
        let mechanism = CallMechanism::Plain(template::generation_mechanism(key_type));
        let (key, public) = match key_type.secret_length() {
            Some(length) => {
                let template = secret.with(Attribute::number(CKA_VALUE_LEN, length as u64));
                (session.generate_key(mechanism, &template)?, None)
            }
            None => {
                let public = template::public_half(key_type, Lifetime::Session);
                let (public, private) = session.generate_key_pair(mechanism, &public, &secret)?;
                (private, Some(public))
            }
        };
        let wrapped = session.wrap_key(under.mechanism, under.key, key, crate::domain::WRAPPED_CAPACITY);
        let public_key = public
            .map(|public| read_public_key(session, key_type, public))
            .transpose();
        session.destroy_object(key)?;
        if let Some(public) = public {
            session.destroy_object(public)?;
        }
        match wrapped {
            Err(error) if NOT_WRAPPABLE.contains(&error.code) => Err(Error::NotWrappable(key_type)),
            wrapped => Ok((wrapped?, public_key?.unwrap_or_default())),
        }
    }

    /// Does something with a key, which is pinned meanwhile, if its token permits that.
    ///
    /// A handle that the token no longer knows is forgotten, and a mechanism that the token lists and then refuses is
    /// [`Error::Unsupported`].
    fn use_key<T>(
        &self,
        session: &mut Session,
        reference: KeyReference<'_>,
        permitted_use: PermittedUse,
        body: impl FnOnce(&mut Session, &LoadedKey) -> CallResult<T>,
    ) -> Result<T, Error> {
        let key = self.key_for(session, reference, permitted_use.operation, permitted_use.mechanism)?;
        body(session, &key).map_err(|error| {
            if error.code.class() == Class::HandleLost {
                self.loaded.forget(reference.digest, &key);
            }
            if MECHANISM_REFUSED.contains(&error.code) {
                return Error::Unsupported(permitted_use.to_string());
            }
            error.into()
        })
    }

    /// Finds or loads a key, and checks that its token permits the operation.
    fn key_for(
        &self,
        session: &mut Session,
        reference: KeyReference<'_>,
        operation: Operation,
        mechanism: Mechanism,
    ) -> Result<Arc<LoadedKey>, Error> {
        let key = match (self.loaded.pin(reference.digest), reference.sealed) {
            (Some(key), _) => key,
            (None, None) => return Err(Error::NotLoaded),
            (None, Some(sealed)) => self.load(session, reference.digest, sealed)?,
        };
        if key.uses().permit(operation, mechanism) {
            Ok(key)
        } else {
            Err(Error::NotPermitted(operation, mechanism))
        }
    }

    fn load(&self, session: &mut Session, digest: &TokenDigest, sealed: &[u8]) -> Result<Arc<LoadedKey>, Error> {
        if !EphemeralToken::is_claimed_by(sealed) {
            let token = self.authentic_token(session, digest, sealed)?;
            return self.loaded.load(digest, &token, None, self.domain()?);
        }
        let body = self.authentic_body(session, RecordKind::EphemeralToken, digest, sealed)?;
        let token = EphemeralToken::parse(body)?;
        let key = self.of_this_epoch(token.key())?;
        self.loaded.load(digest, &key, Some(&token.owner), self.domain()?)
    }

    /// A stored key token, after all checks that an HSM can make.
    fn authentic_token(&self, session: &mut Session, digest: &TokenDigest, sealed: &[u8]) -> Result<KeyToken, Error> {
        let body = self.authentic_body(session, RecordKind::KeyToken, digest, sealed)?;
        self.of_this_epoch(KeyToken::parse(body)?)
    }

    fn authentic_body<'a>(
        &self,
        session: &mut Session,
        kind: RecordKind,
        digest: &TokenDigest,
        sealed: &'a [u8],
    ) -> Result<&'a [u8], Error> {
        let (body, tag) = KeyToken::split(sealed)?;
        let digest_matches: bool = token_digest(sealed).ct_eq(digest).into();
        if !digest_matches || !self.is_authentic(session, kind, body, tag)? {
            return Err(Error::NotAuthentic("the key token"));
        }
        Ok(body)
    }

    fn of_this_epoch(&self, token: KeyToken) -> Result<KeyToken, Error> {
        if token.epoch != self.domain()?.epoch() {
            return Err(Error::NotAuthentic("the key token, which is of another domain epoch,"));
        }
        Ok(token)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// What a token answers to a mechanism or parameters that it does not do.
const MECHANISM_REFUSED: [ReturnCode; 2] = [ReturnCode::MECHANISM_INVALID, ReturnCode::MECHANISM_PARAM_INVALID];
const NOT_WRAPPABLE: [ReturnCode; 3] = [
    ReturnCode::KEY_NOT_WRAPPABLE,
    ReturnCode::KEY_UNEXTRACTABLE,
    ReturnCode::WRAPPING_KEY_TYPE_INCONSISTENT,
];

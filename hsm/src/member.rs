//! An open member: a token found by label or serial, logged in once, with its domain, and what can be done with it.
//!
//! A guard session keeps the login for the member's life; `C_Logout` is never called. Operations take a session of the
//! caller's, so that each thread brings its own.
//!
//! - `signing`: signatures and message authentication codes.
//! - `gcm`: authenticated encryption, data keys, and encrypting anew.
//! - `bare`: AES modes without authentication.
//! - `private_key`: RSA decryption and key agreement.

mod bare;
mod gcm;
mod private_key;
mod signing;

pub use bare::BareOutput;
pub use gcm::{Gcm, GcmAssociatedData, GcmOutput};

mod ephemeral;
mod export;
mod import;

pub use ephemeral::Tenure;
pub use export::Recipient;
pub use import::ImportSource;

use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    capability::Capabilities,
    domain::{DomainKeys, Fingerprint, create_resident},
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, Origin, Storage, TokenDigest, token_digest},
    loaded::{LoadedKey, LoadedKeyCounts, LoadedKeys, LoadedLimits},
    pkcs11::{
        Attribute, CallError, CallMechanism, CallResult, Module, Session, SessionKind, SlotId, TokenInfo, UserType,
    },
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
use std::sync::{Arc, Mutex, OnceLock};
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
}

/// The session that keeps the login, and what became of the last one.
#[derive(Debug)]
struct Guard {
    session: Session,
    // Once the token has refused the PIN, it is not tried again in the life of this member.
    refused: Option<CallError>,
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
            loaded: LoadedKeys::new(&module, slot, limits),
            module,
            slot,
            info,
            capabilities,
            pin,
            guard: Mutex::new(Guard {
                session: guard,
                refused: None,
            }),
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
        let mut session = self.open_session(SessionKind::ReadOnly)?;
        let obstacles = self.capabilities.sealing_obstacles();
        let domain = match DomainKeys::find(&mut session, epoch, self.capabilities.key_wrap()) {
            Err(Error::NoDomain(epoch)) if !obstacles.is_empty() => {
                return Err(Error::NoDomainPossible(epoch, sealing::in_words(obstacles)));
            }
            found => found?,
        };
        let fingerprint = domain.fingerprint(&mut session)?;
        let answer = domain.known_answer(&mut session)?;
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

    /// Reads the token and computes the known answer: real work, because sessions open on a token that has gone.
    pub fn probe(&self) -> Result<Tag, Error> {
        self.module.token_info(self.slot)?;
        let mut session = self.open_session(SessionKind::ReadOnly)?;
        self.domain()?.known_answer(&mut session)
    }

    /// Logs in again after the token lost the login.
    pub fn log_in_again(&self) -> Result<(), Error> {
        let mut guard = self.guard.lock().unwrap_or_else(|lock| lock.into_inner());
        if let Some(refused) = guard.refused {
            return Err(Error::PinRefused(refused));
        }
        match guard.session.login(UserType::User, &self.pin) {
            Ok(()) => Ok(()),
            // Another thread was here first.
            Err(error) if error.code == ReturnCode::USER_ALREADY_LOGGED_IN => Ok(()),
            Err(error) if error.code.class() == Class::Fatal => {
                guard.refused = Some(error);
                Err(Error::PinRefused(error))
            }
            Err(error) => Err(error.into()),
        }
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
                let public_key = resident::adopt_or_create(session, new.uid, new.version, new.key_type, &new.uses)?;
                (Vec::new(), public_key)
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

    /// Checks the tag of a stored message.
    pub fn is_authentic(
        &self,
        session: &mut Session,
        kind: RecordKind,
        message: &[u8],
        tag: &[u8],
    ) -> Result<bool, Error> {
        Ok(record::is_authentic(session, self.domain()?.mac(), kind, message, tag)?)
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

    /// What a failed decryption means: one answer for everything that may be wrong with a ciphertext.
    ///
    /// Tokens answer a wrong tag or padding with anything from `CKR_ENCRYPTED_DATA_INVALID` to `CKR_GENERAL_ERROR`. A code
    /// that could also mean a broken member is judged by the known answer: if the member still gives it, the ciphertext was
    /// wrong. Otherwise anyone could take members out of use by sending rubbish.
    fn judge_decryption(&self, error: Error) -> Error {
        let Error::Call(CallError { code, .. }) = error else {
            return error;
        };
        match code {
            ReturnCode::ENCRYPTED_DATA_INVALID
            | ReturnCode::ENCRYPTED_DATA_LEN_RANGE
            | ReturnCode::AEAD_DECRYPT_FAILED
            | ReturnCode::DATA_INVALID
            | ReturnCode::DATA_LEN_RANGE
            | ReturnCode::SIGNATURE_INVALID => Error::DecryptionFailed,
            code if code.class() == Class::MemberFault && self.still_answers() => Error::DecryptionFailed,
            _ => error,
        }
    }

    /// Whether the member still gives the known answer, so that an error is about the caller's input.
    fn still_answers(&self) -> bool {
        matches!(
            (self.probe(), self.known_answer.get()),
            (Ok(answer), Some(expected)) if answer == *expected
        )
    }
}

/// What a token answers to a mechanism or parameters that it does not do.
const MECHANISM_REFUSED: [ReturnCode; 2] = [ReturnCode::MECHANISM_INVALID, ReturnCode::MECHANISM_PARAM_INVALID];
const NOT_WRAPPABLE: [ReturnCode; 3] = [
    ReturnCode::KEY_NOT_WRAPPABLE,
    ReturnCode::KEY_UNEXTRACTABLE,
    ReturnCode::WRAPPING_KEY_TYPE_INCONSISTENT,
];

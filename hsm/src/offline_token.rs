//! A token in a program of its own, such as a ceremony: logged in for one deed at a time, as security officer or as user.
//!
//! There is one session. What the security officer makes in it as a session object is there for the user afterwards, and is gone
//! with the session; that is how a trusted key comes to a token for one deed and stays on it for no other.

use crate::{
    Error,
    capability::Capabilities,
    pkcs11::{Module, Session, SessionKind, SlotId, TokenInfo, UserType},
    return_code::Class,
    token::{TokenSelector, find_token},
};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use cryptoki_sys::CK_MECHANISM_TYPE;
use secrecy::SecretSlice;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A token with a session of its own.
#[derive(Debug)]
pub struct OfflineToken {
    module: Arc<Module>,
    slot: SlotId,
    info: TokenInfo,
    capabilities: Capabilities,
    // None after a deed that failed: the next one opens another.
    session: Option<Session>,
}

impl OfflineToken {
    /// Finds the token and opens the session. Nobody is logged in.
    pub fn open(module: Arc<Module>, selector: &TokenSelector) -> Result<Self, Error> {
        let (slot, info) = find_token(&module, selector)?;
        let session = Session::open(&module, slot, SessionKind::ReadWrite)?;
        let capabilities = Capabilities::ask(&module, slot)?;
        Ok(Self {
            module,
            slot,
            info,
            capabilities,
            session: Some(session),
        })
    }

    /// What the token said of itself when it was opened.
    pub fn info(&self) -> &TokenInfo {
        &self.info
    }

    /// What the token can do, as far as its list tells.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The token's mechanism for RFC 5649.
    pub fn key_wrap(&self) -> Result<CK_MECHANISM_TYPE, Error> {
        let missing = || Error::Unsupported("AES key wrap with padding (RFC 5649)".to_owned());
        self.capabilities.key_wrap().ok_or_else(missing)
    }

    /// Does something as the security officer.
    pub fn as_officer<T>(
        &mut self,
        pin: &SecretSlice<u8>,
        deed: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.logged_in(UserType::SecurityOfficer, pin, deed)
    }

    /// Does something as the user.
    pub fn as_user<T>(
        &mut self,
        pin: &SecretSlice<u8>,
        deed: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.logged_in(UserType::User, pin, deed)
    }

    /// Tries something as nobody, to see that it is refused.
    pub fn as_nobody<T>(&mut self, deed: impl FnOnce(&mut Session) -> Result<T, Error>) -> Result<T, Error> {
        deed(self.session()?)
    }

    /// Changes the security officer's PIN (`C_SetPIN`).
    pub fn change_officer_pin(&mut self, old: &SecretSlice<u8>, new: &SecretSlice<u8>) -> Result<(), Error> {
        self.as_officer(old, |session| Ok(session.set_pin(old, new)?))
    }

    /// Sets the user's PIN to another, as the security officer (`C_InitPIN`). What the token holds stays.
    pub fn set_user_pin(&mut self, officer: &SecretSlice<u8>, new: &SecretSlice<u8>) -> Result<(), Error> {
        self.as_officer(officer, |session| Ok(session.init_pin(new)?))
    }

    /// Initialises the token anew (`C_InitToken`), by the security officer's PIN that it has: everything on it is destroyed, and it
    /// has a label of its own and no user PIN. Returns what it then says of itself.
    pub fn wipe(mut self, officer: &SecretSlice<u8>, label: &str) -> Result<TokenInfo, Error> {
        // A token with an open session cannot be initialised (PKCS#11 3.0 section 5.5.7).
        self.session = None;
        self.module.init_token(self.slot, officer, label)?;
        let selector = TokenSelector {
            label: Some(label.to_owned()),
            serial_number: None,
        };
        let (_, info) = find_token(&self.module, &selector)?;
        if info.user_pin_initialised {
            return Err(Error::Refused(
                "the token says that it was initialised anew, and still has a user PIN".to_owned(),
            ));
        }
        Ok(info)
    }

    /// Closes the session: session objects are gone, and nobody is logged in. Then a new one is opened, not before: a login lasts
    /// as long as the program has any session with the token (PKCS#11 3.0 section 5.6.6).
    pub fn forget_session_objects(&mut self) -> Result<(), Error> {
        self.session = None;
        self.session().map(|_| ())
    }

    fn session(&mut self) -> Result<&mut Session, Error> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.module, self.slot, SessionKind::ReadWrite)?,
        };
        Ok(self.session.insert(session))
    }

    fn logged_in<T>(
        &mut self,
        user: UserType,
        pin: &SecretSlice<u8>,
        deed: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let session = self.session()?;
        match session.login(user, pin) {
            Ok(()) => {}
            Err(source) if source.code.class() == Class::Fatal => return Err(Error::LoginRefused { user, source }),
            Err(error) => return Err(error.into()),
        }
        let done = deed(session);
        let left = session.logout();
        let ended = done.and_then(|value| left.map(|()| value).map_err(Error::from));
        if ended.is_err() {
            // What failed may have left an operation open that nothing can end, or somebody logged in.
            self.session = None;
        }
        ended
    }
}

/// A PIN that nobody has chosen: 32 characters of 32, which is 160 bits, from the random generator of the operating system.
pub fn random_pin() -> Result<SecretSlice<u8>, Error> {
    let mut drawn = Zeroizing::new([0; PIN_LENGTH]);
    SystemRandom::new()
        .fill(drawn.as_mut_slice())
        .map_err(|_| Error::Refused("the operating system gives no random bytes".to_owned()))?;
    let pin: Vec<u8> = drawn
        .iter()
        .map(|byte| PIN_ALPHABET[usize::from(*byte) % PIN_ALPHABET.len()])
        .collect();
    Ok(pin.into())
}

/// The length of a random PIN. It is also that of the secrets that are split among custodians.
pub const PIN_LENGTH: usize = 32;

/// 32 characters that are not mistaken for each other, so each byte gives one without a bias.
const PIN_ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

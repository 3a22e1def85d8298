//! The login, which a guard session keeps for the member's life.

use super::{Member, lock};
use crate::{
    Error,
    pkcs11::{CallError, Session, SessionKind, UserType},
    return_code::{Class, ReturnCode},
};

/// The session that keeps the login, and what became of the last one.
#[derive(Debug)]
pub(super) struct Guard {
    session: Session,
    // Once the token has refused the PIN, it is not tried again in the life of this member.
    refused: Option<CallError>,
}

impl Guard {
    /// Of the session that has just logged in.
    pub(super) fn new(session: Session) -> Self {
        Self { session, refused: None }
    }
}

impl Member {
    /// Whether a login that the token lost is repaired here. Where several processes have a login each they would all send the PIN, and a
    /// token that refuses it counts them: then a new process logs in, and the others after it if it was let in.
    #[must_use]
    pub fn repairing_login(mut self, repairs: bool) -> Self {
        self.repairs_login = repairs;
        self
    }

    /// Whether [`Self::log_in_again`] may be called.
    pub fn repairs_login(&self) -> bool {
        self.repairs_login
    }

    /// Logs in again after the token lost the login.
    pub fn log_in_again(&self) -> Result<(), Error> {
        let mut guard = lock(&self.guard);
        if let Some(refused) = guard.refused {
            return Err(Error::PinRefused(refused));
        }
        // Before the PIN is sent, so that it is sent once.
        self.keep_guarded(&mut guard)?;
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

    /// Opens the guard's session again if the token lost it.
    pub(super) fn keep_guarded(&self, guard: &mut Guard) -> Result<(), Error> {
        if !guard.session.is_open()? {
            guard.session = self.open_session(SessionKind::ReadWrite)?;
        }
        Ok(())
    }
}

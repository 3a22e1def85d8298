//! Probes: whether the member still answers as it did.

use super::{Member, lock};
use crate::{
    Error,
    pkcs11::{Session, SessionKind},
    record::Tag,
};

impl Member {
    /// Reads the token and computes the known answer: real work, because sessions open on a token that has gone. Also sees to
    /// it that the guard's session is there.
    pub fn probe(&self) -> Result<Tag, Error> {
        self.module.token_info(self.slot)?;
        self.keep_guarded(&mut lock(&self.guard))?;
        let domain = self.domain()?;
        self.in_probing_session(|session| domain.known_answer(session))
    }

    pub(super) fn in_probing_session<T>(
        &self,
        body: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut probing = lock(&self.probing);
        let mut session = match probing.take() {
            Some(session) => session,
            None => self.open_session(SessionKind::ReadOnly)?,
        };
        let done = body(&mut session)?;
        *probing = Some(session);
        Ok(done)
    }

    /// Whether the member still gives the known answer, so that an error is about the caller's input.
    pub(super) fn still_answers(&self) -> bool {
        matches!(
            (self.probe(), self.known_answer.get()),
            (Ok(answer), Some(expected)) if answer == *expected
        )
    }
}

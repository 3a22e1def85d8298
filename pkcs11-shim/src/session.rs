//! Sessions, and the operations that are active in them.

use crate::{
    error::{Error, Result},
    operation::{cipher::Cipher, digest::Digesting, signature::Signature},
};
use cryptoki_sys::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// The open sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    last: CK_SESSION_HANDLE,
    open: BTreeMap<CK_SESSION_HANDLE, Session>,
}

/// A session. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) handle: CK_SESSION_HANDLE,
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) is_read_write: bool,
    active: Arc<Mutex<Active>>,
}

/// What is active: at most one of each kind.
#[derive(Default, Clone)]
pub(crate) struct Active {
    pub(crate) find: Option<Vec<CK_OBJECT_HANDLE>>,
    pub(crate) encrypt: Option<Cipher>,
    pub(crate) decrypt: Option<Cipher>,
    pub(crate) digest: Option<Digesting>,
    pub(crate) sign: Option<Signature>,
    pub(crate) verify: Option<Signature>,
}

impl Sessions {
    pub(crate) fn open(&mut self, slot: CK_SLOT_ID, is_read_write: bool) -> CK_SESSION_HANDLE {
        // Never used again: what a caller kept of a session that was closed is no other session's.
        self.last += 1;
        let session = Session {
            handle: self.last,
            slot,
            is_read_write,
            active: Arc::default(),
        };
        self.open.insert(self.last, session);
        self.last
    }

    pub(crate) fn find(&self, handle: CK_SESSION_HANDLE) -> Result<Session> {
        self.open
            .get(&handle)
            .cloned()
            .ok_or_else(|| CKR_SESSION_HANDLE_INVALID.into())
    }

    pub(crate) fn close(&mut self, handle: CK_SESSION_HANDLE) -> Result<Session> {
        self.open
            .remove(&handle)
            .ok_or_else(|| CKR_SESSION_HANDLE_INVALID.into())
    }

    /// The handles of a slot's sessions.
    pub(crate) fn of_slot(&self, slot: CK_SLOT_ID) -> Vec<CK_SESSION_HANDLE> {
        self.open
            .values()
            .filter(|session| session.slot == slot)
            .map(|session| session.handle)
            .collect()
    }

    /// How many sessions a slot has: all, and those that may write.
    pub(crate) fn count(&self, slot: CK_SLOT_ID) -> (usize, usize) {
        let of_slot = || self.open.values().filter(|session| session.slot == slot);
        (
            of_slot().count(),
            of_slot().filter(|session| session.is_read_write).count(),
        )
    }

    /// What a forked child has of them: the same handles, with what was active. An operation that another thread of the parent was
    /// at cannot be looked at, and has ended.
    pub(crate) fn inherited(&self) -> Self {
        let copy = |session: &Session| {
            let active = session
                .active
                .try_lock()
                .map(|active| active.clone())
                .unwrap_or_default();
            Session {
                active: Arc::new(Mutex::new(active)),
                ..session.clone()
            }
        };
        Self {
            last: self.last,
            open: self
                .open
                .iter()
                .map(|(handle, session)| (*handle, copy(session)))
                .collect(),
        }
    }
}

impl Session {
    /// What is active; nobody else is at it meanwhile.
    pub(crate) fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    /// Fails in a session that may not change what is stored.
    pub(crate) fn require_writable(&self) -> Result<()> {
        match self.is_read_write {
            true => Ok(()),
            false => Err(CKR_SESSION_READ_ONLY.into()),
        }
    }
}

/// Begins an operation, unless one of its kind is active.
pub(crate) fn begin<T>(place: &mut Option<T>, operation: impl FnOnce() -> Result<T>) -> Result<()> {
    if place.is_some() {
        return Err(CKR_OPERATION_ACTIVE.into());
    }
    *place = Some(operation()?);
    Ok(())
}

/// Goes on with an operation, which ends unless the step keeps it.
pub(crate) fn step<T>(place: &mut Option<T>, step: impl FnOnce(&mut T) -> Result<Next>) -> Result<()> {
    let mut operation = place.take().ok_or_else(|| Error::from(CKR_OPERATION_NOT_INITIALIZED))?;
    match step(&mut operation) {
        Ok(Next::Ended) => Ok(()),
        Ok(Next::Active) => {
            *place = Some(operation);
            Ok(())
        }
        Err(error) => {
            // The one error after which a caller may go on: it gets a larger buffer.
            if error.code() == CKR_BUFFER_TOO_SMALL {
                *place = Some(operation);
            }
            Err(error)
        }
    }
}

/// What becomes of an operation after a step.
pub(crate) enum Next {
    Active,
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_ends_with_a_failure_and_stays_for_a_larger_buffer() {
        let mut place = None;
        let failing = |code: CK_RV| move |_: &mut u8| Err(Error::from(code));
        let code = |result: Result<()>| result.map_or_else(|error| error.code(), |()| CKR_OK);
        assert_eq!(
            code(step(&mut place, |_| Ok(Next::Active))),
            CKR_OPERATION_NOT_INITIALIZED
        );
        begin(&mut place, || Ok(1)).expect("none is active");
        assert_eq!(code(begin(&mut place, || Ok(2))), CKR_OPERATION_ACTIVE);
        assert_eq!(
            code(step(&mut place, failing(CKR_BUFFER_TOO_SMALL))),
            CKR_BUFFER_TOO_SMALL
        );
        assert_eq!(place, Some(1));
        assert_eq!(code(step(&mut place, failing(CKR_DEVICE_ERROR))), CKR_DEVICE_ERROR);
        assert_eq!(place, None);
    }
}

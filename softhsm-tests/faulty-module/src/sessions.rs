//! The sessions that are open, and what is active in them.

use cryptoki_sys::{CK_MECHANISM_TYPE, CK_SESSION_HANDLE, CK_SLOT_ID};
use std::collections::HashMap;

/// The sessions that callers have open.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: HashMap<CK_SESSION_HANDLE, Session>,
    // Sessions of this module's own, one for each slot, which keep the login when all others are lost.
    own: HashMap<CK_SLOT_ID, CK_SESSION_HANDLE>,
    login_lost: bool,
}

#[derive(Debug)]
struct Session {
    slot: CK_SLOT_ID,
    mechanism: Option<CK_MECHANISM_TYPE>,
}

impl Sessions {
    /// How many are open.
    pub(crate) fn count(&self) -> u64 {
        self.open.len() as u64
    }

    /// A session was opened.
    pub(crate) fn opened(&mut self, session: CK_SESSION_HANDLE, slot: CK_SLOT_ID) {
        self.open.insert(session, Session { slot, mechanism: None });
    }

    /// A session was closed.
    pub(crate) fn closed(&mut self, session: CK_SESSION_HANDLE) {
        self.open.remove(&session);
    }

    /// All sessions of a slot were closed.
    pub(crate) fn closed_all(&mut self, slot: CK_SLOT_ID) {
        self.open.retain(|_, session| session.slot != slot);
        self.own.remove(&slot);
    }

    /// The real module was finalised: nothing is left.
    pub(crate) fn ended(&mut self) {
        *self = Self::default();
    }

    /// An operation began in a session.
    pub(crate) fn began(&mut self, session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_TYPE) {
        if let Some(session) = self.open.get_mut(&session) {
            session.mechanism = Some(mechanism);
        }
    }

    /// The mechanism of the last operation that began in a session.
    pub(crate) fn mechanism(&self, session: CK_SESSION_HANDLE) -> Option<CK_MECHANISM_TYPE> {
        self.open.get(&session)?.mechanism
    }

    /// Forgets all sessions; returns them.
    pub(crate) fn lose(&mut self) -> Vec<CK_SESSION_HANDLE> {
        self.open.drain().map(|(session, _)| session).collect()
    }

    /// The slots on which a session is open.
    pub(crate) fn slots(&self) -> Vec<CK_SLOT_ID> {
        let mut slots: Vec<_> = self.open.values().map(|session| session.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The session of this module's own on a slot.
    pub(crate) fn own(&self, slot: CK_SLOT_ID) -> Option<CK_SESSION_HANDLE> {
        self.own.get(&slot).copied()
    }

    /// This module opened a session of its own.
    pub(crate) fn keep_own(&mut self, slot: CK_SLOT_ID, session: CK_SESSION_HANDLE) {
        self.own.insert(slot, session);
    }

    /// Forgets the sessions of this module's own; returns them.
    pub(crate) fn lose_own(&mut self) -> Vec<CK_SESSION_HANDLE> {
        self.own.drain().map(|(_, session)| session).collect()
    }

    /// From now on it looks as if nobody were logged in, until somebody logs in.
    pub(crate) fn lose_login(&mut self) {
        self.login_lost = true;
    }

    /// Somebody logged in; says whether the login had been lost.
    pub(crate) fn logged_in(&mut self) -> bool {
        std::mem::take(&mut self.login_lost)
    }

    /// Whether it looks as if nobody were logged in.
    pub(crate) fn is_login_lost(&self) -> bool {
        self.login_lost
    }
}

//! Slots and their tokens: a token is a key ring.

use crate::{
    catalogue,
    error::{Error, Result},
    gateway::Pool,
    object::{Content, Object},
};
use cryptoki_sys::*;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// A slot with a ring in it.
pub(crate) struct Token {
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) ring: String,
    state: Mutex<State>,
}

#[derive(Default, Clone)]
struct State {
    is_logged_in: bool,
    /// The objects in the order of the ring's list, by handle.
    stored: Vec<CK_OBJECT_HANDLE>,
    fetched: Option<Instant>,
}

impl Token {
    pub(crate) fn new(slot: CK_SLOT_ID, ring: String) -> Self {
        Self {
            slot,
            ring,
            state: Mutex::default(),
        }
    }

    /// The token-wide login state (PKCS#11 3.0, section 5.6).
    pub(crate) fn is_logged_in(&self) -> bool {
        self.state().is_logged_in
    }

    pub(crate) fn set_logged_in(&self, is_logged_in: bool) {
        self.state().is_logged_in = is_logged_in;
    }

    /// Fetches the ring's objects again if the list is older than it may be.
    pub(crate) fn refresh(&self, pool: &Pool, objects: &Mutex<Objects>, age: Duration) -> Result<()> {
        if self.state().fetched.is_some_and(|fetched| fetched.elapsed() <= age) {
            return Ok(());
        }
        // Taken before the answer: what changes meanwhile is not in it for sure.
        let begun = Instant::now();
        let found = catalogue::fetch(pool, &self.ring)?;
        let stored = lock(objects).replace(self.slot, found);
        let mut state = self.state();
        state.stored = stored;
        state.fetched = Some(begun);
        Ok(())
    }

    /// Adds what this process has made.
    pub(crate) fn add(&self, handles: &[CK_OBJECT_HANDLE]) {
        self.state().stored.extend_from_slice(handles);
    }

    /// The list is out of date: this process has changed something.
    pub(crate) fn forget(&self) {
        self.state().fetched = None;
    }

    /// The handles of what is stored.
    pub(crate) fn stored(&self) -> Vec<CK_OBJECT_HANDLE> {
        self.state().stored.clone()
    }

    /// What a forked child has of it.
    pub(crate) fn inherited(&self) -> Self {
        Self {
            slot: self.slot,
            ring: self.ring.clone(),
            state: Mutex::new(self.state.try_lock().map(|state| state.clone()).unwrap_or_default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The objects that have handles. A handle is one object's for as long as the process has the module, whether or not it was listed
/// again meanwhile.
#[derive(Default, Clone)]
pub(crate) struct Objects {
    last: CK_OBJECT_HANDLE,
    handles: HashMap<(CK_SLOT_ID, String), CK_OBJECT_HANDLE>,
    live: BTreeMap<CK_OBJECT_HANDLE, Arc<Object>>,
}

impl Objects {
    /// Puts an object of a slot there, or a newer one in the place of the same.
    pub(crate) fn put(
        &mut self,
        slot: CK_SLOT_ID,
        owner: Option<CK_SESSION_HANDLE>,
        content: Content,
    ) -> CK_OBJECT_HANDLE {
        let mut object = Object {
            handle: 0,
            slot,
            owner,
            content,
        };
        let handle = *self.handles.entry((slot, object.identity())).or_insert_with(|| {
            self.last += 1;
            self.last
        });
        object.handle = handle;
        self.live.insert(handle, Arc::new(object));
        handle
    }

    /// Exchanges what is stored in a slot.
    fn replace(&mut self, slot: CK_SLOT_ID, found: Vec<Content>) -> Vec<CK_OBJECT_HANDLE> {
        self.live
            .retain(|_, object| object.slot != slot || object.owner.is_some());
        found.into_iter().map(|content| self.put(slot, None, content)).collect()
    }

    pub(crate) fn find(&self, slot: CK_SLOT_ID, handle: CK_OBJECT_HANDLE) -> Result<Arc<Object>> {
        let object = self.live.get(&handle).filter(|object| object.slot == slot);
        object.cloned().ok_or_else(|| Error::from(CKR_OBJECT_HANDLE_INVALID))
    }

    /// Whether the same object is there.
    pub(crate) fn has(&self, slot: CK_SLOT_ID, content: &Content) -> bool {
        let handle = self.handles.get(&(slot, content.identity()));
        handle.is_some_and(|handle| self.live.contains_key(handle))
    }

    pub(crate) fn remove(&mut self, handle: CK_OBJECT_HANDLE) {
        if let Some(object) = self.live.remove(&handle)
            && object.owner.is_some()
        {
            // It never comes again.
            self.handles.remove(&(object.slot, object.identity()));
        }
    }

    /// The objects that sessions of a slot made.
    pub(crate) fn of_sessions(&self, slot: CK_SLOT_ID) -> Vec<CK_OBJECT_HANDLE> {
        let of_sessions = |object: &&Arc<Object>| object.slot == slot && object.owner.is_some();
        self.live
            .values()
            .filter(of_sessions)
            .map(|object| object.handle)
            .collect()
    }

    /// Removes what a session made.
    pub(crate) fn remove_of(&mut self, session: CK_SESSION_HANDLE) {
        let gone: Vec<_> = self
            .live
            .values()
            .filter(|object| object.owner == Some(session))
            .map(|object| object.handle)
            .collect();
        for handle in gone {
            self.remove(handle);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

//! Key tokens loaded into a member: a bounded cache behind the keeper session.
//!
//! Loaded keys are session objects of a keeper, a session that does nothing else, because a session object dies with its
//! creator's session. A key in use is pinned: it is not evicted, and its keeper's session stays open, so that its handle
//! means this key and no other for as long as somebody holds it.

use crate::{
    Error,
    algorithm::PermittedUses,
    domain::DomainKeys,
    key_token::{KeyToken, Storage, TokenDigest},
    pkcs11::{CallError, Module, ObjectHandle, Session, SessionKind, SlotId},
    resident,
    return_code::Class,
    template::{self, Extraction, Lifetime, Usage},
};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard},
};

/// A key that is ready for use on this member. It stays loaded at least as long as somebody holds it.
#[derive(Debug)]
pub struct LoadedKey {
    handle: ObjectHandle,
    uses: PermittedUses,
    storage: Storage,
    // Keeps the session open whose object this is.
    keeper: Arc<Mutex<Session>>,
}

impl LoadedKey {
    /// The object.
    pub fn handle(&self) -> ObjectHandle {
        self.handle
    }

    /// What the key may do.
    pub fn uses(&self) -> &PermittedUses {
        &self.uses
    }
}

/// The loaded keys of a member.
#[derive(Debug)]
pub struct LoadedKeys {
    module: Arc<Module>,
    slot: SlotId,
    // Lock order: `keeper`, then the keeper's session, then `cache`. A hit takes the cache's lock alone.
    keeper: Mutex<Option<Arc<Mutex<Session>>>>,
    cache: Mutex<LruCache<TokenDigest, Arc<LoadedKey>>>,
    capacity: NonZeroUsize,
}

impl LoadedKeys {
    /// An empty cache of at most `capacity` keys; keys in use beyond that are kept until they are free.
    pub fn new(module: &Arc<Module>, slot: SlotId, capacity: NonZeroUsize) -> Self {
        Self {
            module: Arc::clone(module),
            slot,
            keeper: Mutex::new(None),
            // Unbounded, because the bound spares pinned keys, which the cache itself would evict.
            cache: Mutex::new(LruCache::unbounded()),
            capacity,
        }
    }

    /// The key with this digest, if it is loaded; it is pinned while the result lives.
    pub fn pin(&self, digest: &TokenDigest) -> Option<Arc<LoadedKey>> {
        lock(&self.cache).get(digest).cloned()
    }

    /// Loads an authentic token and pins it.
    pub fn load(&self, digest: &TokenDigest, token: &KeyToken, domain: &DomainKeys) -> Result<Arc<LoadedKey>, Error> {
        let keeper = self.keeper()?;
        let (key, evicted) = {
            let mut session = lock(&keeper);
            // Another thread may have loaded it while this one waited for the keeper.
            if let Some(key) = self.pin(digest) {
                return Ok(key);
            }
            let handle =
                bring_in(&mut session, token, domain).inspect_err(|error| self.judge_keeper(&keeper, error))?;
            let key = Arc::new(LoadedKey {
                handle,
                uses: token.uses.clone(),
                storage: token.storage,
                keeper: Arc::clone(&keeper),
            });
            let evicted = self.insert(*digest, Arc::clone(&key));
            (key, evicted)
        };
        for victim in evicted {
            discard(&victim);
        }
        Ok(key)
    }

    /// Forgets a key whose handle the token no longer knows, unless another thread has loaded it anew since.
    pub fn forget(&self, digest: &TokenDigest, key: &Arc<LoadedKey>) {
        let mut cache = lock(&self.cache);
        if cache.peek(digest).is_some_and(|present| Arc::ptr_eq(present, key)) {
            cache.pop(digest);
        }
    }

    fn keeper(&self) -> Result<Arc<Mutex<Session>>, Error> {
        let mut keeper = lock(&self.keeper);
        if let Some(keeper) = &*keeper {
            return Ok(Arc::clone(keeper));
        }
        let session = Session::open(&self.module, self.slot, SessionKind::ReadOnly)?;
        Ok(Arc::clone(keeper.insert(Arc::new(Mutex::new(session)))))
    }

    /// Gives a keeper up whose session or login is lost. What it loaded goes with its last user; keys are loaded anew by
    /// the next keeper.
    fn judge_keeper(&self, failed: &Arc<Mutex<Session>>, error: &Error) {
        let Error::Call(CallError { code, .. }) = error else {
            return;
        };
        if !matches!(code.class(), Class::SessionLost | Class::LoginLost) {
            return;
        }
        // `try_lock`, because the failed keeper's session is locked here; whoever holds the lock opens a keeper.
        if let Ok(mut keeper) = self.keeper.try_lock()
            && keeper.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed))
        {
            *keeper = None;
            lock(&self.cache).clear();
        }
    }

    /// Adds a key and takes out the least recently used ones that are not pinned.
    fn insert(&self, digest: TokenDigest, key: Arc<LoadedKey>) -> Vec<Arc<LoadedKey>> {
        let mut cache = lock(&self.cache);
        cache.put(digest, key);
        let excess = cache.len().saturating_sub(self.capacity.get());
        let victims: Vec<_> = cache
            .iter()
            .rev()
            .filter(|(_, key)| Arc::strong_count(key) == 1)
            .take(excess)
            .map(|(digest, _)| *digest)
            .collect();
        victims.into_iter().filter_map(|digest| cache.pop(&digest)).collect()
    }
}

/// Destroys the session object of a key that nobody uses any more. A resident key is only forgotten.
fn discard(key: &LoadedKey) {
    if key.storage == Storage::Resident {
        return;
    }
    if let Err(error) = lock(&key.keeper).destroy_object(key.handle) {
        tracing::debug!(%error, "an evicted key was not destroyed");
    }
}

fn bring_in(session: &mut Session, token: &KeyToken, domain: &DomainKeys) -> Result<ObjectHandle, Error> {
    let extraction = match token.storage {
        Storage::Resident => return resident::find_private(session, token),
        // A portable key, too, is loaded as not extractable: only an export loads it otherwise.
        Storage::Sealed => Extraction::Forbidden,
        Storage::Portable => Extraction::Allowed,
    };
    let template = template::frozen(
        template::key(
            token.key_type,
            Lifetime::Session,
            Extraction::Forbidden,
            Usage::of(&token.uses),
        ),
        &template::allowed_mechanisms(&token.uses),
    );
    Ok(session.unwrap_key(
        domain.key_wrap(),
        domain.wrapping_key(extraction),
        &token.wrapped,
        &template,
    )?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

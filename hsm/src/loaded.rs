//! Key tokens loaded into a member: a bounded cache behind the keeper session.
//!
//! Loaded keys are session objects of the keeper, a session that does nothing else, because a session object dies with
//! its creator's session. A key in use is pinned: it is never evicted from under an operation.

use crate::{
    Error,
    algorithm::{KeyType, PermittedUses},
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
    key_type: KeyType,
    uses: PermittedUses,
    storage: Storage,
}

impl LoadedKey {
    /// The object.
    pub fn handle(&self) -> ObjectHandle {
        self.handle
    }

    /// What the key is.
    pub fn key_type(&self) -> KeyType {
        self.key_type
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
    // Lock order: keeper, then cache. A hit takes the cache's lock alone.
    keeper: Mutex<Option<Session>>,
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
        self.cache().get(digest).cloned()
    }

    /// Loads an authentic token and pins it.
    pub fn load(&self, digest: &TokenDigest, token: &KeyToken, domain: &DomainKeys) -> Result<Arc<LoadedKey>, Error> {
        let mut keeper = self.keeper.lock().unwrap_or_else(|lock| lock.into_inner());
        // Another thread may have loaded it while this one waited for the keeper.
        if let Some(key) = self.pin(digest) {
            return Ok(key);
        }
        let session = match &mut *keeper {
            Some(session) => session,
            none => none.insert(Session::open(&self.module, self.slot, SessionKind::ReadOnly)?),
        };
        let outcome = bring_in(session, token, domain);
        if let Err(Error::Call(CallError { code, .. })) = &outcome
            && matches!(code.class(), Class::SessionLost | Class::LoginLost | Class::MemberFault)
        {
            // The keeper may be lost, and what it loaded with it.
            self.cache().clear();
            *keeper = None;
        }
        let key = Arc::new(LoadedKey {
            handle: outcome?,
            key_type: token.key_type,
            uses: token.uses.clone(),
            storage: token.storage,
        });
        let evicted = self.insert(*digest, Arc::clone(&key));
        if let Some(session) = &mut *keeper {
            for handle in evicted {
                if let Err(error) = session.destroy_object(handle) {
                    tracing::debug!(%error, "an evicted key was not destroyed");
                }
            }
        }
        Ok(key)
    }

    /// Forgets a key whose handle the token no longer knows.
    pub fn forget(&self, digest: &TokenDigest) {
        self.cache().pop(digest);
    }

    /// How many keys are loaded.
    pub fn len(&self) -> usize {
        self.cache().len()
    }

    /// Whether no key is loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a key and takes out the least recently used ones that are not pinned; returns what is to be destroyed.
    fn insert(&self, digest: TokenDigest, key: Arc<LoadedKey>) -> Vec<ObjectHandle> {
        let mut cache = self.cache();
        cache.put(digest, key);
        let excess = cache.len().saturating_sub(self.capacity.get());
        let victims: Vec<_> = cache
            .iter()
            .rev()
            .filter(|(_, key)| Arc::strong_count(key) == 1)
            .take(excess)
            .map(|(digest, _)| *digest)
            .collect();
        victims
            .into_iter()
            .filter_map(|digest| cache.pop(&digest))
            .filter(|key| key.storage != Storage::Resident)
            .map(|key| key.handle)
            .collect()
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<TokenDigest, Arc<LoadedKey>>> {
        self.cache.lock().unwrap_or_else(|lock| lock.into_inner())
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

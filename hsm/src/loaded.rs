//! Key tokens loaded into a member: a bounded cache behind the keeper session.
//!
//! Loaded keys are session objects of a keeper, a session that does nothing else, because a session object dies with its
//! creator's session. A key in use is pinned: it is not evicted, and its keeper's session stays open, so that its handle
//! means this key and no other for as long as somebody holds it.

use crate::{
    Error,
    algorithm::{KeyType, PermittedUses},
    domain::DomainKeys,
    key_token::{KeyToken, Origin, Storage, TokenDigest},
    pkcs11::{CallError, Module, ObjectHandle, Session, SessionKind, SlotId},
    resident,
    return_code::Class,
    template::{self, Extraction, Lifetime, Usage},
};
use lru::LruCache;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A key that is ready for use on this member. It stays loaded at least as long as somebody holds it.
#[derive(Debug)]
pub struct LoadedKey {
    handle: ObjectHandle,
    key_type: KeyType,
    uses: PermittedUses,
    storage: Storage,
    origin: Origin,
    // Whose share of the cache an ephemeral key takes.
    owner: Option<Box<str>>,
    // Keeps the session open whose object this is.
    keeper: Arc<Mutex<Session>>,
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

    /// How its secret half is kept.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Where it came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What the key may do.
    pub fn uses(&self) -> &PermittedUses {
        &self.uses
    }
}

/// How many keys stay loaded.
#[derive(Debug, Clone, Copy)]
pub struct LoadedLimits {
    /// In all; keys in use beyond that are kept until they are free.
    pub keys: NonZeroUsize,
    /// Ephemeral keys of one principal: beyond that its own go first, so that it cannot push out the keys of others.
    pub ephemeral_share: NonZeroUsize,
}

/// What became of requests for keys since the member was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadedKeyCounts {
    /// Uses of a key that was loaded.
    pub hits: u64,
    /// Keys that were loaded.
    pub loads: u64,
    /// Keys that were taken out to make room.
    pub evictions: u64,
    /// Keys that are loaded.
    pub loaded: u64,
}

/// The loaded keys of a member.
#[derive(Debug)]
pub struct LoadedKeys {
    module: Arc<Module>,
    slot: SlotId,
    // Lock order: `keeper`, then the keeper's session, then `cache`. A hit takes the cache's lock alone.
    keeper: Mutex<Option<Arc<Mutex<Session>>>>,
    cache: Mutex<Cache>,
    hits: AtomicU64,
    loads: AtomicU64,
    evictions: AtomicU64,
}

impl LoadedKeys {
    /// Nothing loaded. The keeper's session is opened before others may have taken all that the token gives.
    pub fn open(module: &Arc<Module>, slot: SlotId, limits: LoadedLimits) -> Result<Self, Error> {
        let session = Session::open(module, slot, SessionKind::ReadOnly)?;
        Ok(Self {
            module: Arc::clone(module),
            slot,
            keeper: Mutex::new(Some(Arc::new(Mutex::new(session)))),
            cache: Mutex::new(Cache::new(limits)),
            hits: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        })
    }

    /// The key with this digest, if it is loaded; it is pinned while the result lives.
    pub fn pin(&self, digest: &TokenDigest) -> Option<Arc<LoadedKey>> {
        let key = lock(&self.cache).find(digest)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(key)
    }

    /// What became of requests for keys so far.
    pub fn counts(&self) -> LoadedKeyCounts {
        LoadedKeyCounts {
            hits: self.hits.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            loaded: lock(&self.cache).keys.len() as u64,
        }
    }

    /// Loads an authentic token and pins it. `owner` is the principal to which an ephemeral key belongs. A keeper whose session
    /// is lost is replaced once: that is another session than the caller's, whose loss the caller repairs.
    pub fn load(
        &self,
        digest: &TokenDigest,
        token: &KeyToken,
        owner: Option<&str>,
        domain: &DomainKeys,
    ) -> Result<Arc<LoadedKey>, Error> {
        match self.load_once(digest, token, owner, domain) {
            Err(error) if error.class() == Class::SessionLost => {}
            outcome => return outcome,
        }
        self.load_once(digest, token, owner, domain)
            .map_err(|error| match error {
                Error::Call(error) => Error::Keeper(error),
                error => error,
            })
    }

    fn load_once(
        &self,
        digest: &TokenDigest,
        token: &KeyToken,
        owner: Option<&str>,
        domain: &DomainKeys,
    ) -> Result<Arc<LoadedKey>, Error> {
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
                key_type: token.key_type,
                uses: token.uses.clone(),
                storage: token.storage,
                origin: token.origin,
                owner: owner.map(Box::from),
                keeper: Arc::clone(&keeper),
            });
            let evicted = lock(&self.cache).insert(*digest, Arc::clone(&key));
            self.loads.fetch_add(1, Ordering::Relaxed);
            self.evictions.fetch_add(evicted.len() as u64, Ordering::Relaxed);
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
        if cache.keys.peek(digest).is_some_and(|present| Arc::ptr_eq(present, key)) {
            cache.remove(digest);
        }
    }

    /// Takes a key out because it is destroyed, and its session object with it as soon as nobody uses it any more.
    pub fn unload(&self, digest: &TokenDigest) {
        let Some(key) = lock(&self.cache).remove(digest) else {
            return;
        };
        // Uses that began before the destruction end with their call; one that outlasts this leaves its object to the keeper.
        let end = Instant::now() + LAST_USES;
        while Arc::strong_count(&key) > 1 && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        if Arc::strong_count(&key) == 1 {
            discard(&key);
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

    /// Gives a keeper up whose session is lost or stuck. What it loaded goes with its last user; keys are loaded anew by
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
}

/// The keys by use, and beside them those of each owner of ephemeral keys.
#[derive(Debug)]
struct Cache {
    limits: LoadedLimits,
    // Unbounded, because the bounds spare pinned keys, which the caches themselves would evict.
    keys: LruCache<TokenDigest, Arc<LoadedKey>>,
    owned: HashMap<Box<str>, LruCache<TokenDigest, ()>>,
}

impl Cache {
    fn new(limits: LoadedLimits) -> Self {
        Self {
            limits,
            keys: LruCache::unbounded(),
            owned: HashMap::new(),
        }
    }

    fn find(&mut self, digest: &TokenDigest) -> Option<Arc<LoadedKey>> {
        let key = Arc::clone(self.keys.get(digest)?);
        if let Some(owned) = key.owner.as_ref().and_then(|owner| self.owned.get_mut(owner)) {
            owned.promote(digest);
        }
        Some(key)
    }

    /// Adds a key and takes out the least recently used ones that are not pinned: first of its owner, then of all.
    fn insert(&mut self, digest: TokenDigest, key: Arc<LoadedKey>) -> Vec<Arc<LoadedKey>> {
        let mut victims = Vec::new();
        if let Some(owner) = key.owner.clone() {
            let owned = self.owned.entry(owner.clone()).or_insert_with(LruCache::unbounded);
            owned.put(digest, ());
            self.keys.put(digest, key);
            let share = self.limits.ephemeral_share.get();
            let chosen = self.owned.get(&owner).map(|owned| self.oldest_free(owned, share));
            victims.extend(chosen.iter().flatten().filter_map(|digest| self.remove(digest)));
        } else {
            self.keys.put(digest, key);
        }
        let chosen = self.oldest_free(&self.keys, self.limits.keys.get());
        victims.extend(chosen.iter().filter_map(|digest| self.remove(digest)));
        victims
    }

    /// The least recently used keys of a list that is longer than it may be, of those that nobody but the cache holds.
    fn oldest_free<T>(&self, list: &LruCache<TokenDigest, T>, limit: usize) -> Vec<TokenDigest> {
        let excess = list.len().saturating_sub(limit);
        let oldest = list.iter().rev().map(|(digest, _)| *digest);
        oldest.filter(|digest| self.is_free(digest)).take(excess).collect()
    }

    /// Whether nobody but the cache holds the key.
    fn is_free(&self, digest: &TokenDigest) -> bool {
        self.keys.peek(digest).is_some_and(|key| Arc::strong_count(key) == 1)
    }

    fn remove(&mut self, digest: &TokenDigest) -> Option<Arc<LoadedKey>> {
        let key = self.keys.pop(digest)?;
        if let Some(owner) = &key.owner
            && let Some(owned) = self.owned.get_mut(owner)
        {
            owned.pop(digest);
            if owned.is_empty() {
                self.owned.remove(owner);
            }
        }
        Some(key)
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.owned.clear();
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
    let under = domain.wrapping(extraction)?;
    Ok(session.unwrap_key(under.mechanism, under.key, &token.wrapped, &template)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// How long uses of a key that is destroyed are waited for.
const LAST_USES: Duration = Duration::from_secs(1);

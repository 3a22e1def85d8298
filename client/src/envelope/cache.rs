//! Data keys that are used for more than one message, within bounds.

use super::{
    error::EnvelopeError,
    header::VersionName,
    suite::{AuthenticatedDigest, DATA_KEY_BYTES},
};
use lru::LruCache;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

/// Until when a data key is used again. A key that is at one of its bounds is wiped at once, also if nobody asks for it.
///
/// What is bounded is also what is at stake: so much can be read by whoever reads this process's memory, and for so long data
/// can be opened after the gateway would have refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// How long, from when the gateway gave it.
    pub age: Duration,
    /// For how many messages.
    pub messages: u64,
    /// For how many bytes of plaintext. A message is sealed under a cached key only if its size is known before and fits; a key
    /// that has opened so many bytes opens no further message.
    pub bytes: u64,
    /// How many data keys are kept, for sealing and for opening together. The one that was not used for the longest time goes
    /// first.
    pub entries: usize,
}

impl Default for CacheBounds {
    /// Five minutes, 1,000 messages, 1 GiB, 100 data keys.
    fn default() -> Self {
        Self {
            age: Duration::from_secs(300),
            messages: 1000,
            bytes: 1 << 30,
            entries: 100,
        }
    }
}

/// A data key with its encrypted form.
#[derive(Clone)]
pub(crate) struct DataKey {
    pub(crate) key: Zeroizing<[u8; DATA_KEY_BYTES]>,
    pub(crate) version: VersionName,
    /// Whether that was the key's primary version.
    pub(crate) primary: bool,
    pub(crate) encrypted: Vec<u8>,
}

/// What a data key is kept for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Seal {
        key: String,
        authenticated: AuthenticatedDigest,
    },
    Open {
        key: String,
        authenticated: AuthenticatedDigest,
        encrypted: Vec<u8>,
    },
}

/// The data keys.
pub(crate) struct DataKeys {
    bounds: CacheBounds,
    kept: Mutex<Kept>,
}

struct Kept {
    entries: LruCache<Purpose, Entry>,
    /// Somebody wipes what has become too old.
    swept: bool,
}

struct Entry {
    data_key: Arc<DataKey>,
    until: Instant,
    messages: u64,
    /// Reserved when sealing; counted as they are released when opening.
    bytes: Arc<AtomicU64>,
}

impl DataKeys {
    pub(crate) fn within(bounds: CacheBounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            kept: Mutex::new(Kept {
                entries: LruCache::unbounded(),
                swept: false,
            }),
        })
    }

    /// A data key for a message of so many bytes, and where the bytes that it opens are counted: a kept one, or one that is
    /// fetched now, and kept if it may be.
    pub(crate) async fn for_message<F: Future<Output = Result<DataKey, EnvelopeError>>>(
        self: &Arc<Self>,
        purpose: Purpose,
        size: Option<u64>,
        fetch: impl FnOnce() -> F,
    ) -> Result<(Arc<DataKey>, Arc<AtomicU64>), EnvelopeError> {
        // Before it is fetched, so that it never lives longer than it may.
        let until = Instant::now() + self.bounds.age;
        if let Some(size) = size
            && let Some(found) = self.kept().take(&purpose, size, &self.bounds)
        {
            return Ok(found);
        }
        let data_key = Arc::new(fetch().await?);
        let bytes = Arc::new(AtomicU64::new(size.unwrap_or_default()));
        if let Some(size) = size {
            let entry = Entry {
                data_key: Arc::clone(&data_key),
                until,
                messages: 1,
                bytes: Arc::clone(&bytes),
            };
            self.keep(purpose, entry, size);
        }
        Ok((data_key, bytes))
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.kept().entries.len()
    }

    /// Wipes all.
    pub(crate) fn clear(&self) {
        self.kept().entries.clear();
    }

    fn keep(self: &Arc<Self>, purpose: Purpose, entry: Entry, size: u64) {
        let CacheBounds {
            messages,
            bytes,
            entries,
            ..
        } = self.bounds;
        if messages < 2 || size >= bytes || entries == 0 || entry.until <= Instant::now() {
            return;
        }
        let mut kept = self.kept();
        kept.entries.put(purpose, entry);
        while kept.entries.len() > entries {
            drop(kept.entries.pop_lru());
        }
        if !kept.swept {
            kept.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Kept {
    /// A key that may be used for another message of so many bytes.
    fn take(&mut self, purpose: &Purpose, size: u64, bounds: &CacheBounds) -> Option<(Arc<DataKey>, Arc<AtomicU64>)> {
        let entry = self.entries.get_mut(purpose)?;
        let used = entry.bytes.load(Ordering::Relaxed);
        let after = used.saturating_add(size);
        let good = entry.until > Instant::now() && used < bounds.bytes && after <= bounds.bytes;
        let found = good.then(|| {
            entry.messages += 1;
            entry.bytes.fetch_add(size, Ordering::Relaxed);
            (Arc::clone(&entry.data_key), Arc::clone(&entry.bytes))
        });
        // A larger message does not end a key that smaller ones can still use; a new key takes its place when it is kept.
        let ended = entry.until <= Instant::now()
            || entry.messages >= bounds.messages
            || entry.bytes.load(Ordering::Relaxed) >= bounds.bytes;
        if ended {
            drop(self.entries.pop(purpose));
        }
        found
    }

    /// Wipes what is too old; when the next one will be.
    fn wipe_old(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let old: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.until <= now)
            .map(|(purpose, _)| purpose.clone())
            .collect();
        for purpose in old {
            drop(self.entries.pop(&purpose));
        }
        self.entries.iter().map(|(_, entry)| entry.until).min()
    }
}

/// Wipes keys when they become too old, while there are any.
async fn sweep(keys: Weak<DataKeys>) {
    loop {
        let next = {
            let Some(keys) = keys.upgrade() else { return };
            let mut kept = keys.kept();
            let next = kept.wipe_old();
            kept.swept = next.is_some();
            next
        };
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}

/// A data key's bytes, which are wiped with the copy of them.
pub(crate) fn data_key_bytes(bytes: &[u8]) -> Result<Zeroizing<[u8; DATA_KEY_BYTES]>, EnvelopeError> {
    let mut key = Zeroizing::new([0; DATA_KEY_BYTES]);
    if bytes.len() != DATA_KEY_BYTES {
        return Err(EnvelopeError::NotAuthentic);
    }
    key.copy_from_slice(bytes);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Data keys, with a count of those that were fetched.
    struct Test {
        keys: Arc<DataKeys>,
        fetched: Cell<u8>,
    }

    impl Test {
        fn new(bounds: CacheBounds) -> Self {
            Self {
                keys: DataKeys::within(bounds),
                fetched: Cell::new(0),
            }
        }

        /// The number of the data key that a message got.
        async fn message(&self, purpose: Purpose, size: Option<u64>) -> u8 {
            let fetch = || {
                self.fetched.set(self.fetched.get() + 1);
                let key = Zeroizing::new([self.fetched.get(); DATA_KEY_BYTES]);
                let version = "keyRings/a/keys/b/versions/1".parse().expect("a name");
                std::future::ready(Ok(DataKey {
                    key,
                    version,
                    primary: true,
                    encrypted: vec![1],
                }))
            };
            let found = self.keys.for_message(purpose, size, fetch).await.expect("a data key");
            found.0.key[0]
        }
    }

    fn seal(context: &str) -> Purpose {
        Purpose::Seal {
            key: "keyRings/a/keys/b".to_owned(),
            authenticated: AuthenticatedDigest::of(context.as_bytes()),
        }
    }

    fn open(context: &str, encrypted: u8) -> Purpose {
        Purpose::Open {
            key: "keyRings/a/keys/b".to_owned(),
            authenticated: AuthenticatedDigest::of(context.as_bytes()),
            encrypted: vec![encrypted],
        }
    }

    const BOUNDS: CacheBounds = CacheBounds {
        age: Duration::from_secs(10),
        messages: 3,
        bytes: 100,
        entries: 2,
    };

    #[tokio::test(start_paused = true)]
    async fn a_key_is_used_for_so_many_messages_and_then_wiped() {
        let test = Test::new(BOUNDS);
        let mut used = Vec::new();
        for _ in 0..7 {
            used.push(test.message(seal(""), Some(1)).await);
        }
        assert_eq!(used, [1, 1, 1, 2, 2, 2, 3]);
        let test = Test::new(BOUNDS);
        for _ in 0..3 {
            test.message(seal(""), Some(1)).await;
        }
        assert_eq!(test.keys.len(), 0, "the third message was its last");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_used_for_so_many_bytes_and_never_beyond() {
        let test = Test::new(BOUNDS);
        assert_eq!(test.message(seal(""), Some(60)).await, 1);
        // 60 and 50 are too many, so this one has a key of its own, which then is the one that is kept.
        assert_eq!(test.message(seal(""), Some(50)).await, 2);
        assert_eq!(test.message(seal(""), Some(50)).await, 2);
        assert_eq!(test.keys.len(), 0, "it has sealed all that it may");
        assert_eq!(test.message(seal(""), Some(100)).await, 3);
        assert_eq!(test.keys.len(), 0);
        assert_eq!(test.message(seal(""), None).await, 4);
        assert_eq!(test.message(seal(""), None).await, 5);
        assert_eq!(test.keys.len(), 0, "nothing of unknown size is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_wiped_when_it_is_too_old_without_anybody_asking() {
        let test = Test::new(BOUNDS);
        test.message(seal("a"), Some(1)).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        test.message(seal("b"), Some(1)).await;
        assert_eq!(test.message(seal("a"), Some(1)).await, 1);
        tokio::time::sleep(Duration::from_millis(4001)).await;
        assert_eq!(test.keys.len(), 1);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(test.keys.len(), 0);
        assert_eq!(test.message(seal("a"), Some(1)).await, 3);
        // The one who wipes had gone, and is there again.
        tokio::time::sleep(Duration::from_millis(10_001)).await;
        assert_eq!(test.keys.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_fetched_for_longer_than_it_may_live_is_not_kept() {
        let test = Test::new(BOUNDS);
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(DataKey {
                key: Zeroizing::new([9; DATA_KEY_BYTES]),
                version: "keyRings/a/keys/b/versions/1".parse().expect("a name"),
                primary: true,
                encrypted: vec![1],
            })
        };
        let found = test
            .keys
            .for_message(seal(""), Some(1), slow)
            .await
            .expect("a data key");
        assert_eq!((found.0.key[0], test.keys.len()), (9, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn each_context_and_each_way_has_keys_of_its_own_and_the_oldest_go() {
        let test = Test::new(CacheBounds {
            messages: 100,
            ..BOUNDS
        });
        assert_eq!(test.message(seal("a"), Some(1)).await, 1);
        assert_eq!(test.message(seal("b"), Some(1)).await, 2);
        assert_eq!(test.message(seal("a"), Some(1)).await, 1);
        assert_eq!(test.message(open("a", 1), Some(0)).await, 3);
        assert_eq!(test.keys.len(), 2);
        assert_eq!(test.message(seal("a"), Some(1)).await, 1, "it was used last");
        assert_eq!(test.message(seal("b"), Some(1)).await, 4, "it had gone");
        assert_eq!(test.message(open("a", 1), Some(0)).await, 5);
        assert_eq!(test.message(open("a", 2), Some(0)).await, 6);
        assert_eq!(test.message(open("b", 2), Some(0)).await, 7);
        test.keys.clear();
        assert_eq!(test.keys.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_has_opened_its_bytes_opens_nothing_more() {
        let test = Test::new(BOUNDS);
        let never = || std::future::ready(Err(EnvelopeError::NotAuthentic));
        assert_eq!(test.message(open("", 1), Some(0)).await, 1);
        let (_, used) = test
            .keys
            .for_message(open("", 1), Some(0), never)
            .await
            .expect("a kept key");
        used.fetch_add(100, Ordering::Relaxed);
        assert_eq!(test.message(open("", 1), Some(0)).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_of_nothing_keep_nothing() {
        for bounds in [
            CacheBounds { entries: 0, ..BOUNDS },
            CacheBounds { messages: 1, ..BOUNDS },
            CacheBounds { messages: 0, ..BOUNDS },
            CacheBounds { bytes: 0, ..BOUNDS },
            CacheBounds {
                age: Duration::ZERO,
                ..BOUNDS
            },
        ] {
            let test = Test::new(bounds);
            assert_eq!(test.message(seal(""), Some(0)).await, 1);
            assert_eq!(
                (test.keys.len(), test.message(seal(""), Some(0)).await),
                (0, 2),
                "{bounds:?}"
            );
        }
    }
}

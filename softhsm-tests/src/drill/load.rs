//! Many callers at once.

use super::{
    caller::{Caller, Keys},
    report::{Call, Report},
};
use crate::program::{LONG, PAUSE};
use portcullis_client::Client;
use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What a caller does when it is told to come back later, or when the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The call has failed.
    None,
    /// It asks again after the delay that the gateway names: the call takes longer, and has failed when that takes minutes.
    Retry,
}

/// Callers who go on until they are told to stop.
pub struct Load {
    books: Arc<Books>,
    callers: JoinSet<()>,
    client: Client,
}

/// What all callers write down.
pub(super) struct Books {
    pub(super) began: Instant,
    pub(super) patience: Patience,
    stop: AtomicBool,
    done: AtomicUsize,
    refusals: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
pub(super) struct Entries {
    pub(super) calls: Vec<Call>,
    pub(super) failures: Vec<String>,
    pub(super) wrong: Vec<String>,
    pub(super) refusals: Vec<String>,
    /// The keys that were created, by name, with their public halves.
    pub(super) created: Vec<(String, Vec<u8>)>,
}

impl Load {
    /// Makes the keys and starts so many callers, who share the clients.
    pub async fn start(clients: &[Client], callers: usize, patience: Patience) -> Self {
        let keys = Arc::new(Keys::create(&clients[0]).await);
        let books = Arc::new(Books {
            began: Instant::now(),
            patience,
            stop: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            entries: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let client = clients[number % clients.len()].clone();
            tasks.spawn(Caller::new(number, client, Arc::clone(&keys), Arc::clone(&books)).run());
        }
        Self {
            books,
            callers: tasks,
            client: clients[0].clone(),
        }
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.books.began
    }

    /// How many calls have ended, well or not.
    pub fn done(&self) -> usize {
        self.books.done.load(Ordering::Relaxed)
    }

    /// How often callers were told to come back later.
    pub fn refusals(&self) -> usize {
        self.books.refusals.load(Ordering::Relaxed)
    }

    /// Waits until so many more calls have ended.
    pub async fn more(&self, calls: usize) {
        let wanted = self.done() + calls;
        self.until(&format!("{calls} more calls"), || self.done() >= wanted)
            .await;
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(
                started.elapsed() < LONG,
                "after {LONG:?} and {} calls still not: {what}; failures: {:?}",
                self.done(),
                self.books.lock().failures
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets every caller finish its call, has some of the keys used that they created, and says what came of all.
    pub async fn finish(mut self) -> Report {
        self.books.stop.store(true, Ordering::Relaxed);
        let stopping = async {
            while self
                .callers
                .join_next()
                .await
                .transpose()
                .expect("no caller panics")
                .is_some()
            {}
        };
        tokio::time::timeout(LONG, stopping)
            .await
            .expect("every caller is answered");
        let created = mem::take(&mut self.books.lock().created);
        let step = created.len().div_ceil(MOST_LOOKED_FOR).max(1);
        let reader = Caller::reader(self.client, Arc::clone(&self.books));
        for (name, public_key) in created.iter().step_by(step) {
            reader.use_again(name, public_key).await;
        }
        let entries = mem::take(&mut *self.books.lock());
        Report::new(entries, created.len(), self.books.began.elapsed())
    }
}

impl Books {
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A call was answered.
    pub(super) fn note(&self, started: Instant, took: Duration) {
        self.lock().calls.push(Call::new(started - self.began, took));
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_failure(&self, what: String) {
        self.lock().failures.push(what);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_wrong(&self, what: String) {
        self.lock().wrong.push(what);
    }

    pub(super) fn note_refusal(&self, what: String) {
        let mut entries = self.lock();
        if entries.refusals.len() < MOST_KEPT {
            entries.refusals.push(what);
        }
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_created(&self, name: String, public_key: Vec<u8>) {
        self.lock().created.push((name, public_key));
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

/// So many of the created keys are used again at the end.
const MOST_LOOKED_FOR: usize = 300;
/// So many refusals are kept in words.
const MOST_KEPT: usize = 1000;

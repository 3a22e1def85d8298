//! SQLite behind the store's interface.
//!
//! One thread owns the writing connection and commits all changes that wait for it in one transaction, so that many
//! creates share one sync. Another owns a reading connection, and a third one reads lists, so that who asks for one thing never waits
//! for those who ask for many. Nothing is confirmed before its commit.

mod documents;
mod keys;
mod requests;
mod resident;
mod rows;
mod use_counts;

use super::{
    Created, Earlier, Idempotency, KeyChange, Listed, ResidentIntent, Store, StoreError, StoredUseCount,
    opening::Database,
};
use crate::{
    keys::{
        document::{DocumentKey, DocumentRow},
        name::{Id, KeyName},
        record::{Restriction, RingRow, StoredKey, Tagged},
        use_count::UseCountRow,
    },
    telemetry::Telemetry,
};
use async_trait::async_trait;
use rusqlite::Connection;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// A store in a SQLite file.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    // When the caller no longer waits.
    deadline: Option<Instant>,
}

struct Shared {
    path: PathBuf,
    writer: Mutex<Option<mpsc::Sender<Change>>>,
    reader: Mutex<Option<mpsc::Sender<Query>>>,
    lister: Mutex<Option<mpsc::Sender<Query>>>,
    reader_threads: Mutex<Vec<JoinHandle<()>>>,
    writer_thread: Mutex<Option<JoinHandle<()>>>,
}

/// A change: runs inside the transaction, if there is one, and says later, after the commit, what came of it.
type Change = Box<dyn FnOnce(Result<&Connection, &str>) -> Confirmation + Send>;
type Confirmation = Box<dyn FnOnce(Result<(), String>) + Send>;
type Query = Box<dyn FnOnce(&Connection) + Send>;

impl SqliteStore {
    /// Opens or creates `portcullis.sqlite` in a directory, which is created for its owner alone if it is missing.
    ///
    /// A database that is damaged, empty, newer than this program or not to be written is refused. Before one of an older schema
    /// is upgraded, a copy is kept beside it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_watched(directory, &Telemetry::off())
    }

    /// The same, and tells how long transactions and queries take.
    pub fn open_watched(directory: &Path, telemetry: &Arc<Telemetry>) -> Result<Self, StoreError> {
        let Database {
            path,
            writer,
            reader,
            lister,
        } = Database::open(directory)?;
        let (change_sender, changes) = mpsc::channel(QUEUE);
        let (query_sender, queries) = mpsc::channel(QUEUE);
        let (list_sender, lists) = mpsc::channel(QUEUE);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| StoreError::Database(format!("{}: {error}", directory.display())))
        };
        let [of_writer, of_reader, of_lister] = [(); 3].map(|()| Arc::clone(telemetry));
        let writer_thread = spawn("store-writer", Box::new(move || write(writer, changes, &of_writer)))?;
        let reader_threads = vec![
            spawn("store-reader", Box::new(move || read(&reader, queries, &of_reader)))?,
            spawn("store-lister", Box::new(move || read(&lister, lists, &of_lister)))?,
        ];
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                writer: Mutex::new(Some(change_sender)),
                reader: Mutex::new(Some(query_sender)),
                lister: Mutex::new(Some(list_sender)),
                reader_threads: Mutex::new(reader_threads),
                writer_thread: Mutex::new(Some(writer_thread)),
            }),
            deadline: None,
        })
    }

    async fn change<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, mut receiver) = oneshot::channel();
        // Taken by the writer when it begins the change, or by the caller when it gives up: whoever is first.
        let taken = Arc::new(AtomicBool::new(false));
        let change: Change = Box::new({
            let taken = Arc::clone(&taken);
            move |transaction| {
                let result = match transaction {
                    _ if taken.swap(true, Ordering::SeqCst) => Err(StoreError::Late),
                    Ok(connection) => in_savepoint(connection, body),
                    Err(reason) => Err(StoreError::Database(reason.to_owned())),
                };
                Box::new(move |commit: Result<(), String>| {
                    let _ = sender.send(match commit {
                        Ok(()) => result,
                        Err(error) => Err(StoreError::Database(error)),
                    });
                })
            }
        });
        let writer = lock(&self.shared.writer).clone().ok_or_else(closed)?;
        let in_time = self.in_time(async {
            writer.send(change).await.map_err(|_| closed())?;
            (&mut receiver).await.map_err(|_| closed())?
        });
        match in_time.await {
            Some(answer) => answer,
            None if taken.swap(true, Ordering::SeqCst) => receiver.await.map_err(|_| closed())?,
            None => Err(StoreError::Late),
        }
    }

    /// Makes a change, unless the same request made it before.
    async fn change_once(
        &self,
        once: Option<Idempotency>,
        body: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Created, StoreError> {
        self.change(move |connection| {
            if let Some(earlier) = requests::recognise(connection, once.as_ref())? {
                return Ok(earlier);
            }
            body(connection)?;
            Ok(Created::New)
        })
        .await
    }

    /// Asks for one thing.
    async fn query<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(&self.shared.reader, body).await
    }

    /// Asks for many things.
    async fn list<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(&self.shared.lister, body).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        thread: &Mutex<Option<mpsc::Sender<Query>>>,
        body: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let query: Query = Box::new(move |connection| {
            // Not for somebody who went away meanwhile.
            if !sender.is_closed() {
                let _ = sender.send(body(connection));
            }
        });
        let reader = lock(thread).clone().ok_or_else(closed)?;
        let in_time = self.in_time(async {
            reader.send(query).await.map_err(|_| closed())?;
            receiver.await.map_err(|_| closed())?
        });
        in_time.await.unwrap_or_else(|| Err(StoreError::Late))
    }

    /// What comes of something before the deadline; `None` if nothing did.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.deadline {
            None => Some(work.await),
            Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteStore")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn by(&self, deadline: Instant) -> Arc<dyn Store> {
        Arc::new(Self {
            shared: Arc::clone(&self.shared),
            deadline: Some(deadline),
        })
    }

    async fn create_ring(&self, ring: Tagged<RingRow>, once: Option<Idempotency>) -> Result<Created, StoreError> {
        self.change_once(once, move |connection| keys::insert_ring(connection, ring))
            .await
    }

    async fn update_ring(&self, ring: Tagged<RingRow>, once: Option<Idempotency>) -> Result<Created, StoreError> {
        self.change_once(once, move |connection| keys::update_ring(connection, ring))
            .await
    }

    async fn ring(&self, id: &Id) -> Result<Option<Tagged<RingRow>>, StoreError> {
        let id = id.clone();
        self.query(move |connection| keys::ring(connection, &id)).await
    }

    async fn rings(&self, after: Option<&[u8]>, limit: u32) -> Result<Vec<Listed<Tagged<RingRow>>>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.list(move |connection| keys::rings(connection, after, limit)).await
    }

    async fn create_key(&self, key: StoredKey, once: Option<Idempotency>) -> Result<Created, StoreError> {
        self.change_once(once, move |connection| keys::insert_key(connection, key))
            .await
    }

    async fn change_key(&self, change: KeyChange, once: Option<Idempotency>) -> Result<Created, StoreError> {
        self.change_once(once, move |connection| keys::change_key(connection, change))
            .await
    }

    async fn key(&self, ring: &Id, key: &Id) -> Result<Option<StoredKey>, StoreError> {
        let name = KeyName {
            ring: ring.clone(),
            key: key.clone(),
        };
        self.query(move |connection| keys::key(connection, &name)).await
    }

    async fn keys(&self, ring: &Id, after: Option<&[u8]>, limit: u32) -> Result<Vec<Listed<StoredKey>>, StoreError> {
        let ring = ring.clone();
        let after = after.unwrap_or_default().to_owned();
        self.list(move |connection| keys::keys(connection, &ring, after, limit))
            .await
    }

    async fn restrict(&self, restriction: Restriction, once: Option<Idempotency>) -> Result<Created, StoreError> {
        self.change_once(once, move |connection| keys::restrict(connection, &restriction))
            .await
    }

    async fn restricted_keys(&self) -> Result<Vec<KeyName>, StoreError> {
        self.query(keys::restricted_keys).await
    }

    async fn page_token_key(&self) -> Result<[u8; 32], StoreError> {
        self.change(requests::page_token_key).await
    }

    async fn due_for_destruction(&self, until: OffsetDateTime, limit: u32) -> Result<Vec<KeyName>, StoreError> {
        self.query(move |connection| keys::due_for_destruction(connection, until, limit))
            .await
    }

    async fn earlier(&self, once: &Idempotency) -> Result<Option<Earlier>, StoreError> {
        let once = once.clone();
        self.query(move |connection| requests::look_up(connection, &once)).await
    }

    async fn begin_resident(&self, intent: Tagged<ResidentIntent>) -> Result<(), StoreError> {
        self.change(move |connection| resident::begin(connection, intent)).await
    }

    async fn end_resident(&self, uid: Uuid, version: u32) -> Result<(), StoreError> {
        self.change(move |connection| resident::end(connection, uid, version))
            .await
    }

    async fn resident_intents(&self) -> Result<Vec<Result<Tagged<ResidentIntent>, StoreError>>, StoreError> {
        self.query(resident::all).await
    }

    async fn has_version(&self, uid: Uuid, version: u32) -> Result<bool, StoreError> {
        self.query(move |connection| keys::has_version(connection, uid, version))
            .await
    }

    async fn use_count(&self, uid: Uuid, version: u32) -> Result<StoredUseCount, StoreError> {
        self.query(move |connection| use_counts::read(connection, uid, version))
            .await
    }

    async fn presumed_revocation(&self, ring: &Id, principal: &str) -> Result<u64, StoreError> {
        let (ring, principal) = (ring.clone(), principal.to_owned());
        self.query(move |connection| use_counts::presumed_revocation(connection, ring.as_str(), &principal))
            .await
    }

    async fn put_use_counts(&self, counts: Vec<Tagged<UseCountRow>>) -> Result<(), StoreError> {
        self.change(move |connection| use_counts::put(connection, &counts))
            .await
    }

    async fn ephemeral_use_counts(&self, after: Uuid, before: Uuid, limit: u32) -> Result<Vec<Uuid>, StoreError> {
        self.list(move |connection| use_counts::ephemeral(connection, after, before, limit))
            .await
    }

    async fn remove_use_counts(&self, of: Vec<Uuid>) -> Result<(), StoreError> {
        self.change(move |connection| use_counts::remove(connection, &of)).await
    }

    async fn put_document(
        &self,
        document: Tagged<DocumentRow>,
        once: Option<Idempotency>,
    ) -> Result<Created, StoreError> {
        self.change_once(once, move |connection| documents::put(connection, &document))
            .await
    }

    async fn document(&self, key: &DocumentKey) -> Result<Option<Tagged<DocumentRow>>, StoreError> {
        let key = key.clone();
        self.query(move |connection| documents::find(connection, &key)).await
    }

    async fn documents(
        &self,
        kind: &'static str,
        ring: &str,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<Listed<Tagged<DocumentRow>>>, StoreError> {
        let (ring, after) = (ring.to_owned(), after.unwrap_or_default().to_owned());
        self.list(move |connection| documents::list(connection, kind, &ring, after, limit))
            .await
    }

    async fn document_rings(&self, kind: &'static str) -> Result<Vec<String>, StoreError> {
        self.query(move |connection| documents::rings(connection, kind)).await
    }

    async fn delete_document(
        &self,
        key: &DocumentKey,
        revision: u64,
        once: Option<Idempotency>,
    ) -> Result<Created, StoreError> {
        let key = key.clone();
        self.change_once(once, move |connection| documents::delete(connection, &key, revision))
            .await
    }

    async fn close(&self) {
        lock(&self.shared.reader).take();
        lock(&self.shared.lister).take();
        let readers = std::mem::take(&mut *lock(&self.shared.reader_threads));
        end(readers).await;
        // Last, because only the writer can take what is in the write-ahead log, destroyed keys too, out of the files.
        lock(&self.shared.writer).take();
        let writer = lock(&self.shared.writer_thread).take();
        end(writer).await;
    }
}

/// Waits for threads whose channels are closed.
async fn end(threads: impl IntoIterator<Item = JoinHandle<()>> + Send + 'static) {
    let joined = tokio::task::spawn_blocking(move || {
        for thread in threads {
            let _ = thread.join();
        }
    });
    let _ = joined.await;
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// Answers questions until the channel closes.
fn read(connection: &Connection, mut queries: mpsc::Receiver<Query>, telemetry: &Telemetry) {
    while let Some(query) = queries.blocking_recv() {
        let begun = Instant::now();
        query(connection);
        telemetry.metrics().query(begun.elapsed());
    }
}

/// Runs changes until the channel closes: all that wait, up to a limit, in one transaction.
fn write(connection: Connection, mut changes: mpsc::Receiver<Change>, telemetry: &Telemetry) {
    let mut batch = Vec::new();
    while changes.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (size, started) = (batch.len(), Instant::now());
        let begun = connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(|error| error.to_string());
        if let Err(error) = &begun {
            tracing::error!(%error, "the database refuses a transaction");
        }
        let mut transaction = begun.as_ref().map(|()| &connection).map_err(String::as_str);
        let mut confirmations = Vec::with_capacity(batch.len());
        for change in batch.drain(..) {
            // SQLite may end a transaction by itself (a full disk); what came after it would be committed on its own.
            if transaction.is_ok() && connection.is_autocommit() {
                transaction = Err("the database ended the transaction");
            }
            confirmations.push(change(transaction));
        }
        let commit = begun.and_then(|()| connection.execute_batch("COMMIT").map_err(|error| error.to_string()));
        if let Err(error) = &commit {
            tracing::error!(%error, "the database refuses a commit");
            // Fails where no transaction is open, which is what is wanted.
            let _ = connection.execute_batch("ROLLBACK");
        }
        telemetry.metrics().transaction(size, commit.is_ok(), started.elapsed());
        for confirm in confirmations {
            confirm(commit.clone());
        }
    }
}

/// Undoes a change that failed, without its neighbours in the transaction.
fn in_savepoint<T>(
    connection: &Connection,
    body: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT change")?;
    let result = body(connection);
    let end = if result.is_ok() {
        "RELEASE change"
    } else {
        "ROLLBACK TO change; RELEASE change"
    };
    connection.execute_batch(end)?;
    result
}

fn closed() -> StoreError {
    StoreError::Database("the store is closed".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

const QUEUE: usize = 1024;
const BATCH: usize = 256;

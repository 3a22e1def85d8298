//! SQLite behind the store's interface.
//!
//! One thread owns the writing connection and commits all changes that wait for it in one transaction, so that many
//! creates share one sync. Another owns a reading connection. Nothing is confirmed before its commit.

use super::{
    Created, Idempotency, Listed, ResidentIntent, Store, StoreError,
    opening::Database,
    rows::{KEY_COLUMNS, RING_COLUMNS, labels_text, members_text, raw, read_key, read_ring, read_version, shown},
};
use crate::keys::{
    name::{Id, KeyName},
    record::{KeyRow, RingRow, StoredKey, Tagged, micros, now},
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
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
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let Database { path, writer, reader } = Database::open(directory)?;
        let (change_sender, changes) = mpsc::channel(QUEUE);
        let (query_sender, mut queries) = mpsc::channel::<Query>(QUEUE);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| StoreError::Database(format!("{}: {error}", directory.display())))
        };
        let threads = vec![
            spawn("store-writer", Box::new(move || write(writer, changes)))?,
            spawn(
                "store-reader",
                Box::new(move || {
                    while let Some(query) = queries.blocking_recv() {
                        query(&reader);
                    }
                }),
            )?,
        ];
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                writer: Mutex::new(Some(change_sender)),
                reader: Mutex::new(Some(query_sender)),
                threads: Mutex::new(threads),
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
                    _ if taken.swap(true, Ordering::SeqCst) => Err(late()),
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
            None => Err(late()),
        }
    }

    async fn query<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let query: Query = Box::new(move |connection| {
            // Not for somebody who went away meanwhile.
            if !sender.is_closed() {
                let _ = sender.send(body(connection));
            }
        });
        let reader = lock(&self.shared.reader).clone().ok_or_else(closed)?;
        let in_time = self.in_time(async {
            reader.send(query).await.map_err(|_| closed())?;
            receiver.await.map_err(|_| closed())?
        });
        in_time.await.unwrap_or_else(|| Err(late()))
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
        self.change(move |connection| {
            if let Some(earlier) = recognise(connection, once.as_ref())? {
                return Ok(earlier);
            }
            let Tagged { row, tag } = ring;
            let changed = connection.execute(
                "INSERT INTO key_rings (ring_id, uid, labels, created, revision, tag) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (ring_id) DO NOTHING",
                params![
                    row.id.as_str(),
                    row.uid.as_bytes(),
                    labels_text(&row.labels),
                    micros(row.created) as i64,
                    row.revision as i64,
                    tag
                ],
            )?;
            if changed == 0 {
                return Err(StoreError::AlreadyExists(format!("keyRings/{}", row.id)));
            }
            Ok(Created::New)
        })
        .await
    }

    async fn ring(&self, id: &Id) -> Result<Option<Tagged<RingRow>>, StoreError> {
        let id = id.clone();
        self.query(move |connection| {
            connection
                .prepare_cached(&format!("SELECT {RING_COLUMNS} FROM key_rings WHERE ring_id = ?1"))?
                .query_row([id.as_str()], |row| Ok(read_ring(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    async fn rings(&self, after: Option<&[u8]>, limit: u32) -> Result<Vec<Listed<Tagged<RingRow>>>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.query(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {RING_COLUMNS} FROM key_rings WHERE ring_id > CAST(?1 AS TEXT) ORDER BY ring_id LIMIT ?2"
            ))?;
            let mut rows = statement.query(params![after, limit])?;
            let mut rings = Vec::new();
            while let Some(row) = rows.next()? {
                rings.push(Listed {
                    id: raw(row, 0)?,
                    shown: shown(row, 0)?,
                    row: read_ring(row),
                });
            }
            Ok(rings)
        })
        .await
    }

    async fn create_key(&self, key: StoredKey, once: Option<Idempotency>) -> Result<Created, StoreError> {
        self.change(move |connection| {
            if let Some(earlier) = recognise(connection, once.as_ref())? {
                return Ok(earlier);
            }
            insert_key(connection, key)?;
            Ok(Created::New)
        })
        .await
    }

    async fn key(&self, ring: &Id, key: &Id) -> Result<Option<StoredKey>, StoreError> {
        let name = KeyName {
            ring: ring.clone(),
            key: key.clone(),
        };
        self.query(move |connection| {
            let key = connection
                .prepare_cached(&format!(
                    "SELECT {KEY_COLUMNS} FROM keys WHERE ring_id = ?1 AND key_id = ?2"
                ))?
                .query_row([name.ring.as_str(), name.key.as_str()], |row| Ok(read_key(row)))
                .optional()?
                .transpose()?;
            key.map(|key| with_versions(connection, key)).transpose()
        })
        .await
    }

    async fn keys(&self, ring: &Id, after: Option<&[u8]>, limit: u32) -> Result<Vec<Listed<StoredKey>>, StoreError> {
        let ring = ring.clone();
        let after = after.unwrap_or_default().to_owned();
        self.query(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {KEY_COLUMNS} FROM keys WHERE ring_id = ?1 AND key_id > CAST(?2 AS TEXT) ORDER BY key_id LIMIT ?3"
            ))?;
            let mut rows = statement.query(params![ring.as_str(), after, limit])?;
            let mut keys = Vec::new();
            while let Some(row) = rows.next()? {
                let key = read_key(row).and_then(|key| with_versions(connection, key));
                keys.push(Listed { id: raw(row, 2)?, shown: shown(row, 2)?, row: key });
            }
            Ok(keys)
        })
        .await
    }

    async fn earlier(&self, once: &Idempotency) -> Result<Option<Created>, StoreError> {
        let once = once.clone();
        self.query(move |connection| look_up(connection, &once)).await
    }

    async fn begin_resident(&self, intent: Tagged<ResidentIntent>) -> Result<(), StoreError> {
        self.change(move |connection| {
            let Tagged { row, tag } = intent;
            connection.execute(
                "INSERT INTO resident_intents (uid, version, member, tag) VALUES (?1, ?2, ?3, ?4)",
                params![row.uid.as_bytes(), row.version, row.member, tag],
            )?;
            Ok(())
        })
        .await
    }

    async fn end_resident(&self, uid: Uuid, version: u32) -> Result<(), StoreError> {
        self.change(move |connection| end_intent(connection, uid, version))
            .await
    }

    async fn resident_intents(&self) -> Result<Vec<Tagged<ResidentIntent>>, StoreError> {
        self.query(|connection| {
            connection
                .prepare("SELECT uid, version, member, tag FROM resident_intents")?
                .query_map([], |row| {
                    Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .map(|row| {
                    let (uid, version, member, tag) = row?;
                    Ok(Tagged {
                        row: ResidentIntent {
                            uid: Uuid::from_bytes(uid),
                            version,
                            member,
                        },
                        tag,
                    })
                })
                .collect()
        })
        .await
    }

    async fn has_key(&self, uid: Uuid) -> Result<bool, StoreError> {
        self.query(move |connection| {
            Ok(connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE uid = ?1)")?
                .query_row([uid.as_bytes()], |row| row.get(0))?)
        })
        .await
    }

    async fn close(&self) {
        lock(&self.shared.writer).take();
        lock(&self.shared.reader).take();
        let threads: Vec<_> = lock(&self.shared.threads).drain(..).collect();
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        })
        .await;
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// Runs changes until the channel closes: all that wait, up to a limit, in one transaction.
fn write(connection: Connection, mut changes: mpsc::Receiver<Change>) {
    let mut batch = Vec::new();
    while changes.blocking_recv_many(&mut batch, BATCH) > 0 {
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

/// Whether a request is a repetition; notes it if it is not.
fn recognise(connection: &Connection, once: Option<&Idempotency>) -> Result<Option<Created>, StoreError> {
    let Some(once) = once else { return Ok(None) };
    if let Some(earlier) = look_up(connection, once)? {
        return Ok(Some(earlier));
    }
    let time = micros(now()) as i64;
    connection.execute("DELETE FROM requests WHERE time <= ?1", [time - REQUESTS_KEPT_MICROS])?;
    connection.execute(
        "INSERT INTO requests (principal, request_id, request_hash, time) VALUES (?1, ?2, ?3, ?4)",
        params![once.principal, once.request_id.as_bytes(), once.request_hash, time],
    )?;
    Ok(None)
}

fn look_up(connection: &Connection, once: &Idempotency) -> Result<Option<Created>, StoreError> {
    let hash: Option<Vec<u8>> = connection
        .prepare_cached("SELECT request_hash FROM requests WHERE principal = ?1 AND request_id = ?2 AND time > ?3")?
        .query_row(
            params![
                once.principal,
                once.request_id.as_bytes(),
                micros(now()) as i64 - REQUESTS_KEPT_MICROS
            ],
            |row| row.get(0),
        )
        .optional()?;
    match hash {
        None => Ok(None),
        Some(hash) if hash == once.request_hash => Ok(Some(Created::Before)),
        Some(_) => Err(StoreError::RequestIdReused),
    }
}

fn insert_key(connection: &Connection, StoredKey { key, versions }: StoredKey) -> Result<(), StoreError> {
    let Tagged { row, tag } = key;
    let ring_exists: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM key_rings WHERE ring_id = ?1)")?
        .query_row([row.name.ring.as_str()], |row| row.get(0))?;
    if !ring_exists {
        return Err(StoreError::NotFound(format!("keyRings/{}", row.name.ring)));
    }
    let changed = connection
        .prepare_cached(
            "INSERT INTO keys
             (uid, ring_id, key_id, purpose, protection, labels, primary_version, created, revision, tag)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (ring_id, key_id) DO NOTHING",
        )?
        .execute(params![
            row.uid.as_bytes(),
            row.name.ring.as_str(),
            row.name.key.as_str(),
            row.purpose as i64,
            row.protection as i64,
            labels_text(&row.labels),
            row.primary_version,
            micros(row.created) as i64,
            row.revision as i64,
            tag
        ])?;
    if changed == 0 {
        return Err(StoreError::AlreadyExists(row.name.to_string()));
    }
    for Tagged { row, tag } in versions {
        connection
            .prepare_cached(
                "INSERT INTO key_versions (key_uid, number, state, members, created, revision, token, tag)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                row.key_uid.as_bytes(),
                row.number,
                row.state as i64,
                members_text(&row.members),
                micros(row.created) as i64,
                row.revision as i64,
                row.token,
                tag
            ])?;
        end_intent(connection, row.key_uid, row.number)?;
    }
    Ok(())
}

fn end_intent(connection: &Connection, uid: Uuid, version: u32) -> Result<(), StoreError> {
    connection.execute(
        "DELETE FROM resident_intents WHERE uid = ?1 AND version = ?2",
        params![uid.as_bytes(), version],
    )?;
    Ok(())
}

fn with_versions(connection: &Connection, key: Tagged<KeyRow>) -> Result<StoredKey, StoreError> {
    let name = key.row.name.to_string();
    let mut statement = connection.prepare_cached(
        "SELECT key_uid, number, state, members, created, revision, token, tag
         FROM key_versions WHERE key_uid = ?1 ORDER BY number",
    )?;
    let versions = statement
        .query_map([key.row.uid.as_bytes()], |row| Ok(read_version(row, &name)))?
        .map(|row| row?)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(StoredKey { key, versions })
}

fn late() -> StoreError {
    StoreError::Database("it did not answer before the caller's deadline; nothing was changed".to_owned())
}

fn closed() -> StoreError {
    StoreError::Database("the store is closed".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

const QUEUE: usize = 1024;
const BATCH: usize = 256;
const REQUESTS_KEPT_MICROS: i64 = 24 * 3600 * 1_000_000;

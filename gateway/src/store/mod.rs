//! Where keys are kept. An interface that several databases can fill; SQLite is the first.
//!
//! The store is not trusted: every row and token carries a tag of the domain's mac key, which the reader checks. It is
//! trusted to lose nothing that it confirmed.

mod lock;
mod offline;
mod opening;
mod precautions;
mod schema;
mod sqlite;
mod upgrade;

pub use lock::StateLock;
pub use offline::{AuthenticForm, Content, copy_database, dependent_rows, inspect};
pub(crate) use opening::{beside, create_private, database_path, put_in_place};
pub(crate) use precautions::{Lost, LostChange, Numbers, Precautions, Taken, take_precautions};
pub use sqlite::SqliteStore;

use crate::keys::{
    document::{DocumentKey, DocumentRow},
    name::{Id, KeyName},
    record::{KeyRow, Restriction, RingRow, Row, StoredKey, Tagged, VersionRow},
    use_count::UseCountRow,
};
use async_trait::async_trait;
use portcullis_hsm::{key_token::ResidentName, record::CanonicalWriter};
use std::{fmt, sync::Arc, time::Instant};
use time::OffsetDateTime;
use uuid::Uuid;

/// A caller's promise to recognise its own repetition: same principal and id, same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Who chose the id.
    pub principal: String,
    /// The id.
    pub request_id: Uuid,
    /// SHA-256 of the request.
    pub request_hash: [u8; 32],
    /// The version that the request makes, once that is known: a repetition is answered with it.
    pub version: Option<u32>,
}

/// What is known of an earlier, equal request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The version that it made, where that was noted.
    pub version: Option<u32>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made now.
    New,
    /// The same request made it before; nothing was changed.
    Before,
}

/// A change of a key and its versions, all or nothing. Each row that is there already is replaced only if it has still the
/// revision before the new one's.
#[derive(Debug, Clone)]
pub struct KeyChange {
    /// The key.
    pub name: KeyName,
    /// Its new row, if that changes.
    pub key: Option<Tagged<KeyRow>>,
    /// New rows of versions. One of revision 1 is added, others replace; a restriction of theirs is part of them now.
    pub versions: Vec<Tagged<VersionRow>>,
}

/// A resident key that is being created: what must be cleaned up if the create does not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidentIntent {
    /// The key's identity.
    pub uid: Uuid,
    /// The version's number.
    pub version: u32,
    /// The member on which it is created.
    pub member: String,
    /// Which making of the version it is; none in a note of before makings had a name.
    pub making: Option<Uuid>,
}

impl ResidentIntent {
    /// What its objects are called.
    pub fn name(&self) -> ResidentName {
        ResidentName {
            uid: self.uid,
            version: self.version,
            making: self.making,
        }
    }
}

impl Row for ResidentIntent {
    fn canonical(&self) -> Vec<u8> {
        let label: &[u8] = match self.making {
            None => b"resident_intent/1",
            Some(_) => b"resident_intent/2",
        };
        let writer = CanonicalWriter::new()
            .bytes(label)
            .fixed(self.uid.as_bytes())
            .u32(self.version)
            .bytes(self.member.as_bytes());
        match &self.making {
            None => writer.finish(),
            Some(making) => writer.fixed(making.as_bytes()).finish(),
        }
    }
}

/// What is stored of a version's uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUseCount {
    /// What was counted.
    pub counted: Option<Tagged<UseCountRow>>,
    /// How many encryptions more a restore presumed, until the version is counted again.
    pub presumed: u64,
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is taken.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// What it should belong to does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// It changed since it was read.
    #[error("{0} was changed by somebody else at the same time")]
    Conflict(String),
    /// The request id was used for another request.
    #[error("the request_id was used for another request")]
    RequestIdReused,
    /// A row cannot be read as what it should be.
    #[error("the stored record of {0} is malformed")]
    Malformed(String),
    /// The caller's deadline passed first; whatever the database would have said, it had not said it.
    #[error("the gateway's database did not answer before the deadline; nothing was changed")]
    Late,
    /// The state directory cannot be had.
    #[error("{0}")]
    StateDirectory(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(String),
}

/// A row in a list. Its id is whatever the database holds, so that a list goes on after any row.
#[derive(Debug)]
pub struct Listed<T> {
    /// The id's bytes.
    pub id: Vec<u8>,
    /// The id as it can be shown.
    pub shown: String,
    /// The row, or why it cannot be read.
    pub row: Result<T, StoreError>,
}

/// A store of rings and keys.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The same store for somebody who waits until `deadline`. What was not begun by then is never done, and fails; a change that is
    /// being made is waited for, because what came of it must be known.
    fn by(&self, deadline: Instant) -> Arc<dyn Store>;

    /// Adds a ring.
    async fn create_ring(&self, ring: Tagged<RingRow>, once: Option<Idempotency>) -> Result<Created, StoreError>;

    /// A ring by its id.
    async fn ring(&self, id: &Id) -> Result<Option<Tagged<RingRow>>, StoreError>;

    /// At most `limit` rings by id, after one. A row that cannot be read is an error in its place.
    async fn rings(&self, after: Option<&[u8]>, limit: u32) -> Result<Vec<Listed<Tagged<RingRow>>>, StoreError>;

    /// Adds a key with its first version, all or nothing, and ends its resident intent, if it has one.
    async fn create_key(&self, key: StoredKey, once: Option<Idempotency>) -> Result<Created, StoreError>;

    /// A key with its versions, by name.
    async fn key(&self, ring: &Id, key: &Id) -> Result<Option<StoredKey>, StoreError>;

    /// At most `limit` keys of a ring by id, after one. A row that cannot be read is an error in its place.
    async fn keys(&self, ring: &Id, after: Option<&[u8]>, limit: u32) -> Result<Vec<Listed<StoredKey>>, StoreError>;

    /// What is known of an earlier request with this id, if there was one in the last 24 hours. One that was not the same is an error.
    async fn earlier(&self, once: &Idempotency) -> Result<Option<Earlier>, StoreError>;

    /// Notes that a resident key is about to be created.
    async fn begin_resident(&self, intent: Tagged<ResidentIntent>) -> Result<(), StoreError>;

    /// Notes that an intended resident key is no more.
    async fn end_resident(&self, uid: Uuid, version: u32) -> Result<(), StoreError>;

    /// The resident keys whose creation did not end. A row that cannot be read is an error in its place.
    async fn resident_intents(&self) -> Result<Vec<Result<Tagged<ResidentIntent>, StoreError>>, StoreError>;

    /// Whether a version of a key of this identity is stored with key material.
    async fn has_version(&self, uid: Uuid, version: u32) -> Result<bool, StoreError>;

    /// Replaces a ring that has still the revision before the new one's.
    async fn update_ring(&self, ring: Tagged<RingRow>, once: Option<Idempotency>) -> Result<Created, StoreError>;

    /// Changes a key and its versions. Ends the resident intents of versions that are added.
    async fn change_key(&self, change: KeyChange, once: Option<Idempotency>) -> Result<Created, StoreError>;

    /// Restricts a version without its tag; an earlier restriction of it is replaced.
    async fn restrict(&self, restriction: Restriction, once: Option<Idempotency>) -> Result<Created, StoreError>;

    /// The keys that have versions with restrictions or holds.
    async fn restricted_keys(&self) -> Result<Vec<KeyName>, StoreError>;

    /// The key under which page tokens are sealed; made when it is first asked for.
    async fn page_token_key(&self) -> Result<[u8; 32], StoreError>;

    /// The keys with versions that are being destroyed, or are to be destroyed until a time; at most `limit`.
    async fn due_for_destruction(&self, until: OffsetDateTime, limit: u32) -> Result<Vec<KeyName>, StoreError>;

    /// What is stored of how often a version was used.
    async fn use_count(&self, uid: Uuid, version: u32) -> Result<StoredUseCount, StoreError>;

    /// From when on a principal's ephemeral keys of a ring are good, as far as a restore presumed it: microseconds since 1970, or 0.
    async fn presumed_revocation(&self, ring: &Id, principal: &str) -> Result<u64, StoreError>;

    /// Stores how often versions were used.
    async fn put_use_counts(&self, counts: Vec<Tagged<UseCountRow>>) -> Result<(), StoreError>;

    /// At most `limit` identities between two of which use counts are stored and no key: those of ephemeral keys. In their order.
    async fn ephemeral_use_counts(&self, after: Uuid, before: Uuid, limit: u32) -> Result<Vec<Uuid>, StoreError>;

    /// Removes the use counts of these identities, and what is presumed of them.
    async fn remove_use_counts(&self, of: Vec<Uuid>) -> Result<(), StoreError>;

    /// Adds a document (revision 1), or replaces one that has still the revision before.
    async fn put_document(
        &self,
        document: Tagged<DocumentRow>,
        once: Option<Idempotency>,
    ) -> Result<Created, StoreError>;

    /// A document.
    async fn document(&self, key: &DocumentKey) -> Result<Option<Tagged<DocumentRow>>, StoreError>;

    /// At most `limit` documents of a kind in a ring by id, after one. A row that cannot be read is an error in its place.
    async fn documents(
        &self,
        kind: &'static str,
        ring: &str,
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Vec<Listed<Tagged<DocumentRow>>>, StoreError>;

    /// The rings that have documents of a kind.
    async fn document_rings(&self, kind: &'static str) -> Result<Vec<String>, StoreError>;

    /// Removes a document that has still this revision.
    async fn delete_document(
        &self,
        key: &DocumentKey,
        revision: u64,
        once: Option<Idempotency>,
    ) -> Result<Created, StoreError>;

    /// Finishes what was accepted and closes the database.
    async fn close(&self);
}

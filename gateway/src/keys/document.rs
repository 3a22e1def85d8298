//! Small things that belong to a ring and are authenticated like keys: aliases, import jobs, recipients, objects,
//! revocations. They share one table, one cache and one way of being changed; each kind says how its content is written.

use super::{
    directory::DirectoryError,
    locks::Locks,
    name::Id,
    record::{Row, Tagged, micros, now},
};
use crate::{
    cluster::{Cluster, operation::Claim},
    keys::directory::Page,
    store::{Created, Idempotency, Listed, Store, StoreError},
};
use moka::future::Cache;
use portcullis_hsm::record::{CanonicalError, CanonicalReader, CanonicalWriter, RecordKind};
use sha2::{Digest, Sha256};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// The content of a kind of document.
pub trait Document: Sized + Send + Sync {
    /// The kind with the number of its layout, such as `alias/1`. Permanent.
    const KIND: &'static str;
    /// The collection in names, such as `aliases` in `keyRings/{ring}/aliases/{id}`.
    const COLLECTION: &'static str;

    /// Writes the content.
    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter;

    /// Reads what [`Document::write`] wrote.
    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError>;
}

/// Which document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DocumentKey {
    /// Its kind.
    pub kind: &'static str,
    /// The ring that it belongs to; empty where it belongs to none.
    pub ring: String,
    /// Its id in that ring.
    pub id: String,
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// Which one it is.
    pub key: DocumentKey,
    /// Its identity.
    pub uid: Uuid,
    /// When it was made.
    pub created: OffsetDateTime,
    /// When it was changed last.
    pub updated: OffsetDateTime,
    /// Counts changes, from 1.
    pub revision: u64,
    /// Its content in canonical form.
    pub body: Vec<u8>,
}

impl Row for DocumentRow {
    fn canonical(&self) -> Vec<u8> {
        let [kind, ring, id] = [self.key.kind, &self.key.ring, &self.key.id];
        let times = [self.created, self.updated].map(micros);
        canonical_form([kind, ring, id], self.uid, times, self.revision, &self.body)
    }
}

/// The canonical form of a document of any kind: kind, ring and id; times of creation and of the last change.
pub(crate) fn canonical_form(names: [&str; 3], uid: Uuid, times: [u64; 2], revision: u64, body: &[u8]) -> Vec<u8> {
    let writer = CanonicalWriter::new().bytes(b"document/1");
    let writer = names
        .into_iter()
        .fold(writer, |writer, name| writer.bytes(name.as_bytes()));
    let writer = writer.fixed(uid.as_bytes());
    let writer = times.into_iter().fold(writer, CanonicalWriter::u64);
    writer.u64(revision).bytes(body).finish()
}

/// A checked document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<D> {
    /// Its id.
    pub id: String,
    /// Its identity.
    pub uid: Uuid,
    /// When it was made.
    pub created: OffsetDateTime,
    /// When it was changed last.
    pub updated: OffsetDateTime,
    /// Counts changes, from 1.
    pub revision: u64,
    /// What it says.
    pub content: D,
}

/// The documents, checked once and then kept in memory.
#[derive(Debug)]
pub struct Documents {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    known: Cache<DocumentKey, Known>,
    // Digests of rows with their tags that an HSM found authentic, so that lists need not ask again. Nothing that changes is kept.
    authentic: Cache<[u8; 32], ()>,
    locks: Locks,
}

/// A document in memory: as it was stored, and when that was seen.
#[derive(Debug, Clone)]
struct Known {
    stored: Arc<Tagged<DocumentRow>>,
    seen: Instant,
}

impl Known {
    fn now(stored: Arc<Tagged<DocumentRow>>) -> Self {
        Self {
            stored,
            seen: Instant::now(),
        }
    }
}

impl Documents {
    /// Keeps at most `capacity` of them in memory.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>, capacity: u32) -> Self {
        Self {
            store,
            cluster,
            known: Cache::new(capacity.into()),
            authentic: Cache::new(capacity.into()),
            locks: Locks::new(),
        }
    }

    /// A document; `None` if there is none of this id. What another gateway over the same store changed is seen after
    /// [`KEPT_UNSEEN`] at the latest.
    pub async fn find<D: Document>(
        &self,
        ring: &Id,
        id: &str,
        deadline: Instant,
    ) -> Result<Option<Stored<D>>, DirectoryError> {
        let key = key_of::<D>(ring, id);
        match self.known.get(&key).await {
            Some(known) if known.seen.elapsed() < KEPT_UNSEEN => parse(&known.stored.row).map(Some),
            _ => self.find_stored(ring, id, deadline).await,
        }
    }

    /// A document as it is stored now.
    pub async fn find_stored<D: Document>(
        &self,
        ring: &Id,
        id: &str,
        deadline: Instant,
    ) -> Result<Option<Stored<D>>, DirectoryError> {
        let key = key_of::<D>(ring, id);
        // Nobody changes the document between the reading and the keeping of it.
        let _lock = self.locks.lock(&key, deadline).await?;
        match self.read(&key, deadline).await? {
            Some(stored) => parse(&stored.row).map(Some),
            None => Ok(None),
        }
    }

    /// Reads, checks and keeps a document; its lock is held. What is stored as it was when it was checked needs no HSM again.
    async fn read(
        &self,
        key: &DocumentKey,
        deadline: Instant,
    ) -> Result<Option<Arc<Tagged<DocumentRow>>>, DirectoryError> {
        let Some(stored) = self.store.by(deadline).document(key).await? else {
            self.known.invalidate(key).await;
            return Ok(None);
        };
        let checked = self.known.get(key).await.map(|known| known.stored);
        let stored = match checked.filter(|checked| **checked == stored) {
            Some(checked) => checked,
            None => {
                self.known.invalidate(key).await;
                self.check(&stored, deadline).await?;
                Arc::new(stored)
            }
        };
        self.known.insert(key.clone(), Known::now(Arc::clone(&stored))).await;
        Ok(Some(stored))
    }

    /// At most `limit` documents of a kind in a ring, after one.
    pub async fn list<D: Document>(
        &self,
        ring: &Id,
        after: Option<&[u8]>,
        limit: u32,
        deadline: Instant,
    ) -> Result<Page<Stored<D>>, DirectoryError> {
        let stored = self
            .store
            .by(deadline)
            .documents(D::KIND, ring.as_str(), after, limit + 1)
            .await?;
        let (stored, mut page) = Page::cut(stored, limit);
        let mut readable = Vec::new();
        for Listed { shown, row, .. } in stored {
            match row {
                Ok(row) => readable.push(row),
                Err(StoreError::Malformed(_)) => page.unauthentic.push(name_of::<D>(ring.as_str(), &shown)),
                Err(error) => return Err(error.into()),
            }
        }
        let verdicts = self.are_authentic(&readable, deadline).await?;
        for (Tagged { row, .. }, authentic) in readable.into_iter().zip(verdicts) {
            match parse(&row) {
                Ok(document) if authentic => page.found.push(document),
                _ => page.unauthentic.push(name_of::<D>(&row.key.ring, &row.key.id)),
            }
        }
        Ok(page)
    }

    /// The rings that have documents of a kind.
    pub async fn rings_with<D: Document>(&self, deadline: Instant) -> Result<Vec<Id>, DocumentError> {
        let rings = self.store.by(deadline).document_rings(D::KIND).await?;
        // An id that is none is in a row that was changed.
        Ok(rings.iter().filter_map(|ring| Id::parse(ring).ok()).collect())
    }

    /// The ids of a ring's documents whose content is of some sort. Their tags are not checked: this says only at which a closer
    /// look is worth while.
    pub async fn likely<D: Document>(
        &self,
        ring: &Id,
        is_wanted: impl Fn(&D) -> bool,
        deadline: Instant,
    ) -> Result<Vec<String>, DocumentError> {
        let mut likely = Vec::new();
        let mut after = None;
        loop {
            let store = self.store.by(deadline);
            let page = store.documents(D::KIND, ring.as_str(), after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(likely) };
            after = Some(last.id.clone());
            let readable = page.into_iter().filter_map(|listed| listed.row.ok());
            let wanted = readable.filter(|row| parse(&row.row).is_ok_and(|found| is_wanted(&found.content)));
            likely.extend(wanted.map(|row| row.row.key.id));
        }
    }

    /// Adds a document, or returns the one that the same request added before.
    pub async fn create<D: Document>(
        &self,
        ring: &Id,
        id: &str,
        content: &D,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Stored<D>, DocumentError> {
        let key = key_of::<D>(ring, id);
        let time = now();
        let row = DocumentRow {
            key: key.clone(),
            uid: Uuid::now_v7(),
            created: time,
            updated: time,
            revision: 1,
            body: content.write(CanonicalWriter::new()).finish(),
        };
        let again = {
            let _lock = self.locks.lock(&key, deadline).await?;
            self.put(row, once, deadline).await?
        };
        match again {
            Ok(stored) => Ok(stored),
            Err(Repeated) => self.repeated(ring, id, deadline).await,
        }
    }

    /// Replaces a document by what `change` makes of it. `expected` is the revision that the caller knows, if it says so.
    pub async fn update<D: Document, E: From<DocumentError>>(
        &self,
        ring: &Id,
        id: &str,
        expected: Option<u64>,
        once: Option<Idempotency>,
        deadline: Instant,
        change: impl FnOnce(Stored<D>) -> Result<D, E>,
    ) -> Result<Stored<D>, E> {
        let key = key_of::<D>(ring, id);
        let again = {
            let _lock = self.locks.lock(&key, deadline).await.map_err(DocumentError::from)?;
            let row = self.current::<D>(&key, deadline).await?;
            if expected.is_some_and(|expected| expected != row.revision)
                && !self.is_repetition(once.as_ref(), deadline).await?
            {
                return Err(DocumentError::Stale(name_of::<D>(&key.ring, &key.id)).into());
            }
            let content = change(parse(&row).map_err(DocumentError::from)?)?;
            let next = DocumentRow {
                updated: now(),
                revision: row.revision + 1,
                body: content.write(CanonicalWriter::new()).finish(),
                ..row
            };
            self.put(next, once, deadline).await?
        };
        match again {
            Ok(stored) => Ok(stored),
            Err(Repeated) => Ok(self.repeated(ring, id, deadline).await?),
        }
    }

    /// Removes a document. Its repetition by the same request succeeds.
    pub async fn delete<D: Document>(
        &self,
        ring: &Id,
        id: &str,
        expected: Option<u64>,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<(), DocumentError> {
        let key = key_of::<D>(ring, id);
        let _lock = self.locks.lock(&key, deadline).await?;
        if self.is_repetition(once.as_ref(), deadline).await? {
            return Ok(());
        }
        let row = self.current::<D>(&key, deadline).await?;
        if expected.is_some_and(|expected| expected != row.revision) {
            return Err(DocumentError::Stale(name_of::<D>(&key.ring, &key.id)));
        }
        self.store
            .by(deadline)
            .delete_document(&key, row.revision, once)
            .await?;
        self.known.invalidate(&key).await;
        Ok(())
    }

    /// Whether the same request made its change before.
    pub async fn is_repetition(&self, once: Option<&Idempotency>, deadline: Instant) -> Result<bool, DocumentError> {
        match once {
            Some(once) => Ok(self.store.by(deadline).earlier(once).await?.is_some()),
            None => Ok(false),
        }
    }

    /// The document as it stands; its lock is held.
    async fn current<D: Document>(&self, key: &DocumentKey, deadline: Instant) -> Result<DocumentRow, DocumentError> {
        match self.read(key, deadline).await? {
            Some(stored) => Ok(stored.row.clone()),
            None => Err(DocumentError::Missing(name_of::<D>(&key.ring, &key.id))),
        }
    }

    /// Authenticates and stores a row; its lock is held.
    async fn put<D: Document>(
        &self,
        row: DocumentRow,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Result<Stored<D>, Repeated>, DocumentError> {
        let mut tags = self.cluster.authenticate_rows(vec![row.canonical()], deadline).await?;
        let tag = tags.pop().ok_or(crate::cluster::ClusterError::Protocol)?;
        let tagged = Tagged::new(row, tag);
        match self.store.by(deadline).put_document(tagged.clone(), once).await? {
            Created::New => {
                let stored = parse(&tagged.row)?;
                let key = tagged.row.key.clone();
                self.known.insert(key, Known::now(Arc::new(tagged))).await;
                Ok(Ok(stored))
            }
            Created::Before => Ok(Err(Repeated)),
        }
    }

    async fn repeated<D: Document>(&self, ring: &Id, id: &str, deadline: Instant) -> Result<Stored<D>, DocumentError> {
        let found = self.find(ring, id, deadline).await?;
        found.ok_or_else(|| DocumentError::Missing(name_of::<D>(ring.as_str(), id)))
    }

    /// Whether rows are authentic, in order. An HSM is asked once for each row and tag.
    async fn are_authentic(
        &self,
        rows: &[Tagged<DocumentRow>],
        deadline: Instant,
    ) -> Result<Vec<bool>, DirectoryError> {
        let mut verdicts = Vec::with_capacity(rows.len());
        let mut unknown = Vec::new();
        for stored in rows {
            let claim = claim(stored);
            let digest: [u8; 32] = Sha256::new_with_prefix((claim.message.len() as u64).to_be_bytes())
                .chain_update(&claim.message)
                .chain_update(&claim.tag)
                .finalize()
                .into();
            let known = self.authentic.contains_key(&digest);
            if !known {
                unknown.push((verdicts.len(), digest, claim));
            }
            verdicts.push(known);
        }
        if unknown.is_empty() {
            return Ok(verdicts);
        }
        let claims: Vec<_> = unknown.iter().map(|(.., claim)| claim.clone()).collect();
        let checked = self.cluster.check(&claims, deadline).await?;
        for ((index, digest, _), authentic) in unknown.into_iter().zip(checked) {
            verdicts[index] = authentic;
            if authentic {
                self.authentic.insert(digest, ()).await;
            }
        }
        Ok(verdicts)
    }

    async fn check(&self, stored: &Tagged<DocumentRow>, deadline: Instant) -> Result<(), DirectoryError> {
        match self
            .are_authentic(std::slice::from_ref(stored), deadline)
            .await?
            .as_slice()
        {
            [true] => Ok(()),
            _ => {
                let DocumentKey { kind, ring, id } = &stored.row.key;
                tracing::error!(kind, ring, id, "a stored document is not authentic");
                Err(not_authentic(&stored.row))
            }
        }
    }
}

/// Why a document was not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// There is none.
    #[error("{0} does not exist")]
    Missing(String),
    /// It changed since the caller read it.
    #[error("{0} has changed since: read it again for its etag")]
    Stale(String),
    /// It could not be read or authenticated.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HSMs refused.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
}

/// The same request made the change before.
struct Repeated;

/// So many are read at once.
const PAGE: u32 = 500;

/// The name of a document.
pub fn name_of<D: Document>(ring: &str, id: &str) -> String {
    format!("keyRings/{ring}/{}/{id}", D::COLLECTION)
}

fn key_of<D: Document>(ring: &Id, id: &str) -> DocumentKey {
    DocumentKey {
        kind: D::KIND,
        ring: ring.to_string(),
        id: id.to_owned(),
    }
}

fn claim(stored: &Tagged<DocumentRow>) -> Claim {
    Claim {
        kind: RecordKind::Row,
        message: stored.row.canonical(),
        tag: stored.tag.clone(),
    }
}

fn parse<D: Document>(row: &DocumentRow) -> Result<Stored<D>, DirectoryError> {
    let mut reader = CanonicalReader::new(&row.body);
    let content = D::read(&mut reader).and_then(|content| reader.finish().map(|()| content));
    Ok(Stored {
        id: row.key.id.clone(),
        uid: row.uid,
        created: row.created,
        updated: row.updated,
        revision: row.revision,
        content: content.map_err(|_| not_authentic(row))?,
    })
}

fn not_authentic(row: &DocumentRow) -> DirectoryError {
    DirectoryError::NotAuthentic {
        name: format!("keyRings/{}: {} {}", row.key.ring, row.key.kind, row.key.id),
        what: "its row".to_owned(),
    }
}

/// How long a change by another gateway over the same store may stay unseen.
pub const KEPT_UNSEEN: Duration = Duration::from_secs(5);

//! How keys and rings come to be: all or nothing, and once for each request id.

use super::{
    directory::{BACKGROUND_DEADLINE, DirectoryError, KeyDirectory, KeyRecord},
    name::{Id, KeyName},
    purpose::Purpose,
    record::{KeyRow, Protection, RingRow, Row, StoredKey, Tagged, VersionRow, now},
    state::VersionState,
};
use crate::{
    audit::{AuditError, AuditLog, Entry},
    cluster::{
        Cluster, ClusterError,
        core::{MemberIndex, Needs},
        operation::{Claim, KeySpecification},
    },
    store::{Created, Idempotency, ResidentIntent, Store, StoreError},
};
use portcullis_hsm::{
    algorithm::{KeyType, PermittedUses},
    key_token::Storage,
    record::RecordKind,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use uuid::Uuid;

/// A key that a caller wants.
#[derive(Debug, Clone)]
pub struct WantedKey {
    /// Its name.
    pub name: KeyName,
    /// What it is.
    pub key_type: KeyType,
    /// Why it exists.
    pub purpose: Purpose,
    /// What it may do.
    pub uses: PermittedUses,
    /// How it is kept.
    pub protection: Protection,
    /// Whether it may be exported under another HSM key.
    pub exportable: bool,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// The member that shall hold a resident key.
    pub member: Option<MemberIndex>,
}

/// Why nothing was created.
#[derive(Debug, thiserror::Error)]
pub enum CreationError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HSMs refused.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A record could not be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The audit log could not be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Makes keys and rings.
#[derive(Debug)]
pub struct Creation {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    directory: Arc<KeyDirectory>,
    under_way: UnderWay,
}

/// The resident keys that are being made now: their notes are not those of an interrupted create.
#[derive(Debug, Default)]
struct UnderWay(Mutex<HashSet<Uuid>>);

struct Entered<'a>(&'a UnderWay, Uuid);

impl UnderWay {
    fn enter(&self, uid: Uuid) -> Entered<'_> {
        self.lock().insert(uid);
        Entered(self, uid)
    }

    fn contains(&self, uid: Uuid) -> bool {
        self.lock().contains(&uid)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Creation {
    /// Works on these.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>, directory: Arc<KeyDirectory>) -> Self {
        Self {
            store,
            cluster,
            directory,
            under_way: UnderWay::default(),
        }
    }

    /// Creates a ring, or returns the one that the same request created before.
    pub async fn ring(
        &self,
        id: &Id,
        labels: BTreeMap<String, String>,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<RingRow, CreationError> {
        let row = RingRow {
            id: id.clone(),
            uid: Uuid::now_v7(),
            labels,
            created: now(),
            revision: 1,
        };
        let [tag] = self.tags([&row as &dyn Row], deadline).await?;
        match self
            .store
            .by(deadline)
            .create_ring(Tagged::new(row.clone(), tag), once)
            .await?
        {
            Created::New => Ok(row),
            Created::Before => Ok(self.directory.ring(id, deadline).await?),
        }
    }

    /// Creates a key with its first version, or returns the one that the same request created before.
    ///
    /// When this returns a record, it is on disk. When it fails, nothing of the key is left that could be used.
    pub async fn key(
        &self,
        wanted: WantedKey,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, CreationError> {
        // Checked again by the commit; asked first, it spares the HSM.
        if let Created::Before = self.permit_key(&wanted, once.as_ref(), deadline).await? {
            return Ok(self.directory.key(&wanted.name, deadline).await?);
        }
        let specification = KeySpecification {
            uid: Uuid::now_v7(),
            version: 1,
            key_type: wanted.key_type,
            uses: wanted.uses.clone(),
            storage: match (wanted.protection, wanted.exportable) {
                (Protection::Resident, _) => Storage::Resident,
                (Protection::Wrapped, true) => Storage::Portable,
                (Protection::Wrapped, false) => Storage::Sealed,
            },
        };
        match wanted.protection {
            Protection::Wrapped => {
                let (token, _) = self.cluster.generate(&specification, None, deadline).await?;
                let (record, _) = self
                    .commit(wanted, &specification, token, Vec::new(), once, deadline)
                    .await?;
                Ok(record)
            }
            Protection::Resident => self.resident_key(wanted, specification, once, deadline).await,
        }
    }

    /// Checks all that can be checked before a key is made: its ring, its name, the members' abilities.
    pub async fn validate_key(
        &self,
        wanted: &WantedKey,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<(), CreationError> {
        if let Created::New = self.permit_key(wanted, once, deadline).await? {
            self.cluster.choose(&needs(wanted))?;
        }
        Ok(())
    }

    /// Checks all that can be checked before a ring is made: its name.
    pub async fn validate_ring(
        &self,
        id: &Id,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<(), CreationError> {
        if self.store.by(deadline).ring(id).await?.is_none() || self.is_repetition(once, deadline).await? {
            return Ok(());
        }
        Err(StoreError::AlreadyExists(format!("keyRings/{id}")).into())
    }

    /// Whether a key may be made, or was made before by the same request.
    async fn permit_key(
        &self,
        wanted: &WantedKey,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<Created, CreationError> {
        self.directory.ring(&wanted.name.ring, deadline).await?;
        // The name is looked at first: whoever took it has noted its request id in the same transaction.
        let taken = self
            .store
            .by(deadline)
            .key(&wanted.name.ring, &wanted.name.key)
            .await?
            .is_some();
        match (self.is_repetition(once, deadline).await?, taken) {
            (true, _) => Ok(Created::Before),
            (false, false) => Ok(Created::New),
            (false, true) => Err(StoreError::AlreadyExists(wanted.name.to_string()).into()),
        }
    }

    async fn is_repetition(&self, once: Option<&Idempotency>, deadline: Instant) -> Result<bool, CreationError> {
        match once {
            Some(once) => Ok(self.store.by(deadline).earlier(once).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Destroys the resident keys whose creation a crash or a failure interrupted, on the members that serve now.
    ///
    /// What is destroyed was noted by a row that the mac key authenticates, is not being created now, and is no stored key.
    pub async fn clear_interrupted(&self, audit: &AuditLog) {
        if let Err(error) = self.try_clear_interrupted(audit).await {
            tracing::warn!(%error, "interrupted resident creates are not cleared yet");
        }
    }

    async fn try_clear_interrupted(&self, audit: &AuditLog) -> Result<(), CreationError> {
        let intents = self.store.resident_intents().await?;
        if intents.is_empty() {
            return Ok(());
        }
        let claim = |intent: &Tagged<ResidentIntent>| Claim {
            kind: RecordKind::Row,
            message: intent.row.canonical(),
            tag: intent.tag.clone(),
        };
        let claims: Vec<_> = intents.iter().map(claim).collect();
        let authentic = self
            .cluster
            .check(&claims, Instant::now() + BACKGROUND_DEADLINE)
            .await?;
        for (Tagged { row, .. }, authentic) in intents.into_iter().zip(authentic) {
            let ResidentIntent { uid, version, member } = row;
            if self.under_way.contains(uid) {
                continue;
            }
            if !authentic || self.store.has_key(uid).await? {
                tracing::error!(%uid, member, "the note of an interrupted create is not authentic, or names a stored key: nothing is destroyed");
                continue;
            }
            let Some(index) = self.cluster.member(&member) else {
                tracing::warn!(%uid, member, "an interrupted resident create is on an unknown member");
                continue;
            };
            let mut entry = Entry::gateway("resident.clear", "INTENT");
            entry.resource = format!("{uid}/{version}");
            entry.member = Some(member);
            audit.append_synced(&entry).await?;
            let cleared = self.undo_resident(uid, version, index).await;
            entry.outcome = if cleared { "OK" } else { "HSM_UNAVAILABLE" }.to_owned();
            audit.append_synced(&entry).await?;
        }
        Ok(())
    }

    async fn resident_key(
        &self,
        wanted: WantedKey,
        specification: KeySpecification,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, CreationError> {
        let member = self.cluster.choose(&needs(&wanted))?;
        let (uid, version) = (specification.uid, specification.version);
        let name = self.cluster.name(member).to_owned();
        // Written first, so that a crash leaves no object on the token that nobody knows of.
        let intent = ResidentIntent {
            uid,
            version,
            member: name.clone(),
        };
        let _under_way = self.under_way.enter(uid);
        let [tag] = self.tags([&intent as &dyn Row], deadline).await?;
        self.store.by(deadline).begin_resident(Tagged::new(intent, tag)).await?;
        let made = async {
            let (token, _) = self.cluster.generate(&specification, Some(member), deadline).await?;
            self.commit(wanted, &specification, token, vec![name], once, deadline)
                .await
        };
        match made.await {
            Ok((record, Created::New)) => Ok(record),
            Ok((record, Created::Before)) => {
                self.undo_resident(uid, version, member).await;
                Ok(record)
            }
            Err(error) => {
                self.undo_resident(uid, version, member).await;
                Err(error)
            }
        }
    }

    /// Takes an unfinished resident key off its member; says whether it is gone. If not, its note stays for the next time.
    async fn undo_resident(&self, uid: Uuid, version: u32, member: MemberIndex) -> bool {
        let deadline = Instant::now() + BACKGROUND_DEADLINE;
        let undone = async {
            self.cluster.destroy_resident(uid, version, member, deadline).await?;
            Ok::<_, CreationError>(self.store.end_resident(uid, version).await?)
        };
        let undone = undone.await;
        if let Err(error) = &undone {
            let member = self.cluster.name(member);
            tracing::warn!(%uid, member, %error, "an unfinished resident key may still be on its member; it is cleared later");
        }
        undone.is_ok()
    }

    async fn commit(
        &self,
        wanted: WantedKey,
        specification: &KeySpecification,
        token: Vec<u8>,
        members: Vec<String>,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<(Arc<KeyRecord>, Created), CreationError> {
        let created = now();
        let key = KeyRow {
            name: wanted.name.clone(),
            uid: specification.uid,
            purpose: wanted.purpose,
            protection: wanted.protection,
            labels: wanted.labels,
            primary_version: specification.version,
            created,
            revision: 1,
        };
        let version = VersionRow {
            key_uid: specification.uid,
            number: specification.version,
            state: VersionState::Active,
            members,
            created,
            revision: 1,
            token,
        };
        let [key_tag, version_tag] = self.tags([&key as &dyn Row, &version], deadline).await?;
        let stored = StoredKey {
            key: Tagged::new(key, key_tag),
            versions: vec![Tagged::new(version, version_tag)],
        };
        match self.store.by(deadline).create_key(stored.clone(), once).await? {
            Created::New => {
                let record = self.directory.assemble(stored)?;
                self.directory.remember(&record).await;
                Ok((record, Created::New))
            }
            Created::Before => Ok((self.directory.key(&wanted.name, deadline).await?, Created::Before)),
        }
    }

    async fn tags<const N: usize>(
        &self,
        rows: [&dyn Row; N],
        deadline: Instant,
    ) -> Result<[portcullis_hsm::record::Tag; N], CreationError> {
        let tags = self
            .cluster
            .authenticate_rows(rows.map(Row::canonical).to_vec(), deadline)
            .await?;
        Ok(tags.try_into().map_err(|_| ClusterError::Protocol)?)
    }
}

/// What a member needs to make a key.
fn needs(wanted: &WantedKey) -> Needs {
    Needs {
        uses: wanted.uses.iter().map(|one| (one.operation, one.mechanism)).collect(),
        generates: Some(wanted.key_type),
        only: wanted.member.map(|member| vec![member]),
    }
}

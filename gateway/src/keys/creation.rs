//! How keys, rings and new versions come to be: all or nothing, and once for each request id.

use super::{
    change::{ChangeError, Changes, Mode, Plan, Terms, Windows, next_key, require_revision},
    directory::{KeyDirectory, KeyRecord},
    material::{Made, Materials},
    name::{Id, KeyName},
    purpose::Purpose,
    record::{History, KeyProfile, KeyRow, Layout, Protection, RingRow, StoredKey, Tagged, VersionRow, now},
    state::VersionState,
};
use crate::{
    cluster::{
        Cluster,
        core::{Errand, MemberIndex, Needs},
        operation::KeySpecification,
    },
    store::{Created, Idempotency, Store, StoreError},
};
use portcullis_hsm::{
    algorithm::{KeyType, PermittedUses},
    key_token::Storage,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
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
    /// How long destructions of its versions wait; as is usual if none is given.
    pub destroy_window: Option<Duration>,
    /// What its first version is.
    pub first: FirstVersion,
    /// The member that shall hold a resident key.
    pub member: Option<MemberIndex>,
}

/// What the first version of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstVersion {
    /// Generated, and in use at once.
    Active,
    /// Generated, and not in use before it is activated.
    PreActive,
    /// Imported later.
    PendingImport,
}

/// A new version that a caller wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct WantedVersion {
    /// It is not in use before it is activated, and does not become the primary one.
    pub pre_active: bool,
    /// The member that shall hold it, where it is resident.
    pub member: Option<MemberIndex>,
}

/// Makes keys, rings and versions.
#[derive(Debug)]
pub struct Creation {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    directory: Arc<KeyDirectory>,
    changes: Arc<Changes>,
    materials: Arc<Materials>,
    windows: Windows,
}

impl Creation {
    /// Works on these.
    pub fn new(
        store: Arc<dyn Store>,
        cluster: Arc<Cluster>,
        directory: Arc<KeyDirectory>,
        changes: Arc<Changes>,
        materials: Arc<Materials>,
        windows: Windows,
    ) -> Self {
        Self {
            store,
            cluster,
            directory,
            changes,
            materials,
            windows,
        }
    }

    /// Creates a ring, or returns the one that the same request created before.
    pub async fn ring(
        &self,
        id: &Id,
        labels: BTreeMap<String, String>,
        least_destroy_window: Duration,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<Arc<RingRow>, ChangeError> {
        let row = RingRow {
            id: id.clone(),
            uid: Uuid::now_v7(),
            labels,
            created: now(),
            revision: 1,
            layout: Layout::Two,
            least_destroy_window,
        };
        let [tag] = self.changes.tags([&row], deadline).await?;
        let _lock = self.directory.lock_ring(id, deadline).await?;
        let _changing = self.directory.changing(id);
        match self
            .store
            .by(deadline)
            .create_ring(Tagged::new(row.clone(), tag), once)
            .await?
        {
            Created::New => Ok(self.directory.remember_ring(row).await),
            Created::Before => Ok(self.directory.ring_under_lock(id, deadline).await?),
        }
    }

    /// Creates a key with its first version, or returns the one that the same request created before.
    ///
    /// When this returns a record, it is on disk. When it fails, nothing of the key is left that could be used.
    pub async fn key(
        &self,
        wanted: WantedKey,
        once: Option<Idempotency>,
        errand: Errand,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        let deadline = errand.deadline;
        // Checked again by the commit; asked first, it spares the HSM.
        if let Created::Before = self.permit_key(&wanted, once.as_ref(), deadline).await? {
            return Ok(self.directory.key(&wanted.name, deadline).await?);
        }
        let specification = KeySpecification {
            uid: Uuid::now_v7(),
            version: 1,
            key_type: wanted.key_type,
            uses: wanted.uses.clone(),
            storage: storage(wanted.protection, wanted.exportable),
            making: making(wanted.protection),
        };
        let protection = wanted.protection;
        let needs = needs(wanted.key_type, &wanted.uses, wanted.member);
        if wanted.first == FirstVersion::PendingImport {
            self.cluster.require_storage(specification.storage)?;
            let none = Made {
                token: Vec::new(),
                members: Vec::new(),
            };
            let committed = self.commit(wanted, specification.uid, none, once, deadline).await;
            return committed.map(|(record, _)| record);
        }
        let uid = specification.uid;
        self.materials
            .generate(&specification, protection, &needs, errand, |made| {
                self.commit(wanted, uid, made, once, deadline)
            })
            .await
    }

    /// Generates a new version of a key and, unless it is to be activated later, makes it the primary one.
    pub async fn rotate(
        &self,
        name: &KeyName,
        wanted: WantedVersion,
        terms: Terms,
    ) -> Result<Arc<KeyRecord>, ChangeError> {
        if self.changes.is_repetition(terms.once.as_ref(), terms.deadline).await? {
            // Under the lock, because what made it may not have kept its record yet.
            let _lock = self.directory.locks.lock(name, terms.deadline).await?;
            return Ok(self.directory.key_under_lock(name, terms.deadline).await?);
        }
        let record = self.directory.key(name, terms.deadline).await?;
        require_revision(terms.expected, record.key.revision, || name.to_string())?;
        let profile = &record.profile;
        let needs = needs(profile.key_type, &profile.uses, wanted.member);
        if terms.mode == Mode::Check {
            self.cluster
                .require_storage(storage(record.key.protection, profile.exportable))?;
            self.cluster.choose(&needs)?;
            return Ok(record);
        }
        // A number of its own, so that two rotations at once never make the same version: the later one to commit fails.
        let specification = KeySpecification {
            uid: record.key.uid,
            version: profile.last_version + 1,
            key_type: profile.key_type,
            uses: profile.uses.clone(),
            storage: storage(record.key.protection, profile.exportable),
            making: making(record.key.protection),
        };
        let protection = record.key.protection;
        let errand = terms.errand();
        self.materials
            .generate(&specification, protection, &needs, errand, |made| {
                self.add_version(name, specification.version, wanted, made, terms)
            })
            .await
    }

    /// Checks all that can be checked before a key is made: its ring, its name, the members' abilities.
    pub async fn validate_key(
        &self,
        wanted: &WantedKey,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<(), ChangeError> {
        if let Created::New = self.permit_key(wanted, once, deadline).await? {
            self.cluster
                .require_storage(storage(wanted.protection, wanted.exportable))?;
            self.cluster
                .choose(&needs(wanted.key_type, &wanted.uses, wanted.member))?;
        }
        Ok(())
    }

    /// Checks all that can be checked before a ring is made: its name.
    pub async fn validate_ring(
        &self,
        id: &Id,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<(), ChangeError> {
        if self.store.by(deadline).ring(id).await?.is_none() || self.changes.is_repetition(once, deadline).await? {
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
    ) -> Result<Created, ChangeError> {
        let ring = self.directory.ring(&wanted.name.ring, deadline).await?;
        if let Some(window) = wanted.destroy_window {
            self.windows.check(window, ring.least_destroy_window)?;
        }
        // The name is looked at first: whoever took it has noted its request id in the same transaction.
        let taken = self
            .store
            .by(deadline)
            .key(&wanted.name.ring, &wanted.name.key)
            .await?
            .is_some();
        match (self.changes.is_repetition(once, deadline).await?, taken) {
            (true, _) => Ok(Created::Before),
            (false, false) => Ok(Created::New),
            (false, true) => Err(StoreError::AlreadyExists(wanted.name.to_string()).into()),
        }
    }

    async fn commit(
        &self,
        wanted: WantedKey,
        uid: Uuid,
        made: Made,
        once: Option<Idempotency>,
        deadline: Instant,
    ) -> Result<(Arc<KeyRecord>, Created), ChangeError> {
        let state = match wanted.first {
            FirstVersion::Active => VersionState::Active,
            FirstVersion::PreActive => VersionState::PreActive,
            FirstVersion::PendingImport => VersionState::PendingImport,
        };
        let version = new_version(uid, 1, state, made);
        let key = KeyRow {
            name: wanted.name.clone(),
            uid,
            purpose: wanted.purpose,
            protection: wanted.protection,
            labels: wanted.labels,
            primary_version: 1,
            created: version.created,
            revision: 1,
            profile: Some(KeyProfile {
                key_type: wanted.key_type,
                uses: wanted.uses,
                exportable: wanted.exportable,
                last_version: 1,
                destroy_window: wanted.destroy_window.unwrap_or(self.windows.usual),
            }),
        };
        let [key_tag, version_tag] = self.changes.tags([&key, &version], deadline).await?;
        let stored = StoredKey {
            key: Tagged::new(key, key_tag),
            versions: vec![Tagged::new(version, version_tag)],
            restrictions: Vec::new(),
            holds: Vec::new(),
            presumed_last_version: 0,
        };
        let _lock = self.directory.locks.lock(&wanted.name, deadline).await?;
        let _changing = self.directory.changing(&wanted.name.ring);
        match self.store.by(deadline).create_key(stored.clone(), once).await? {
            Created::New => {
                let record = self.directory.assemble(stored)?;
                self.directory.remember(&record).await;
                Ok((record, Created::New))
            }
            Created::Before => Ok((
                self.directory.key_under_lock(&wanted.name, deadline).await?,
                Created::Before,
            )),
        }
    }

    /// Adds a version with its key material, unless the key got another one since.
    async fn add_version(
        &self,
        name: &KeyName,
        number: u32,
        wanted: WantedVersion,
        made: Made,
        terms: Terms,
    ) -> Result<(Arc<KeyRecord>, Created), ChangeError> {
        let _lock = self.directory.locks.lock(name, terms.deadline).await?;
        let record = self.directory.key_under_lock(name, terms.deadline).await?;
        if self.changes.is_repetition(terms.once.as_ref(), terms.deadline).await? {
            return Ok((record, Created::Before));
        }
        require_revision(terms.expected, record.key.revision, || name.to_string())?;
        if record.profile.last_version + 1 != number {
            return Err(StoreError::Conflict(name.to_string()).into());
        }
        let state = if wanted.pre_active {
            VersionState::PreActive
        } else {
            VersionState::Active
        };
        let profile = KeyProfile {
            last_version: number,
            ..record.profile.clone()
        };
        let mut key = next_key(&record, profile);
        if !wanted.pre_active {
            key.primary_version = number;
        }
        let plan = Plan {
            key: Some(key),
            versions: vec![new_version(record.key.uid, number, state, made)],
        };
        let record = self.changes.commit(&record, plan, terms.once, terms.deadline).await?;
        Ok((record, Created::New))
    }
}

/// The first row of a version.
pub(super) fn new_version(key_uid: Uuid, number: u32, state: VersionState, made: Made) -> VersionRow {
    let created = now();
    VersionRow {
        key_uid,
        number,
        state,
        members: made.members,
        created,
        revision: 1,
        token: made.token,
        layout: Layout::Two,
        history: History {
            activated: (state == VersionState::Active).then_some(created),
            ..History::default()
        },
    }
}

/// How a key's secret half is kept.
pub(super) fn storage(protection: Protection, exportable: bool) -> Storage {
    match (protection, exportable) {
        (Protection::Resident, _) => Storage::Resident,
        (Protection::Wrapped, true) => Storage::Portable,
        (Protection::Wrapped, false) => Storage::Sealed,
    }
}

/// A name for the making of a resident key, which no other making has.
pub(super) fn making(protection: Protection) -> Option<Uuid> {
    (protection == Protection::Resident).then(Uuid::now_v7)
}

/// What a member needs to make a key.
pub(super) fn needs(key_type: KeyType, uses: &PermittedUses, member: Option<MemberIndex>) -> Needs {
    Needs {
        uses: uses.iter().map(|one| (one.operation, one.mechanism)).collect(),
        generates: Some(key_type),
        only: member.map(|member| vec![member]),
    }
}

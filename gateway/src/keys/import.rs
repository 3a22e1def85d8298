//! Import: key material from outside becomes a version of a key.

use super::{
    change::{ChangeError, Changes, Mode, Plan, Terms, find_version, next_key, require_revision},
    creation::{making, new_version, storage},
    directory::{KeyDirectory, KeyRecord, VersionRecord},
    material::{Made, Materials},
    name::KeyName,
    record::{KeyProfile, VersionRow, now},
    state::VersionState,
};
use crate::{
    cluster::{
        Cluster, ClusterError,
        core::{Errand, MemberIndex},
        operation::KeySpecification,
        transfer::Material,
    },
    store::{Created, Earlier, Idempotency, StoreError},
};
use portcullis_hsm::key_token::Origin;
use std::{sync::Arc, time::Instant};

/// Imports key material.
#[derive(Debug)]
pub struct Imports {
    cluster: Arc<Cluster>,
    directory: Arc<KeyDirectory>,
    changes: Arc<Changes>,
    materials: Arc<Materials>,
}

/// The version that an import makes or fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It waits for its key material.
    Pending(u32),
    /// It is added, and becomes primary.
    New(u32),
}

impl Target {
    /// The next import's version: the first that waits for key material, or a new one.
    pub fn of(record: &KeyRecord) -> Self {
        let pending = |version: &&VersionRecord| version.state() == VersionState::PendingImport;
        match record.versions.iter().find(pending) {
            Some(version) => Self::Pending(version.row.number),
            None => Self::New(record.profile.last_version + 1),
        }
    }

    /// The version's number.
    pub fn number(self) -> u32 {
        match self {
            Self::Pending(number) | Self::New(number) => number,
        }
    }
}

/// The last version that was imported.
fn last_imported(record: &KeyRecord) -> Option<&VersionRecord> {
    let imported =
        |version: &&VersionRecord| matches!(version.origin(), Some(Origin::ImportedWrapped | Origin::ImportedClear));
    record.versions.iter().rev().find(imported)
}

/// The version that an earlier, equal import made. What was noted before versions were is taken for the last one.
fn number_of(earlier: Earlier, record: &KeyRecord) -> Option<u32> {
    earlier
        .version
        .or_else(|| last_imported(record).map(|version| version.row.number))
}

/// A key with the number of the version that was imported.
pub type Imported = (Arc<KeyRecord>, u32);

impl Imports {
    /// Works on these.
    pub fn new(
        cluster: Arc<Cluster>,
        directory: Arc<KeyDirectory>,
        changes: Arc<Changes>,
        materials: Arc<Materials>,
    ) -> Self {
        Self {
            cluster,
            directory,
            changes,
            materials,
        }
    }

    /// The key with the number of the version that the same request imported before; `None` if it is new.
    pub async fn repeated(
        &self,
        name: &KeyName,
        once: Option<&Idempotency>,
        deadline: Instant,
    ) -> Result<Option<Imported>, ChangeError> {
        let Some(earlier) = self.changes.earlier(once, deadline).await? else {
            return Ok(None);
        };
        // Under the lock, because what made it may not have kept its record yet.
        let _lock = self.directory.locks.lock(name, deadline).await?;
        let record = self.directory.key_under_lock(name, deadline).await?;
        let number = number_of(earlier, &record).ok_or_else(|| ChangeError::NoVersion(name.to_string()))?;
        Ok(Some((record, number)))
    }

    /// Imports key material as a version of a key; `still_permitted` says, when it is about to be committed, whether it may be. When this returns the key and the version's number, the version is on disk
    /// and in use; when it fails, nothing of the key material is left.
    pub async fn version(
        &self,
        name: &KeyName,
        target: Target,
        material: Material,
        member: Option<MemberIndex>,
        terms: Terms,
        still_permitted: impl Future<Output = Result<(), ChangeError>>,
    ) -> Result<Imported, ChangeError> {
        let record = self.directory.key(name, terms.deadline).await?;
        let profile = &record.profile;
        let specification = KeySpecification {
            uid: record.key.uid,
            version: target.number(),
            key_type: profile.key_type,
            uses: profile.uses.clone(),
            storage: storage(record.key.protection, profile.exportable),
            making: making(record.key.protection),
        };
        let needs = material.needs(&specification, member);
        if terms.mode == Mode::Check {
            self.cluster.require_storage(specification.storage)?;
            self.cluster.choose(&needs)?;
            return Ok((record, target.number()));
        }
        let (protection, errand) = (record.key.protection, terms.errand());
        let produce = |on| self.produce(&specification, &material, on, errand);
        let commit = async |made| {
            still_permitted.await?;
            self.commit(name, target, made, terms).await
        };
        self.materials
            .make(&specification, protection, &needs, errand.deadline, produce, commit)
            .await
    }

    async fn produce(
        &self,
        key: &KeySpecification,
        material: &Material,
        on: Option<MemberIndex>,
        errand: Errand,
    ) -> Result<Vec<u8>, ClusterError> {
        let (token, _) = self.cluster.import(key, material, on, errand).await?;
        Ok(token)
    }

    /// Adds or fills the version, unless somebody else did since.
    async fn commit(
        &self,
        name: &KeyName,
        target: Target,
        made: Made,
        terms: Terms,
    ) -> Result<(Imported, Created), ChangeError> {
        let _lock = self.directory.locks.lock(name, terms.deadline).await?;
        let record = self.directory.key_under_lock(name, terms.deadline).await?;
        if let Some(earlier) = self.changes.earlier(terms.once.as_ref(), terms.deadline).await? {
            let number = number_of(earlier, &record).ok_or_else(|| ChangeError::NoVersion(name.to_string()))?;
            return Ok(((record, number), Created::Before));
        }
        require_revision(terms.expected, record.key.revision, || name.to_string())?;
        if Target::of(&record) != target {
            return Err(StoreError::Conflict(name.to_string()).into());
        }
        let plan = match target {
            Target::New(number) => {
                let profile = KeyProfile {
                    last_version: number,
                    ..record.profile.clone()
                };
                let mut key = next_key(&record, profile);
                key.primary_version = number;
                Plan {
                    key: Some(key),
                    versions: vec![new_version(record.key.uid, number, VersionState::Active, made)],
                }
            }
            Target::Pending(number) => {
                let waiting = find_version(&record, number)?;
                Plan {
                    key: None,
                    versions: vec![VersionRow {
                        token: made.token,
                        members: made.members,
                        ..waiting.row.entering(VersionState::Active, "", now())
                    }],
                }
            }
        };
        let once = terms.once.map(|once| Idempotency {
            version: Some(target.number()),
            ..once
        });
        let record = self.changes.commit(&record, plan, once, terms.deadline).await?;
        Ok(((record, target.number()), Created::New))
    }
}

//! Key material for a version: made on a member and committed with the version's row, or not there at all.
//!
//! A wrapped key that is not committed vanishes with its token. A resident key is noted in the store before it is made, and
//! taken off its member when its row is not committed.

use super::{
    change::ChangeError,
    directory::BACKGROUND_DEADLINE,
    record::{Protection, Row, Tagged},
};
use crate::{
    audit::{AuditLog, Entry},
    cluster::{
        Cluster, ClusterError,
        core::{Errand, MemberIndex, Needs},
        operation::{Claim, KeySpecification},
    },
    store::{Created, ResidentIntent, Store, StoreError},
};
use portcullis_hsm::{key_token::ResidentName, record::RecordKind};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use uuid::Uuid;

/// Makes key material.
#[derive(Debug)]
pub struct Materials {
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    under_way: UnderWay,
}

/// Key material that is to be committed.
#[derive(Debug, Clone)]
pub struct Made {
    /// The key token.
    pub token: Vec<u8>,
    /// The members that hold it, where it is resident.
    pub members: Vec<String>,
}

/// The resident keys that are being made now: their notes are not those of an interrupted making.
#[derive(Debug, Default)]
struct UnderWay(Mutex<HashSet<(Uuid, u32)>>);

struct Entered<'a>(&'a UnderWay, (Uuid, u32));

impl Materials {
    /// Works on these.
    pub fn new(store: Arc<dyn Store>, cluster: Arc<Cluster>) -> Self {
        Self {
            store,
            cluster,
            under_way: UnderWay::default(),
        }
    }

    /// Makes key material by `produce` and commits it by `commit`. A resident key is made on a member that `needs` allow;
    /// `produce` is told which. When `commit` fails or says that the same request committed before, nothing is left.
    pub async fn make<R, P, C>(
        &self,
        key: &KeySpecification,
        protection: Protection,
        needs: &Needs,
        deadline: Instant,
        produce: impl FnOnce(Option<MemberIndex>) -> P,
        commit: impl FnOnce(Made) -> C,
    ) -> Result<R, ChangeError>
    where
        P: Future<Output = Result<Vec<u8>, ClusterError>>,
        C: Future<Output = Result<(R, Created), ChangeError>>,
    {
        if protection == Protection::Wrapped {
            let token = produce(None).await?;
            let members = Vec::new();
            return commit(Made { token, members }).await.map(|(record, _)| record);
        }
        let member = self.cluster.choose(needs)?;
        let (uid, version) = (key.uid, key.version);
        let name = self.cluster.name(member).to_string();
        // Written first, so that a crash leaves no object on the token that nobody knows of.
        let intent = ResidentIntent {
            uid,
            version,
            member: name.clone(),
            making: key.making,
        };
        let objects = key.resident_name();
        let _under_way = self.under_way.enter((uid, version));
        let mut tags = self
            .cluster
            .authenticate_rows(vec![intent.canonical()], deadline)
            .await?;
        let tag = tags.pop().ok_or(ClusterError::Protocol)?;
        self.store.by(deadline).begin_resident(Tagged::new(intent, tag)).await?;
        // Somebody else may have made this version since the caller looked: its object is not touched.
        if self.store.by(deadline).has_version(uid, version).await? {
            self.store.end_resident(uid, version).await?;
            return Err(StoreError::Conflict(format!("version {version} of {uid}")).into());
        }
        let made = async {
            let token = produce(Some(member)).await?;
            let members = vec![name];
            commit(Made { token, members }).await
        };
        match made.await {
            Ok((record, Created::New)) => Ok(record),
            Ok((record, Created::Before)) => {
                self.undo_resident(objects, member).await;
                Ok(record)
            }
            Err(error) => {
                self.undo_resident(objects, member).await;
                Err(error)
            }
        }
    }

    /// Generates key material.
    pub async fn generate<R, C>(
        &self,
        key: &KeySpecification,
        protection: Protection,
        needs: &Needs,
        errand: Errand,
        commit: impl FnOnce(Made) -> C,
    ) -> Result<R, ChangeError>
    where
        C: Future<Output = Result<(R, Created), ChangeError>>,
    {
        let produce = |member| async move {
            let (token, _) = self.cluster.generate(key, member, errand).await?;
            Ok(token)
        };
        self.make(key, protection, needs, errand.deadline, produce, commit)
            .await
    }

    /// Destroys the resident keys whose making a crash or a failure interrupted, on the members that serve now.
    ///
    /// What is destroyed was noted by a row that the mac key authenticates, is not being made now, and is no stored version.
    pub async fn clear_interrupted(&self, audit: &AuditLog) {
        if let Err(error) = self.try_clear_interrupted(audit).await {
            tracing::warn!(%error, "interrupted resident keys are not cleared yet");
        }
    }

    async fn try_clear_interrupted(&self, audit: &AuditLog) -> Result<(), ChangeError> {
        let mut intents = Vec::new();
        for intent in self.store.resident_intents().await? {
            match intent {
                Ok(intent) => intents.push(intent),
                Err(error) => tracing::error!(%error, "nothing is destroyed for a note that cannot be read"),
            }
        }
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
            let objects = row.name();
            let ResidentIntent {
                uid, version, member, ..
            } = row;
            if self.under_way.contains((uid, version)) {
                continue;
            }
            if !authentic || self.store.has_version(uid, version).await? {
                tracing::error!(%uid, version, member, "the note of an interrupted create is not authentic, or names a stored key: nothing is destroyed");
                continue;
            }
            let Some(index) = self.cluster.member(&member) else {
                tracing::warn!(%uid, version, member, "an interrupted resident key is on an unknown member");
                continue;
            };
            let mut entry = Entry::gateway("resident.clear", "INTENT");
            entry.resource = format!("{uid}/{version}");
            entry.member = Some(member);
            audit.append_synced(&entry).await?;
            let cleared = self.undo_resident(objects, index).await;
            entry.outcome = if cleared { "OK" } else { "HSM_UNAVAILABLE" }.to_owned();
            audit.append_synced(&entry).await?;
        }
        Ok(())
    }

    /// Takes an unfinished resident key off its member; says whether it is gone. If not, its note stays for the next time.
    async fn undo_resident(&self, objects: ResidentName, member: MemberIndex) -> bool {
        let ResidentName { uid, version, .. } = objects;
        let deadline = Instant::now() + BACKGROUND_DEADLINE;
        let undone = async {
            self.cluster.destroy_resident(objects, member, deadline).await?;
            Ok::<_, ChangeError>(self.store.end_resident(uid, version).await?)
        };
        let undone = undone.await;
        if let Err(error) = &undone {
            let member = self.cluster.name(member);
            tracing::warn!(%uid, version, %member, %error, "an unfinished resident key may still be on its member; it is cleared later");
        }
        undone.is_ok()
    }
}

impl UnderWay {
    fn enter(&self, key: (Uuid, u32)) -> Entered<'_> {
        self.lock().insert(key);
        Entered(self, key)
    }

    fn contains(&self, key: (Uuid, u32)) -> bool {
        self.lock().contains(&key)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(Uuid, u32)>> {
        self.0.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

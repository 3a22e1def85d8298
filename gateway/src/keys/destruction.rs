//! Carries scheduled destructions out, and confirms them.
//!
//! A version is DESTROYING before anything is destroyed. A resident version is destroyed on every member that holds it, and
//! looked for afterwards; a member that does not serve keeps it DESTROYING until it does. A wrapped version's token is
//! overwritten in the store, and members that have it loaded are told to unload it. Only then it is DESTROYED.

use super::{
    change::{ChangeError, Changes, Plan},
    directory::{BACKGROUND_DEADLINE, KeyRecord, VersionRecord},
    name::KeyName,
    record::{Protection, Remains, now},
    state::VersionState,
};
use crate::audit::{AuditLog, Entry};
use std::{sync::Arc, time::Instant};
use time::OffsetDateTime;
use tokio::task::JoinSet;

impl Changes {
    /// Destroys every version whose time has come, several keys at once.
    pub async fn destroy_due(self: &Arc<Self>, audit: &Arc<AuditLog>) {
        let time = now();
        let due = match self.store.due_for_destruction(time, AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return tracing::error!(%error, "the store does not say what is to be destroyed"),
        };
        let mut under_way = JoinSet::new();
        for name in due {
            while under_way.len() >= SIDE_BY_SIDE {
                let _ = under_way.join_next().await;
            }
            let (changes, audit) = (Arc::clone(self), Arc::clone(audit));
            under_way.spawn(async move {
                if let Err(error) = changes.destroy_versions(&name, time, &audit).await {
                    tracing::warn!(key = %name, %error, "a destruction is not finished; it is tried again");
                }
            });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn destroy_versions(
        &self,
        name: &KeyName,
        time: OffsetDateTime,
        audit: &AuditLog,
    ) -> Result<(), ChangeError> {
        let deadline = Instant::now() + BACKGROUND_DEADLINE;
        let _lock = self.directory.locks.lock(name, deadline).await?;
        let mut record = self.directory.key_under_lock(name, deadline).await?;
        let due = |version: &&VersionRecord| {
            version.state() == VersionState::Destroying
                || (version.state() == VersionState::DestroyScheduled
                    && version.row.history.destroy.is_some_and(|destroy| destroy <= time))
        };
        let numbers: Vec<_> = record.versions.iter().filter(due).map(|one| one.row.number).collect();
        for number in numbers {
            let mut entry = Entry::gateway("key_version.destroy", "INTENT");
            entry.resource = name.version(number);
            audit.append_synced(&entry).await?;
            let destroyed = self.destroy_version(&mut record, number, deadline).await;
            entry.outcome = match &destroyed {
                Ok(()) => "OK",
                Err(_) => "DESTRUCTION_UNFINISHED",
            }
            .to_owned();
            audit.append_synced(&entry).await?;
            destroyed?;
            tracing::info!(version = name.version(number), "a key version is destroyed");
        }
        Ok(())
    }

    async fn destroy_version(
        &self,
        record: &mut Arc<KeyRecord>,
        number: u32,
        deadline: Instant,
    ) -> Result<(), ChangeError> {
        let version = super::change::find_version(record, number)?;
        if version.state() != VersionState::Destroying {
            let reason = version.row.history.reason.clone();
            let next = version.row.entering(VersionState::Destroying, &reason, now());
            *record = self.commit(record, rows(next), None, deadline).await?;
        }
        let version = super::change::find_version(record, number)?;
        if record.key.protection == Protection::Resident && version.material.is_some() {
            for member in &version.row.members {
                let index = self.cluster.member(member).ok_or_else(|| {
                    let message = format!("the member {member}, which holds it, is not configured");
                    crate::cluster::ClusterError::Refused(message)
                })?;
                self.cluster
                    .destroy_resident(record.key.uid, number, index, deadline)
                    .await?;
            }
        }
        let mut next = version
            .row
            .entering(VersionState::Destroyed, &version.row.history.reason, now());
        next.history.destroy = Some(now());
        if let Some(material) = &version.material {
            self.cluster.unload(&material.handle, deadline).await;
            next.history.remains = Some(Remains {
                origin: material.token.origin,
                epoch: material.token.epoch,
                public_key: material.token.public_key.clone(),
            });
        }
        next.token = Vec::new();
        *record = self.commit(record, rows(next), None, deadline).await?;
        Ok(())
    }
}

fn rows(row: super::record::VersionRow) -> Plan {
    Plan {
        key: None,
        versions: vec![row],
    }
}

const AT_ONCE: u32 = 1000;
/// So many keys are in destruction at the same time: they share the syncs of the store and of the audit log.
const SIDE_BY_SIDE: usize = 32;

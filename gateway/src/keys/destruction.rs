//! Carries scheduled destructions out, and confirms them.
//!
//! A version is DESTROYING before anything is destroyed. A resident version is destroyed on every member that holds it, and
//! looked for afterwards; a member that does not serve keeps it DESTROYING until it does. A wrapped version's token is
//! overwritten in the store, and members that have it loaded are told to unload it. Only then it is DESTROYED.

use super::{
    change::{ChangeError, Changes, Plan, find_version},
    directory::{BACKGROUND_DEADLINE, KeyRecord, VersionRecord},
    name::KeyName,
    record::{Protection, Remains, now},
    state::VersionState,
};
use crate::{
    audit::{AuditLog, Entry},
    cluster::{ClusterError, core::Needs},
};
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
        let record = self.directory.key(name, Instant::now() + BACKGROUND_DEADLINE).await?;
        for version in record.versions.iter().filter(|version| is_due(version, time)) {
            let number = version.row.number;
            if version.state() == VersionState::Destroying && !self.members_serve(&record, version) {
                // It was said when it began. It goes on when they serve.
                continue;
            }
            let mut entry = Entry::gateway("key_version.destroy", "INTENT");
            entry.resource = name.version(number);
            audit.append_synced(&entry).await?;
            let destroyed = self.destroy_version(name, number, time).await;
            entry.outcome = match &destroyed {
                Ok(Destruction::Done) => "OK",
                Ok(Destruction::Cancelled) => "DESTRUCTION_CANCELLED",
                Err(_) => "DESTRUCTION_UNFINISHED",
            }
            .to_owned();
            audit.append_synced(&entry).await?;
            if destroyed? == Destruction::Done {
                tracing::info!(version = name.version(number), "a key version is destroyed");
            }
        }
        Ok(())
    }

    /// Destroys a version. The key's lock is held for the two changes of its rows and not while members work on it, so that
    /// a member that hangs holds up nothing else of the key: no verb leads out of DESTROYING.
    async fn destroy_version(
        &self,
        name: &KeyName,
        number: u32,
        time: OffsetDateTime,
    ) -> Result<Destruction, ChangeError> {
        let deadline = Instant::now() + BACKGROUND_DEADLINE;
        let record = {
            let _lock = self.directory.locks.lock(name, deadline).await?;
            let record = self.directory.key_under_lock(name, deadline).await?;
            let version = find_version(&record, number)?;
            match version.state() {
                VersionState::Destroying => record,
                _ if !is_due(version, time) => return Ok(Destruction::Cancelled),
                _ => {
                    // A mark that no HSM has authenticated yet is kept.
                    let row = version.folded();
                    let mut next = row.entering(VersionState::Destroying, &row.history.reason, now());
                    next.revision = version.row.revision + 1;
                    self.commit(&record, rows(next), None, deadline).await?
                }
            }
        };
        let version = find_version(&record, number)?;
        if let Some(material) = &version.material {
            for member in objects_on(&record, version) {
                let index = self.cluster.member(member).ok_or_else(|| not_configured(member))?;
                let objects = material.token.resident_name();
                self.cluster.destroy_resident(objects, index, deadline).await?;
            }
        }
        let _lock = self.directory.locks.lock(name, deadline).await?;
        let record = self.directory.key_under_lock(name, deadline).await?;
        let version = find_version(&record, number)?;
        let reason = &version.row.history.reason;
        let mut next = version.row.entering(VersionState::Destroyed, reason, now());
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
        self.commit(&record, rows(next), None, deadline).await?;
        Ok(Destruction::Done)
    }

    /// Whether every member that holds objects of a version can work on them now.
    fn members_serve(&self, record: &KeyRecord, version: &VersionRecord) -> bool {
        objects_on(record, version).iter().all(|member| {
            self.cluster.member(member).is_some_and(|index| {
                let needs = Needs {
                    only: Some(vec![index]),
                    ..Needs::default()
                };
                self.cluster.choose(&needs).is_ok()
            })
        })
    }
}

/// What became of a destruction that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destruction {
    Done,
    /// Somebody was faster, and cancelled it.
    Cancelled,
}

fn is_due(version: &VersionRecord, time: OffsetDateTime) -> bool {
    match version.state() {
        _ if version.hold.is_some() => false,
        VersionState::Destroying => true,
        VersionState::DestroyScheduled => version.row.history.destroy.is_some_and(|destroy| destroy <= time),
        _ => false,
    }
}

/// The members whose token objects a destruction has to destroy.
fn objects_on<'a>(record: &KeyRecord, version: &'a VersionRecord) -> &'a [String] {
    match (record.key.protection, &version.material) {
        (Protection::Resident, Some(_)) => &version.row.members,
        _ => &[],
    }
}

fn not_configured(member: &str) -> ClusterError {
    ClusterError::Refused(format!("the member {member}, which holds it, is not configured"))
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

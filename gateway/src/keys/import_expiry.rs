//! Import jobs whose time has been over for a while are removed, with the key tokens that they hold.

use super::{
    directory::BACKGROUND_DEADLINE,
    document::{DocumentError, Documents, Stored, name_of},
    import_job::ImportJob,
    name::Id,
    record::now,
};
use crate::{
    audit::{AuditError, AuditLog, Entry},
    cluster::{Cluster, operation::Key},
};
use std::time::{Duration, Instant};

/// Why jobs were not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// They could not be read, authenticated or removed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Removes the jobs that have been over for so long. What is removed was authenticated first.
pub async fn remove_expired(
    documents: &Documents,
    cluster: &Cluster,
    audit: &AuditLog,
    retention: Duration,
) -> Result<(), RemovalError> {
    let is_over = |job: &ImportJob| job.is_expired(now() - retention);
    for ring in documents.rings_with::<ImportJob>(soon()).await? {
        for id in documents.likely::<ImportJob>(&ring, is_over, soon()).await? {
            match documents.find::<ImportJob>(&ring, &id, soon()).await {
                Ok(Some(job)) if is_over(&job.content) => remove(documents, cluster, audit, &ring, job).await?,
                // Somebody else was faster, or the row said something else than the one that is authentic.
                Ok(_) => {}
                // Left for people to look at; the others are not kept because of it.
                Err(error) => tracing::error!(%error, %ring, id, "an expired import job is not removed"),
            }
        }
    }
    Ok(())
}

async fn remove(
    documents: &Documents,
    cluster: &Cluster,
    audit: &AuditLog,
    ring: &Id,
    job: Stored<ImportJob>,
) -> Result<(), RemovalError> {
    let mut entry = Entry::gateway("import_job.remove", "INTENT");
    entry.resource = name_of::<ImportJob>(ring.as_str(), &job.id);
    audit.append_synced(&entry).await?;
    let removed = documents
        .delete::<ImportJob>(ring, &job.id, Some(job.revision), None, soon())
        .await;
    entry.outcome = if removed.is_ok() { "OK" } else { "REMOVAL_UNFINISHED" }.to_owned();
    audit.append_synced(&entry).await?;
    removed?;
    cluster.unload(&Key::new(job.content.token, None), soon()).await;
    tracing::info!(job = entry.resource, "an expired import job is removed");
    Ok(())
}

fn soon() -> Instant {
    Instant::now() + BACKGROUND_DEADLINE
}

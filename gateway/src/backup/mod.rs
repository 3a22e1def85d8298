//! Backups: one file that holds the database as it was at one moment, and what is needed to check it without anything else.
//!
//! - [`create`]: beside a running gateway.
//! - [`verify`]: the file itself and every row in it; with an HSM also every tag.
//! - [`restore`]: onto a gateway that has no database.
//! - `aftermath`: what happened after a backup, by the audit log.
//! - [`container`]: the file's layout (`docs/formats.md`).
//!
//! A backup holds no key in clear: key tokens are wrapped under the domain, whose keys never leave the HSMs. Resident keys are not in
//! it at all, only what names them.

mod aftermath;
pub mod container;
pub mod create;
pub mod restore;
pub mod verify;

use crate::{audit::AuditError, cluster::ClusterError, keys::directory::DirectoryError, store::StoreError};
use std::{io, path::PathBuf};

/// Why a backup was not made, is not good, or was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name is taken.
    #[error("{0} exists already; name another file, or allow it to be replaced with --overwrite")]
    Exists(PathBuf),
    /// It is not a backup, or it is damaged.
    #[error("{path} is not a good backup: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// Rows in it are not as they should be.
    #[error("{path} is not a good backup: {}", rows.join("; "))]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong with which row.
        rows: Vec<String>,
    },
    /// It cannot be restored here.
    #[error("nothing was restored: {0}")]
    Refused(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The HSM members.
    #[error("the tags could not be checked: {0}")]
    Cluster(#[from] ClusterError),
    /// Reading rows for the check of their tags.
    #[error("the tags could not be checked: {0}")]
    Directory(#[from] DirectoryError),
    /// No member serves.
    #[error("the tags could not be checked, because no HSM member is ready: {0}")]
    NoMember(String),
}

/// Says which file an error belongs to.
fn at(path: &std::path::Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |source| BackupError::Io {
        path: path.to_owned(),
        source,
    }
}

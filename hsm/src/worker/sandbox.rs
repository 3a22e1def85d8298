//! Landlock: a worker that may write only below certain directories and start no program, whatever its vendor library does.
//!
//! Reading is not restricted: what an unknown library reads (its configuration, other libraries, `/proc`, `/sys`) differs from version to
//! version, and a worker that stops over it protects nobody. Writing to devices is allowed, since that is how some HSMs are spoken to;
//! so are sockets, which Landlock's file rules do not cover.

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};
use std::path::{Path, PathBuf};

/// What became of the restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// It is in force.
    Fully,
    /// The kernel knows a part of it.
    Partly,
    /// The kernel has no Landlock, or it is switched off.
    Not,
}

/// Why the restriction cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A directory cannot be opened.
    #[error("write_only_in names {path}, which cannot be opened: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel refused.
    #[error("the worker cannot be confined: {0}")]
    Kernel(#[from] RulesetError),
}

/// From now on this thread, and those that it starts, may change files only below `directories`, and start no program.
///
/// Must be called before other threads are started: they would not be confined.
pub fn confine(directories: &[PathBuf]) -> Result<Confined, SandboxError> {
    let writing = AccessFs::from_write(RIGHTS);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing | AccessFs::Execute)?
        .create()?;
    for directory in directories {
        rules = rules.add_rule(beneath(directory, writing)?)?;
    }
    let devices: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::Truncate;
    rules = rules.add_rule(beneath(Path::new("/dev"), devices)?)?;
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Confined::Fully,
        RulesetStatus::PartiallyEnforced => Confined::Partly,
        RulesetStatus::NotEnforced => Confined::Not,
    })
}

fn beneath(directory: &Path, rights: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, SandboxError> {
    let opened = PathFd::new(directory).map_err(|error| SandboxError::Directory {
        path: directory.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(PathBeneath::new(opened, rights))
}

/// Linux 6.2: also truncating, and moving between directories.
const RIGHTS: ABI = ABI::V3;

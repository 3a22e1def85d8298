//! The commands of `portcullisd`, a file each: its arguments and what it does.
//!
//! - `serve`: the gateway itself, its log and its signals.
//! - `audit`: checks an audit log.
//! - `backup`: makes, checks and restores backups.
//! - `config`: looks at a configuration.
//! - `policy`: looks at who may do what.
//! - `dev`: a development cluster.
//! - `member`: the PIN of a member's token.
//! - `principal`: who the holder of a certificate is.
//! - `worker`: the process of a member's module.
//! - `console`: what is printed for people, and how.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod dev;
pub(crate) mod environment;
pub(crate) mod member;
pub(crate) mod policy;
pub(crate) mod principal;
pub(crate) mod serve;
pub(crate) mod worker;

use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};

/// The argument of every command that reads the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration; see docs/portcullis.toml for every setting.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// The runtime of a command that waits for sockets and processes.
fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

/// How a command ends that did what it could, and could not look at all that it should.
const INCOMPLETE: u8 = 3;

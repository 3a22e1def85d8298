//! `portcullisd hsm-worker`: the process in which a member's PKCS#11 module runs.

use anyhow::Result;
use clap::Args;
use portcullis_hsm::worker::{
    self,
    sandbox::{Confined, confine},
};
use std::path::PathBuf;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// The member's name, for lists of processes.
    member: Option<String>,
    /// A directory that it may write to; nowhere else, then.
    #[arg(long, value_name = "DIRECTORY")]
    write_only_in: Vec<PathBuf>,
}

/// Serves the socket that is its standard input until that closes.
pub(crate) fn run(arguments: &WorkerArguments) -> Result<()> {
    // No time and no colour: the gateway repeats the lines in its own log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        .init();
    let socket = worker::socket_from_stdin()?;
    // Before the first other thread.
    let unconfined = match arguments.write_only_in.as_slice() {
        [] => None,
        directories => match confine(directories)? {
            Confined::Fully => None,
            Confined::Partly => {
                Some("this kernel confines what it may write to in part (Landlock before Linux 6.2)".to_owned())
            }
            Confined::Not => Some("it may write anywhere: this kernel has no Landlock".to_owned()),
        },
    };
    Ok(worker::run(socket, unconfined)?)
}

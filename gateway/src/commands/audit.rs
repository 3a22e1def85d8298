//! `portcullisd audit`: looks at an audit log.

use super::{INCOMPLETE, console::say};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use portcullis_gateway::{
    audit::{AuditLog, ChainVerifier, files},
    config::Settings,
};
use std::{io::stdout, path::PathBuf, process::ExitCode};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Checks that no line of a log was changed, removed or inserted, over all its files. Ends with 3 where that is so and entries at
    /// its beginning were not looked at.
    Verify(VerifyArguments),
}

/// What is checked.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The log's files, the oldest first. Those that were compressed by gzip are read as they are.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The entry with which the files should begin.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    first: u64,
    /// Also checks that the log reaches as far as the gateway of this configuration wrote it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs one of them.
pub(crate) fn run(command: &AuditCommand) -> Result<ExitCode> {
    match command {
        AuditCommand::Verify(arguments) => verify(arguments),
    }
}

fn verify(VerifyArguments { files, first, config }: &VerifyArguments) -> Result<ExitCode> {
    // Read before the files: a gateway that runs writes on.
    let noted = match config {
        None => None,
        Some(config) => {
            // Where it is, and nothing more: the log is looked at also where another file is missing.
            let note = Settings::read(config)?.audit_head();
            let noted = AuditLog::noted_end(&note).with_context(|| format!("{} cannot be read", note.display()))?;
            Some(noted.with_context(|| format!("{} does not say how far the log was written", note.display()))?)
        }
    };
    let mut verifier = ChainVerifier::new(noted);
    for file in files {
        let name = file.display();
        let open = files::open(file).with_context(|| format!("{name} cannot be read"))?;
        let torn = verifier.read(open).with_context(|| name.to_string())?;
        if torn > 0 {
            say(
                &mut stdout(),
                &format!(
                    "{name} ends with {torn} bytes of a line that was never finished: a crash, or it is being written"
                ),
            );
        }
    }
    let summary = verifier.finish()?;
    let last = summary.first + summary.lines;
    let mut told = match summary.lines {
        0 => "the log is empty".to_owned(),
        lines => format!(
            "the chain is whole: {lines} entries, {} to {}\nhash of the last: {}",
            summary.first,
            last - 1,
            hex::encode(summary.head)
        ),
    };
    let is_all = summary.first <= *first;
    if !is_all {
        told.push_str(&format!(
            "\nentries {first} to {} were not looked at: they are in files that were not given; say --first {} if those are gone",
            summary.first - 1,
            summary.first
        ));
    }
    if config.is_none() {
        told.push_str("\nwhether entries are missing at its end was not checked: give --config");
    }
    say(&mut stdout(), &told);
    Ok(if is_all { ExitCode::SUCCESS } else { INCOMPLETE.into() })
}

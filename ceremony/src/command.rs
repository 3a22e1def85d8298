//! The commands.

use clap::{Parser, Subcommand};
use portcullis_ceremony::{exit::Exit, script::Script};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// Scripted ceremonies of several people for the keys on which everything rests.
#[derive(Debug, Parser)]
#[command(name = "portcullis-ceremony", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks a script: says everything that is wrong with it.
    Lint {
        /// The script, script.toml
        script: PathBuf,
    },
    /// Prints every step of a script in words, with who does it, and its hash as words to read aloud.
    Plan {
        /// The script, script.toml
        script: PathBuf,
    },
}

/// Why a command ends without having done its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not valid:\n{problems}", path.display())]
    Invalid {
        path: PathBuf,
        problems: portcullis_ceremony::problem::Problems,
    },
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Unreadable { .. } | Self::Output(_) => Exit::Usage,
            Self::Invalid { .. } => Exit::Invalid,
        }
    }
}

/// Runs the command that was given.
pub(crate) fn run() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap knows whether this belongs on standard output or standard error. Where that is closed, nobody reads it.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    match perform(arguments.command) {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            failure.exit()
        }
    }
}

fn perform(command: Command) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match command {
        Command::Lint { script } => {
            let script = read_script(&script)?;
            writeln!(out, "{}: a valid script of kind {}", script.title, script.kind)?;
            writeln!(out, "{}", script.hash)?;
        }
        Command::Plan { script } => {
            for line in read_script(&script)?.plan() {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(Exit::Done)
}

fn read_script(path: &Path) -> Result<Script, Failure> {
    let text = fs::read_to_string(path).map_err(|source| Failure::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Script::parse(&text).map_err(|problems| Failure::Invalid {
        path: path.to_owned(),
        problems,
    })
}

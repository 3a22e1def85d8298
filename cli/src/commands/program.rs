//! `portcullis completion` and `portcullis man`: what the program says of itself.

use crate::{
    arguments::{Arguments, CompletionArguments, ManArguments},
    console::Console,
    failure::{Exit, Failure},
};
use clap::CommandFactory;
use serde_json::json;
use std::{fs, io::Write};

/// Prints a completion script.
pub(crate) fn completion(arguments: &CompletionArguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), NAME, &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script)
        .and_then(|()| out.flush())
        .map_err(Failure::StandardOutput)?;
    Ok(Exit::Done)
}

/// Writes a manual page for the program and each of its commands.
pub(crate) fn man(console: Console, arguments: &ManArguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .map_err(|source| Failure::Output {
            path: directory.clone(),
            source,
        })?;
    let shown = directory.display();
    console.result(
        &format!("wrote the manual pages to {shown}; `man {shown}/{NAME}.1` shows the first"),
        &json!({ "out": directory.to_string_lossy() }),
    )?;
    Ok(Exit::Done)
}

const NAME: &str = "portcullis";

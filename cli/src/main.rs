//! The Portcullis command line.
//!
//! The way of a command: `arguments` parses the command line into types that cannot hold a wrong value (`name`,
//! `words`, `uses`); `connection` connects; the command's own module in `commands` makes the call. `input` and `message`
//! read what it works on, `output` writes files, `document` turns answers into JSON and `table` into text, and only
//! `console` and `progress` print. `files` are trees of files, and files that are replaced. `failure` says what went wrong, what to do next and with which code the program exits.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod connection;
mod console;
mod context;
mod document;
mod failure;
mod files;
mod input;
mod message;
mod name;
mod output;
mod paint;
mod progress;
mod table;
mod uses;
mod words;

use crate::{
    arguments::{Arguments, Command},
    console::{Console, Form},
    failure::{Exit, Failure},
};
use clap::{ColorChoice, CommandFactory, FromArgMatches};
use std::{alloc::System, process::ExitCode};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that is freed: data keys and plaintexts pass through buffers of TLS, HTTP/2 and protobuf.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let console = arguments.global.console();
    let exit = run(arguments, console).unwrap_or_else(|failure| {
        console.failure(&failure);
        failure.exit()
    });
    exit.into()
}

/// Reads the command line; what clap says of it has the colours that are wanted.
fn parse() -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command().color(colours_in(
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()),
    ));
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// What `--color` says, before anything else is understood.
fn colours_in(mut arguments: impl Iterator<Item = String>) -> ColorChoice {
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--color") {
            Some("") => arguments.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        if let Some(choice) = value.and_then(|value| value.parse().ok()) {
            return choice;
        }
    }
    ColorChoice::Auto
}

fn run(arguments: Arguments, console: Console) -> Result<Exit, Failure> {
    if let Command::Pkcs11(command) = arguments.command {
        // The module has runtimes of its own, which this thread drives.
        return commands::pkcs11::run(console, command);
    }
    if let Command::BenchHelper(helper) = arguments.command {
        // It has threads and a runtime of its own.
        return commands::bench::help(helper);
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Internal(format!("cannot start: {error}")))?
        .block_on(commands::run(arguments, console))
}

/// Ends a run whose command line was not understood, or that asked for help.
fn refuse(error: &clap::Error) -> ExitCode {
    let asked_for_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !asked_for_json {
        // clap knows whether this belongs on standard output or standard error. Where that is closed, nobody reads it.
        drop(error.print());
        return if error.use_stderr() {
            Exit::Usage.into()
        } else {
            Exit::Done.into()
        };
    }
    // Behind the first paragraph come the usage and where to find help.
    let text = error.to_string();
    let message = text
        .trim_start_matches("error: ")
        .split("\n\n")
        .next()
        .unwrap_or_default();
    let failure = Failure::Usage(message.trim_end().to_owned());
    Console::new(Form::Json, ColorChoice::Never).failure(&failure);
    failure.exit().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colours_are_found_wherever_they_are_asked_for() {
        for (line, expected) in [
            ("portcullis --color never --help", ColorChoice::Never),
            ("portcullis key create --color=always", ColorChoice::Always),
            ("portcullis --colour never", ColorChoice::Auto),
            ("portcullis --color", ColorChoice::Auto),
            ("portcullis", ColorChoice::Auto),
        ] {
            assert_eq!(colours_in(line.split(' ').map(str::to_owned)), expected, "{line}");
        }
    }
}

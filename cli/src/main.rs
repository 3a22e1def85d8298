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
mod document;
mod failure;
mod files;
mod input;
mod message;
mod name;
mod output;
mod progress;
mod table;
mod uses;
mod words;

use crate::{
    arguments::{Arguments, Command},
    console::{Console, Form},
    failure::{Exit, Failure},
};
use clap::Parser;
use std::{alloc::System, process::ExitCode};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that is freed: data keys and plaintexts pass through buffers of TLS, HTTP/2 and protobuf.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let console = Console(arguments.global.form());
    let exit = run(arguments, console).unwrap_or_else(|failure| {
        console.failure(&failure);
        failure.exit()
    });
    exit.into()
}

fn run(arguments: Arguments, console: Console) -> Result<Exit, Failure> {
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
    Console(Form::Json).failure(&failure);
    failure.exit().into()
}

//! The Portcullis command line.
//!
//! The way of a command: `arguments` parses the command line into types that cannot hold a wrong value (`name`,
//! `words`, `uses`); this module connects; the command's own module (`ring`, `key`, `signature`, `cipher`, `random`,
//! `cluster`) makes the call. `input` and `message` read what it works on, `output` writes files, `document` turns
//! answers into JSON and `table` into text, and only `console` prints. `failure` says what went wrong, what to do next
//! and with which code the program exits.

#![forbid(unsafe_code)]

mod arguments;
mod cipher;
mod cluster;
mod console;
mod document;
mod failure;
mod input;
mod key;
mod message;
mod name;
mod output;
mod random;
mod ring;
mod signature;
mod table;
mod uses;
mod words;

use crate::{
    arguments::{Arguments, Command, GlobalArguments},
    console::{Console, Form},
    failure::{Exit, Failure},
};
use clap::Parser;
use portcullis_client::{Client, Credentials};
use std::process::ExitCode;

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
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Internal(format!("cannot start: {error}")))?
        .block_on(async {
            let client = connect(&arguments.global).await?;
            match arguments.command {
                Command::Ring(command) => ring::run(&client, console, command).await,
                Command::Key(command) => key::run(&client, console, command).await,
                Command::Sign(arguments) => signature::sign(&client, console, arguments).await,
                Command::Verify(arguments) => signature::verify(&client, console, arguments).await,
                Command::Encrypt(arguments) => cipher::encrypt(&client, console, arguments).await,
                Command::Decrypt(arguments) => cipher::decrypt(&client, console, arguments).await,
                Command::Random(arguments) => random::run(&client, console, arguments).await,
                Command::Cluster(command) => cluster::run(&client, console, command).await,
            }
        })
}

async fn connect(global: &GlobalArguments) -> Result<Client, Failure> {
    let endpoint = global.endpoint.clone().ok_or_else(|| {
        Failure::Usage(
            "no endpoint: give --endpoint or set PORTCULLIS_ENDPOINT, to unix:PATH or https://HOST:PORT".to_owned(),
        )
    })?;
    let credentials = match (&global.cert, &global.key_file, &global.ca) {
        (Some(cert), Some(key_file), Some(ca)) => Some(Credentials::new(cert, key_file, ca)),
        _ => None,
    };
    Ok(Client::connect(endpoint, credentials)
        .await?
        .with_deadline(global.timeout))
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

//! `portcullis-ceremony`: ceremonies from the command line.

#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run().into()
}

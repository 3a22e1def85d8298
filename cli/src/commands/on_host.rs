//! What is done on the gateway's host, with its files and HSMs: by `portcullisd`, which is a program of its own.

use crate::{
    console::{Console, Form},
    failure::{Exit, Failure},
};
use std::{env, ffi::OsString, io, os::unix::process::CommandExt, path::PathBuf, process::Command};

/// Becomes `portcullisd COMMAND ARGUMENTS`: what it prints and how it ends is its own. It is found beside this program, or on
/// the search path.
pub(crate) fn hand_on(console: Console, command: &str, arguments: &[OsString]) -> Result<Exit, Failure> {
    if console.form() == Form::Json {
        return Err(Failure::Usage(format!(
            "`{command}` prints text alone: leave out --json"
        )));
    }
    let error = Command::new(program()).arg(command).args(arguments).exec();
    Err(match error.kind() {
        io::ErrorKind::NotFound => Failure::Usage(format!(
            "`{command}` works on the gateway's own files and HSMs, by portcullisd, which is neither beside this program nor on \
             the search path: run it on the gateway's host"
        )),
        _ => Failure::Internal(format!("cannot start {PORTCULLISD}: {error}")),
    })
}

fn program() -> PathBuf {
    env::current_exe()
        .ok()
        .map(|own| own.with_file_name(PORTCULLISD))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PORTCULLISD.into())
}

const PORTCULLISD: &str = "portcullisd";

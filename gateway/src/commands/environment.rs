//! The process's environment: the configuration is the file alone.

use anyhow::{Context, Result};
use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Command,
};

/// Starts this program again, in this process, without the variables that OpenTelemetry's libraries read by themselves, if there
/// are any: they could name another collector, add headers and attributes to what is sent, or change the bounds of queues.
pub(crate) fn without_telemetry_variables() -> Result<()> {
    let names: Vec<_> = env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| is_of_telemetry(name))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    start_again(&names).map(|never| match never {})
}

fn start_again(without: &[OsString]) -> Result<Infallible> {
    let program = env::current_exe().context("this program's own file is not known")?;
    let mut arguments = env::args_os();
    let mut command = Command::new(&program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for name in without {
        command.env_remove(name);
    }
    // Returns only if it fails.
    let error = command.exec();
    Err(error).with_context(|| {
        format!(
            "{} cannot be started again without the OTEL_ variables of its environment, which the gateway does not go by; start it \
             without them",
            program.display()
        )
    })
}

fn is_of_telemetry(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"OTEL_")
}

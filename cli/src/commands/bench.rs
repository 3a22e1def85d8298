//! `portcullis bench`, and the processes that it starts.

use crate::{
    arguments::GlobalArguments,
    connection::gateway,
    console::Console,
    failure::{Exit, Failure},
    output::write_file,
};
use portcullis_bench::{Address, BenchArguments, Error, Helper, measure};

pub(super) async fn run(
    global: &GlobalArguments,
    console: Console,
    arguments: BenchArguments,
) -> Result<Exit, Failure> {
    let (endpoint, credentials) = gateway(global)?;
    let address = Address { endpoint, credentials };
    let program = std::env::current_exe()
        .map_err(|error| Failure::Internal(format!("this program does not find itself: {error}")))?;
    let plan = arguments.plan(address, global.timeout, program)?;
    let report = measure(&plan, &|step| console.note(step)).await?;
    if report.machine.debug_build {
        console.note("this is a debug build: its figures say nothing of Portcullis");
    }
    if let (Some(path), Some(svg)) = (arguments.plot(), report.svg()) {
        write_file(path, svg.as_bytes())?;
    }
    console.result(&report.text(), &report.document())?;
    Ok(Exit::Done)
}

/// One of the processes that a measurement starts.
pub(crate) fn help(helper: Helper) -> Result<Exit, Failure> {
    match helper.serve() {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Failure::Internal(format!("a process of a measurement: {error}"))),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Gateway(error) => (*error).into(),
            Error::Usage(_) | Error::Pin(_) | Error::File { .. } => Self::Usage(error.to_string()),
            error => Self::Internal(error.to_string()),
        }
    }
}

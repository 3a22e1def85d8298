//! Measures all that `docs/performance.md` shows, on SoftHSM2: starts gateways, and runs `portcullis bench` against them. Build it, the
//! gateway and the command line with `--release`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its tables are its output")]

mod alone;
mod costs;
mod keys;
mod setting;
mod tables;

use anyhow::{Context, Result, bail};
use portcullis_bench::Machine;
use setting::Effort;
use std::env;

#[tokio::main]
async fn main() -> Result<()> {
    let mut effort = Effort::default();
    let mut parts = Vec::new();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => effort = effort.quick(),
            "--members" => effort.members = number(words.next())?,
            "--workers" => effort.workers = number(words.next())?,
            "--picture" => effort.picture = words.next().context(USAGE)?.into(),
            part @ ("tables" | "keys" | "costs") => parts.push(part.to_owned()),
            _ => bail!("{USAGE}"),
        }
    }
    if cfg!(debug_assertions) {
        complain("THIS IS A DEBUG BUILD: its figures say nothing of Portcullis. Build with cargo build --release.");
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|one| one == part);
    println!(
        "Measured by `measure-performance{}`; members: {}, workers of each: {}.\n\n{}\n",
        if effort.is_quick { " --quick" } else { "" },
        effort.members,
        effort.workers,
        Machine::here().text()
    );
    if wanted("tables") {
        tables::measure(&effort)?;
    }
    if wanted("keys") {
        keys::measure(&effort).await?;
    }
    if wanted("costs") {
        costs::measure(&effort)?;
        alone::measure(&effort)?;
    }
    Ok(())
}

fn number(word: Option<String>) -> Result<usize> {
    let number: usize = word.context(USAGE)?.parse().context(USAGE)?;
    if !(1..=16).contains(&number) {
        bail!("{USAGE}");
    }
    Ok(number)
}

#[expect(clippy::print_stderr, reason = "what happens is no part of the tables")]
fn complain(what: &str) {
    eprintln!("{what}");
}

const USAGE: &str =
    "usage: measure-performance [--quick] [--members N] [--workers N] [--picture FILE] [tables | keys | costs]...";

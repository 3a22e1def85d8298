//! Each target for a short time: `FUZZ_SECONDS` says how long, two seconds if it says nothing.

use libtest_mimic::{Arguments, Trial};
use portcullis_fuzz::{TARGETS, become_worker_if_asked, check::check};
use std::{env, process::ExitCode, time::Duration};

#[expect(clippy::print_stdout, reason = "shown with a test's output, as any test's is")]
fn main() -> ExitCode {
    become_worker_if_asked();
    let seconds = env::var("FUZZ_SECONDS").map_or(2, |text| text.parse().expect("FUZZ_SECONDS is a number of seconds"));
    let trials = TARGETS.iter().map(|target| {
        Trial::test(target.name, move || {
            let tally = check(target, Duration::from_secs(seconds));
            println!(
                "{}: {} accepted, {} refused",
                target.name, tally.accepted, tally.refused
            );
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

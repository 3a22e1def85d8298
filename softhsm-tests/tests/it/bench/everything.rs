//! The command behind `docs/performance.md` measures what the page says.

use portcullis_softhsm_tests::{Output, run, temporary_directory, workspace_binary};
use std::process::Command;

#[test]
fn it_measures_what_many_keys_cost() {
    let output = measured("keys");
    has_table(&output, "**Many P-256 keys, all made through the API**", 2);
}

#[test]
fn it_measures_what_protection_costs() {
    let output = measured("costs");
    let title = "**Operations a second with 64 callers, pipelined over the Unix socket**";
    has_table(&output, title, 6);
    has_table(&output, "**One step alone, in one thread, microseconds**", 6);
}

#[track_caller]
fn measured(part: &str) -> Output {
    let directory = temporary_directory();
    let mut command = Command::new(workspace_binary("measure-performance"));
    let output = run(command.args(["--quick", part]).current_dir(directory.path())).succeeded();
    assert_eq!(
        output.stderr.contains("DEBUG BUILD"),
        cfg!(debug_assertions),
        "{output}"
    );
    output
}

/// A table of so many rows of figures.
#[track_caller]
fn has_table(output: &Output, title: &str, rows: usize) {
    let text = output.text();
    let (_, below) = text
        .split_once(title)
        .unwrap_or_else(|| panic!("no {title} in {output}"));
    let lines = below.trim_start().lines().take_while(|line| line.starts_with('|'));
    let figures: Vec<&str> = lines.skip(2).collect();
    assert_eq!(figures.len(), rows, "{title} in {output}");
    let numbers = figures.iter().all(|row| !row.contains("NaN") && !row.contains("inf"));
    assert!(numbers, "{output}");
}

//! The commands of docs/policy.md, over the policy that stands there.

use crate::readme::steps;
use portcullis_softhsm_tests::{run, temporary_directory, workspace_binary};
use std::{env, fs, path::Path, process::Command};

#[test]
fn the_policy_page_shows_what_its_commands_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = fs::read_to_string(docs.join("policy.md")).expect("docs/policy.md");
    let sample = fs::read_to_string(docs.join("portcullis.toml")).expect("docs/portcullis.toml");
    let (rest, _) = sample
        .split_once("# Who may do what")
        .expect("the sample's policy comes last");
    let work = temporary_directory();
    let write = |file: &str, text: &str| fs::write(work.path().join(file), text).expect("a file");
    write("portcullis.toml", &format!("{rest}{}", block(&page, "toml")));
    write("policy.cedar", block(&page, "cedar"));
    let binaries = workspace_binary("portcullisd")
        .parent()
        .expect("a directory")
        .to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([binaries].into_iter().chain(env::split_paths(&others))).expect("a search path");
    let steps = steps(&page);
    assert!(steps.len() >= 10, "the page has {} commands", steps.len());
    for step in steps {
        let output = run(Command::new("sh")
            .args(["-c", &step.command])
            .env("PATH", &path)
            .current_dir(work.path()));
        assert_eq!(output.text(), step.shown, "$ {}\n{}", step.command, output.stderr);
    }
}

/// The text of the only block in a language.
fn block<'p>(page: &'p str, language: &str) -> &'p str {
    let start = format!("\n```{language}\n");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("no block {language}"));
    assert!(!rest.contains(&start), "two blocks {language}");
    rest.split_once("```\n").expect("the block has an end").0
}

//! The tour in README.md, run as it stands there.

use portcullis_softhsm_tests::{Gateway, TestCluster, run, temporary_directory, workspace_binary};
use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command};

/// A command of the tour with the output that the README shows.
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) shown: String,
}

#[test]
fn the_tour_in_the_readme_does_what_it_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let steps = steps(&readme);
    assert!(steps.len() >= 10, "the README has {} commands", steps.len());

    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let work = temporary_directory();
    for file in ["README.md", "LICENSE"] {
        fs::copy(root.join(file), work.path().join(file)).expect("a copy");
    }
    symlink(cluster.path(), work.path().join(".portcullis-dev")).expect("a link");
    let binaries = workspace_binary("portcullis").parent().expect("a directory").to_owned();
    let path = env::join_paths(
        [binaries]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    );

    for Step { command, shown } in steps {
        let here = command.replace("127.0.0.1:7443", &gateway.tls().to_string());
        let output = run(Command::new("sh")
            .arg("-c")
            .arg(format!("{here} 2>&1"))
            .env("PATH", path.as_ref().expect("a search path"))
            .env("PORTCULLIS_ENDPOINT", "unix:.portcullis-dev/portcullis.sock")
            .env("PORTCULLIS_CONFIG", ".portcullis-dev/contexts.toml")
            .current_dir(work.path()));
        assert_eq!(output.status.success(), !shown.starts_with("error:"), "{output}");
        assert_eq!(masked(&output.text()), masked(&shown), "$ {command}");
    }
}

/// The commands of the `console` blocks.
pub(crate) fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            line => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    shown: String::new(),
                }),
                (None, Some(step)) if step.command.ends_with('\\') => {
                    step.command.push('\n');
                    step.command.push_str(line);
                }
                (None, Some(step)) => {
                    step.shown.push_str(line);
                    step.shown.push('\n');
                }
                (None, None) => panic!("the README shows output before any command: {line}"),
            },
        }
    }
    steps
}

/// Text without what differs from run to run: long hexadecimal runs, and every number.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(|character: char| !character.is_ascii_alphanumeric() && character != '-') {
        let (word, end) = match word.char_indices().next_back() {
            Some((at, last)) if !last.is_ascii_alphanumeric() && last != '-' => word.split_at(at),
            _ => (word, ""),
        };
        let hexadecimal = word.len() >= 12 && word.chars().all(|one| one.is_ascii_hexdigit() || one == '-');
        let number = !word.is_empty() && word.chars().all(|one| one.is_ascii_digit());
        let time = word.len() >= 8 && word.starts_with("20") && word.contains('-') || word.ends_with('Z');
        masked.push_str(if hexadecimal || number || time { "#" } else { word });
        masked.push_str(end);
    }
    masked
}

//! What the program says of itself: help, completion and manual pages; and what it hands on to `portcullisd`.

use super::CommandLine;
use portcullis_softhsm_tests::{
    Gateway, Output, PORTCULLIS, TestCluster, find_tool, run, temporary_directory, workspace_binary,
};
use std::{fs, path::Path, process::Command};

#[test]
fn shells_complete_commands_and_options() {
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::with(directory, Vec::new());
    for shell in ["bash", "zsh", "fish"] {
        let script = portcullis.run(&format!("completion {shell}")).text();
        fs::write(directory.join(shell), script).expect("the script");
    }
    portcullis.fails_with(2, "completion tcsh");

    let shell = |name: &str, arguments: &[&str]| {
        run(Command::new(find_tool(name, name))
            .args(arguments)
            .current_dir(directory))
        .succeeded()
        .text()
    };
    shell("bash", &["-n", "bash"]);
    let complete = |words: &str, last: &str, before: &str| {
        let script = format!(
            "source ./bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _portcullis portcullis '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        shell("bash", &["-euc", &script])
    };
    assert_eq!(complete("portcullis key ro", "ro", "key"), "rotate\n");
    assert_eq!(complete("portcullis key create --typ", "--typ", "create"), "--type\n");
    assert!(complete("portcullis key create --type ec-", "ec-", "--type").contains("ec-p256\n"));

    shell("fish", &["--no-execute", "fish"]);
    let offered = shell(
        "fish",
        &["--command", "source ./fish; complete --do-complete 'portcullis key ro'"],
    );
    assert!(offered.starts_with("rotate\t"), "{offered}");

    shell("zsh", &["-n", "zsh"]);
    let defined = shell(
        "zsh",
        &[
            "-fc",
            "autoload -U compinit; compinit -u -D; source ./zsh; whence -w _portcullis",
        ],
    );
    assert_eq!(defined, "_portcullis: function\n");
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::with(directory, Vec::new());
    portcullis.run("man pages");
    assert!(portcullis.ask("man pages")["out"].is_string());
    let help = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/help");
    let mandoc = |arguments: &[&str], page: &Path| -> Output {
        run(Command::new(find_tool("mandoc", "mandoc")).args(arguments).arg(page))
    };
    let mut pages = 0;
    for entry in fs::read_dir(help).expect("the help on file") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        let page = directory.join("pages").join(name.replace(".txt", ".1"));
        let checked = mandoc(&["-T", "lint", "-W", "error"], &page);
        assert!(checked.status.success(), "{checked}");
        pages += 1;
    }
    assert!(pages > 40, "{pages} pages");
    let shown = mandoc(&["-T", "ascii"], &directory.join("pages/portcullis-key-rotate.1")).succeeded();
    let plain: String = strip_overstrikes(&shown.text());
    assert!(plain.contains("Generate a new version and make it primary"), "{plain}");
    fs::write(directory.join("taken"), "").expect("a file");
    portcullis.fails_with(2, "man taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_on_the_gateways_host_is_handed_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::with(directory, Vec::new());
    let config = cluster.config_file().to_string_lossy().into_owned();
    for line in [
        format!("policy check --config {config}"),
        "policy roles".to_owned(),
        "policy explain --help".to_owned(),
        format!("audit verify --config {config} {}", cluster.audit_file().display()),
        "backup verify --file absent".to_owned(),
    ] {
        let handed = portcullis.try_run(&line);
        let own = run(Command::new(workspace_binary("portcullisd"))
            .args(line.split(' '))
            .current_dir(directory));
        assert_eq!(handed.status.code(), own.status.code(), "{handed}\n{own}");
        assert_eq!((handed.text(), &handed.stderr), (own.text(), &own.stderr), "{line}");
    }
    portcullis.run(&format!("backup create --config {config} --output made.backup"));
    portcullis.run("backup verify --file made.backup");
    portcullis.fails_with(2, "--json policy roles");
    drop(gateway);

    // Where there is no portcullisd.
    fs::create_dir(directory.join("alone")).expect("a directory");
    let alone = directory.join("alone").join(PORTCULLIS);
    fs::copy(workspace_binary(PORTCULLIS), &alone).expect("a copy");
    let refused = run(Command::new(&alone).args(["policy", "roles"]).env("PATH", directory));
    assert_eq!(refused.status.code(), Some(2), "{refused}");
    assert!(refused.stderr.contains("on the gateway's host"), "{refused}");
}

/// Text without the backspaces by which terminals of old made it bold.
fn strip_overstrikes(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        if character == '\u{8}' {
            plain.pop();
        } else {
            plain.push(character);
        }
    }
    plain
}

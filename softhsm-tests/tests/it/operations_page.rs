//! The commands of docs/operations.md, run as they stand there.

use portcullis_softhsm_tests::{Kryoptic, find_tool, run, temporary_directory, workspace_binary};
use std::{env, fs, net::TcpListener, path::Path, process::Command};

#[test]
fn the_commands_of_the_operations_page_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs::read_to_string(root.join("docs/operations.md")).expect("docs/operations.md");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 12, "the page has {} blocks", blocks.len());

    let scratch = temporary_directory();
    let vendor = Kryoptic::WithoutTemplates.module();
    let here = |text: &str| {
        let mut text = text.replace("127.0.0.1:7444", &format!("127.0.0.1:{}", free_port()));
        for directory in [
            "/etc/portcullis",
            "/var/lib/portcullis",
            "/var/log/portcullis",
            "/var/backups/portcullis",
            "/run/portcullis",
        ] {
            let its = scratch.path().join(directory.trim_start_matches('/'));
            text = text.replace(directory, its.to_str().expect("UTF-8"));
        }
        text = text.replace("/usr/lib/vendor/pkcs11.so", vendor.to_str().expect("UTF-8"));
        text = text.replace("VENDOR_CONF=", "KRYOPTIC_CONF=");
        text
    };
    // One shell for all blocks. A command that is not expected to fail and does ends it; `! command` must fail.
    let mut script = String::from(
        "set -euo pipefail\n\
         trap 'if [ -n \"${gateway:-}\" ]; then kill \"$gateway\" 2>/dev/null || true; wait; fi' EXIT\n\
         trap 'exit 99' TERM\n",
    );
    for (line, block) in &blocks {
        script.push_str(&format!("echo \"--- line {line}\"\n{}", expecting_failures(block)));
    }
    let script = here(&script);
    let file = scratch.path().join("script");
    fs::write(&file, &script).expect("the script");
    let binaries = workspace_binary("portcullisd")
        .parent()
        .expect("a directory")
        .to_owned();
    let path = env::join_paths(
        [binaries]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    );
    // Ends the whole group, the gateway included, before the test gives up.
    let output = run(Command::new(find_tool("timeout", "coreutils"))
        .args(["-k", "5", "170", "bash"])
        .arg(&file)
        .env("PATH", path.expect("a search path"))
        .current_dir(scratch.path()));
    let log = scratch.path().join("var/log/portcullis/portcullisd.log");
    let log = fs::read_to_string(log).unwrap_or_default();
    assert!(output.status.success(), "{output}\n--- the gateway's log\n{log}");
}

/// The `sh` blocks with their lines.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(page.lines()) {
        match line {
            "```sh" => {
                inside = true;
                blocks.push((number + 1, String::new()));
            }
            "```" => inside = false,
            line if inside => {
                let (_, block) = blocks.last_mut().expect("a block has begun");
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    assert!(!inside, "the last block has no end");
    blocks
}

/// A shell does not end when `! command` finds that the command succeeded.
fn expecting_failures(block: &str) -> String {
    let mut text = String::new();
    for line in block.lines() {
        match line.strip_prefix("! ") {
            Some(command) => text.push_str(&format!(
                "if {command}; then echo 'it succeeded, and should have failed: '{command:?} >&2; exit 1; fi\n"
            )),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// A port that nobody listens on now. The gateway takes it a moment later; it is the same for the whole page.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

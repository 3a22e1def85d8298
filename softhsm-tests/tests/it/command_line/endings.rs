//! How commands end: exit codes, what is said, colours and progress.

use super::{CommandLine, over_tls};
use portcullis_client::v1::MemberState;
use portcullis_softhsm_tests::{
    AuditLog, Gateway, LONG, MEMBERS, Output, TestCluster, Wish, find_tool, run, temporary_directory,
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_command_leaves_nothing_behind_and_says_by_its_exit_code_what_went_wrong() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::new(directory, &gateway);
    portcullis.run("ring create demo");
    portcullis.run("key create demo/data --type aes-256");
    fs::write(directory.join("document"), "a document").expect("a document");
    portcullis.run("encrypt demo/data --in document --out document.enc --aad one");
    portcullis.fails_with(3, "decrypt demo/data --in document.enc --out document.dec --aad other");
    assert!(
        !directory.join("document.dec").exists(),
        "a failed decryption left a file"
    );

    // Somebody to whom the policy allows nothing.
    let nobody = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/nobody"), &cluster.pki("ca.pem"));
    let mut options = over_tls(&cluster, &gateway);
    options[3] = nobody.certificate().to_string_lossy().into_owned();
    options[5] = nobody.private_key().to_string_lossy().into_owned();
    let as_nobody = CommandLine::with(directory, options);
    let said = as_nobody.fails_with(8, "key list demo");
    assert!(said.contains("ACCESS_DENIED") && said.contains("help: "), "{said}");
    let told: Value = serde_json::from_str(&as_nobody.fails_with(8, "--json key list demo")).expect("JSON");
    assert_eq!(
        (&told["error"]["kind"], &told["error"]["reason"]),
        (&"denied".into(), &"ACCESS_DENIED".into())
    );

    for member in ["a", "b"] {
        portcullis.run(&format!("cluster drain {member}"));
    }
    let said = portcullis.fails_with(3, "cluster drain c");
    assert!(said.contains("LAST_MEMBER"), "{said}");
    portcullis.run("cluster drain c --allow-last");
    let said = portcullis.fails_with(5, "encrypt demo/data --in document --out again.enc");
    assert!(
        said.contains("HSM_UNAVAILABLE") && said.contains("help: try again"),
        "{said}"
    );
    assert!(!directory.join("again.enc").exists());
    gateway.stop();
    let said = portcullis.fails_with(6, "ring list");
    assert!(said.contains("portcullis.sock"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_leads_to_its_entry_in_the_audit_log() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let portcullis = CommandLine::new(directory.path(), &gateway);
    portcullis.run("ring create demo");
    for (code, line, reason, action) in [
        (4, "key show demo/absent", "KEY_NOT_FOUND", "key.read"),
        (7, "ring create demo", "KEY_RING_ALREADY_EXISTS", "key_ring.create"),
        (4, "cluster drain absent", "MEMBER_NOT_FOUND", "cluster.manage"),
    ] {
        let said = portcullis.fails_with(code, line);
        let told: Value = serde_json::from_str(&portcullis.fails_with(code, &format!("--json {line}"))).expect("JSON");
        let written = said
            .split_once(&format!("({reason}, request "))
            .and_then(|(_, rest)| rest.split_once(')'))
            .unwrap_or_else(|| panic!("no request in {said}"));
        let ids = [written.0, told["error"]["request_id"].as_str().expect("a request id")];
        let log = AuditLog::read(&cluster.audit_file());
        for id in ids {
            let entry = log
                .outcomes()
                .find(|entry| entry["request"] == id)
                .unwrap_or_else(|| panic!("{id} is not in the audit log"));
            assert_eq!(
                (&entry["outcome"], &entry["action"]),
                (&reason.into(), &action.into()),
                "{line}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_and_progress_are_for_terminals() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let portcullis = CommandLine::new(directory.path(), &gateway);
    portcullis.run("ring create demo");
    portcullis.run("key create demo/tls --type ec-p256");
    let is_coloured = |output: &Output| output.text().contains("\u{1b}[");
    let status =
        |environment: &str, options: &str| on_terminal(&portcullis, environment, &format!("cluster status {options}"));
    assert!(is_coloured(&status("", "")));
    assert!(!is_coloured(&status("NO_COLOR=1", "")));
    assert!(!is_coloured(&status("TERM=dumb", "")));
    assert!(!is_coloured(&status("", "--color never")));
    assert!(!is_coloured(&status("", "--json")));
    assert!(is_coloured(&status("NO_COLOR=1", "--color always")));
    assert!(is_coloured(&portcullis.run("cluster status --color always")));
    assert!(!is_coloured(&portcullis.run("cluster status")));
    let error = |options: &str| portcullis.fails_with(4, &format!("key show demo/absent {options}"));
    assert!(error("--color always").starts_with("\u{1b}[1;31merror:\u{1b}[0m "));
    assert!(error("").starts_with("error: "));

    // A message that takes longer than a second to come.
    let slow = "(head -c 2000000 /dev/zero; sleep 1.5; head -c 2000000 /dev/zero) |";
    let sign = "sign demo/tls --in - --out slow.sig";
    let watched = on_terminal(&portcullis, slow, sign).succeeded();
    assert!(watched.text().contains("MiB, "), "{watched}");
    let unwatched = on_terminal(&portcullis, slow, &format!("{sign} 2>slow.err"));
    assert!(!unwatched.text().contains("MiB, "), "{unwatched}");
    assert_eq!(
        fs::read_to_string(directory.path().join("slow.err")).expect("a file"),
        ""
    );
}

/// Runs a command on a terminal, by a shell: `before` is what stands before the command.
fn on_terminal(portcullis: &CommandLine<'_>, before: &str, arguments: &str) -> Output {
    let command = portcullis.command(arguments);
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let line: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut script = Command::new(find_tool("script", "bsdutils"));
    script
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{before} {}", line.join(" ")))
        .arg("/dev/null")
        .current_dir(portcullis.directory)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    run(&mut script)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_changes_and_outlives_the_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for member in MEMBERS {
        gateway.wait_for_member(member, MemberState::Ready).await;
    }
    let directory = temporary_directory();
    let portcullis = CommandLine::new(directory.path(), &gateway);
    let mut command = portcullis.command("--json cluster status --watch --interval 20ms");
    let watch = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let watch = Watch::new(watch.expect("a watch"));
    tokio::task::block_in_place(|| {
        watch.until("all members serve", ["ready", "ready", "ready"]);
        portcullis.run("cluster drain b");
        watch.until("one is drained", ["ready", "drained", "ready"]);
        gateway.stop();
        let _gateway = Gateway::start(&cluster);
        watch.until("all serve again", ["ready", "ready", "ready"]);
    });
}

/// A watch that runs; it ends with this.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn new(mut child: Child) -> Self {
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = mpsc::channel();
        // Ends with the output.
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Self { child, lines }
    }

    /// Reads on until the members' states are so.
    #[track_caller]
    fn until(&self, what: &str, wanted: [&str; 3]) {
        loop {
            let line = self.lines.recv_timeout(LONG);
            let line = line.unwrap_or_else(|error| panic!("{error} before {what}"));
            let status: Value = serde_json::from_str(&line).expect("JSON");
            let members = status["members"].as_array().expect("members");
            let states: Vec<_> = members.iter().filter_map(|member| member["state"].as_str()).collect();
            if states == wanted {
                return;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The audit log is rotated, removed or cut short, and no entry is lost or passed over in silence.

use portcullis_client::Client;
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, LONG, SHORT, TestCluster, create_key, create_ring, find_tool, run, sign, wait_until,
    workspace_binary,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::task::JoinSet;

const CALLERS: usize = 6;
const ROTATIONS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_loses_no_line_and_breaks_no_chain() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    let ended = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(sign_until(gateway.unix_client().await, key.clone(), Arc::clone(&ended)));
    }
    let mut files = tokio::task::block_in_place(|| rotate_again_and_again(&cluster, &gateway));
    tokio::task::block_in_place(|| {
        wait_until("the last audit file", SHORT, || {
            cluster.audit_file().exists().then_some(())
        });
    });
    ended.store(true, Ordering::Relaxed);
    let signatures: usize = callers.join_all().await.into_iter().sum();
    gateway.stop();
    files.push(cluster.audit_file());

    let log = AuditLog::read_all(&files);
    let signed = log.outcomes().filter(|entry| entry["action"] == "sign");
    let requests: Vec<_> = signed
        .map(|entry| entry["request"].as_str().expect("a request").to_owned())
        .collect();
    assert_eq!(requests.len(), signatures);
    assert_eq!(
        requests.iter().collect::<BTreeSet<_>>().len(),
        signatures,
        "a line is there twice"
    );
    let continued = log.entries.iter().filter(|entry| entry["action"] == "audit.continued");
    assert_eq!(continued.count(), ROTATIONS);
    for file in &files[1..] {
        let text = fs::read_to_string(file).expect("a file of the log");
        assert!(
            text.lines().next().is_some_and(|line| line.contains("audit.continued")),
            "{}",
            file.display()
        );
    }
    let output = verify(&cluster, &files);
    assert!(output.status.success(), "{output}");
    assert!(
        output.text().contains(&format!("{} entries, 1 to", log.entries.len())),
        "{output}"
    );
}

/// Signs until it is told to end; returns how many signatures there were.
async fn sign_until(client: Client, key: String, ended: Arc<AtomicBool>) -> usize {
    let mut signatures = 0;
    while !ended.load(Ordering::Relaxed) {
        sign(&client, &key, b"a message")
            .await
            .expect("a signature during rotation");
        signatures += 1;
    }
    signatures
}

/// Renames the audit file as often as is wanted, each time after something was written to it; returns the renamed files. Every
/// other time the gateway is told.
fn rotate_again_and_again(cluster: &TestCluster, gateway: &Gateway) -> Vec<PathBuf> {
    let file = cluster.audit_file();
    (0..ROTATIONS)
        .map(|number| {
            wait_until("a new audit file with entries of requests", SHORT, || {
                fs::read_to_string(&file)
                    .ok()?
                    .contains("\"action\":\"sign\"")
                    .then_some(())
            });
            let rotated = file.with_file_name(format!("audit.jsonl.{number:03}"));
            fs::rename(&file, &rotated).expect("rotated");
            if number % 2 == 0 {
                gateway.hang_up();
            }
            rotated
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logrotate_rotates_by_the_example() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "before").await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/logrotate/portcullis");
    let example = fs::read_to_string(example).expect("the example");
    let (log, reload) = ("/var/log/portcullis/audit.jsonl", "systemctl reload portcullis.service");
    assert!(example.contains(log) && example.contains(reload));
    let audit_file = cluster.audit_file();
    let configuration = cluster.path().join("logrotate.conf");
    let adapted = example
        .replace(log, audit_file.to_str().expect("UTF-8"))
        .replace(reload, &format!("kill -HUP {}", gateway.pid()));
    fs::write(&configuration, adapted).expect("a configuration");
    let rotated = || -> Vec<PathBuf> {
        let entries = fs::read_dir(cluster.path()).expect("the directory");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("audit.jsonl-") && !name.ends_with(".gz")
        });
        files
    };
    tokio::task::block_in_place(|| {
        run(Command::new(find_tool("logrotate", "logrotate"))
            .args(["--force", "--state"])
            .arg(cluster.path().join("logrotate.state"))
            .arg(&configuration))
        .succeeded();
        wait_until("a new audit file", SHORT, || audit_file.exists().then_some(()));
    });
    create_ring(&gateway.unix_client().await, "after").await;
    gateway.stop();
    let mut files = rotated();
    assert_eq!(files.len(), 1, "{files:?}");
    files.push(audit_file);
    let log = AuditLog::read_all(&files);
    for ring in ["keyRings/before", "keyRings/after"] {
        assert!(log.outcomes().any(|entry| entry["resource"] == ring), "{ring}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_audit_file_is_noticed_and_what_follows_is_in_a_new_one() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    // What is in another file already is gone with that.
    fs::rename(cluster.audit_file(), cluster.path().join("audit.jsonl.1")).expect("rotated");
    gateway.hang_up();
    wait_until("a new audit file", SHORT, || {
        cluster.audit_file().exists().then_some(())
    });
    fs::remove_file(cluster.audit_file()).expect("the audit file is removed");
    let mut signatures = 0;
    let started = std::time::Instant::now();
    while !cluster.audit_file().exists() {
        assert!(started.elapsed() < LONG, "the gateway goes on without its audit file");
        sign(&client, &key, b"a message").await.expect("a signature");
        signatures += 1;
    }
    gateway.stop();
    let text = fs::read_to_string(cluster.audit_file()).expect("the new file");
    // All signatures after the removal are there, those before it was noticed too.
    assert_eq!(text.matches("\"action\":\"sign\"").count(), signatures);
    assert!(text.contains("that file was removed"), "{text}");
    let output = verify(&cluster, &[cluster.audit_file()]);
    assert_eq!(output.status.code(), Some(3), "{output}");
    assert!(output.text().contains("in files that were not given"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_when_the_log_was_rotated_while_the_gateway_was_down() {
    let cluster = TestCluster::new();
    let elsewhere = portcullis_softhsm_tests::temporary_directory();
    let mut files = Vec::new();
    for number in 0..3 {
        let gateway = Gateway::start(&cluster);
        create_ring(&gateway.unix_client().await, &format!("ring-{number}")).await;
        // Whether it ends well or not.
        if number == 1 {
            tokio::task::block_in_place(|| gateway.kill9());
        } else {
            gateway.stop();
        }
        let rotated = elsewhere.path().join(format!("{number}.jsonl"));
        fs::copy(cluster.audit_file(), &rotated).expect("moved to another disk");
        fs::remove_file(cluster.audit_file()).expect("moved to another disk");
        files.push(rotated);
    }
    let log = AuditLog::read_all(&files);
    assert_eq!(
        log.entries
            .iter()
            .filter(|entry| entry["action"] == "audit.continued")
            .count(),
        2
    );
    assert!(verify(&cluster, &files).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_log_is_named_by_file_and_line() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "before").await;
    let rotated = cluster.path().join("audit.jsonl.1");
    fs::rename(cluster.audit_file(), &rotated).expect("rotated");
    gateway.hang_up();
    wait_until("a new audit file", SHORT, || {
        cluster.audit_file().exists().then_some(())
    });
    create_ring(&gateway.unix_client().await, "after").await;
    gateway.stop();
    let files = [rotated.clone(), cluster.audit_file()];
    assert!(verify(&cluster, &files).status.success());
    let new = fs::read_to_string(cluster.audit_file()).expect("the new file");
    let lines: Vec<_> = new.lines().collect();
    let at = lines.len() / 2;
    let without = |skip: usize| -> String {
        let kept = lines.iter().enumerate().filter(|(number, _)| *number != skip);
        kept.map(|(_, line)| format!("{line}\n")).collect()
    };
    let cases = [
        (new.replacen("keyRings/after", "keyRings/other", 1), "audit.jsonl: line"),
        (without(at), &*format!("audit.jsonl: line {}", at + 1)),
        (without(lines.len() - 1), "the gateway wrote up to entry"),
        (without(0), "audit.jsonl: line 1"),
        (format!("rubbish\n{new}"), "audit.jsonl: line 1 is not an entry"),
    ];
    for (text, expected) in cases {
        fs::write(cluster.audit_file(), text).expect("a changed log");
        let output = verify(&cluster, &files);
        assert!(
            !output.status.success() && output.stderr.contains(expected),
            "{expected}: {output}"
        );
    }
    fs::write(cluster.audit_file(), new).expect("the log as it was");
    let output = verify(&cluster, &[cluster.audit_file(), rotated]);
    assert!(
        !output.status.success() && output.stderr.contains("audit.jsonl.1: line 1"),
        "{output}"
    );
}

pub(super) fn verify(cluster: &TestCluster, files: &[PathBuf]) -> portcullis_softhsm_tests::Output {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["audit", "verify", "--config"])
        .arg(cluster.config_file())
        .args(files))
}

//! What the gateway and its workers have given up, read from /proc.

use portcullis_client::v1::CreateKeyRequest;
use portcullis_softhsm_tests::{
    Gateway, KeySpec, Launch, SHORT, TestCluster, create_key, create_ring, find_tool, key_request, refusal, run, sign,
    temporary_directory, wait_until, workspace_binary,
};
use rustix::process::getuid;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

const NOBODY: u32 = 65534;

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_and_its_workers_are_not_dumped_traced_or_given_privileges() {
    let cluster = TestCluster::new();
    let home = temporary_directory();
    let gateway = as_nobody(&cluster, home.path(), "65536");
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    sign(&client, &key, b"a message").await.expect("a signature");
    let workers = gateway.workers();
    assert_eq!(workers.len(), 3);
    for pid in [gateway.pid()].into_iter().chain(workers.into_values()) {
        let (status, limits) = (read(pid, "status"), read(pid, "limits"));
        assert_eq!(field(&status, "NoNewPrivs:"), "1", "process {pid}");
        assert_eq!(
            field(&limits, "Max core file size"),
            "0                    0                    bytes"
        );
        // What may be dumped and traced by its user belongs to its user there (proc(5)); the directory itself always does.
        assert_eq!(
            field(&status, "Uid:").split_ascii_whitespace().next(),
            Some(own_uid().to_string().as_str())
        );
        let owner = fs::metadata(format!("/proc/{pid}/environ")).expect("the process").uid();
        assert_eq!(owner, 0, "process {pid} can be traced by its user");
    }
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_locked_or_it_is_said_that_it_is_not() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "ring").await;
    let log = gateway.log();
    let unlocked = |pid: u32| field(&read(pid, "status"), "VmLck:") == "0 kB";
    let said = |who: &str| {
        log.lines()
            .any(|line| line.contains(who) && line.contains("memory may be swapped out"))
    };
    assert_eq!(unlocked(gateway.pid()), said("the gateway lacks a protection"), "{log}");
    for (member, pid) in gateway.workers() {
        assert_eq!(unlocked(pid), said(&format!("\"{member}\"")), "{member}: {log}");
    }
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_given_up_is_said_at_the_start() {
    let cluster = TestCluster::new();
    let home = temporary_directory();
    let gateway = as_nobody(&cluster, home.path(), "65536");
    let log = gateway.log();
    let said = |who: &str| {
        log.lines()
            .filter(|line| line.contains(who) && line.contains("RLIMIT_MEMLOCK"))
            .count()
    };
    assert_eq!(said("the gateway lacks a protection"), 1, "{log}");
    assert!(said("worker") >= 3, "{log}");
    assert_eq!(field(&read(gateway.pid(), "status"), "VmLck:"), "0 kB");
    create_ring(&gateway.unix_client().await, "ring").await;
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_worker_writes_where_it_may_and_nowhere_else() {
    let cluster = TestCluster::new();
    let tokens = cluster.member_directory("a").join("tokens");
    let confine = |directory: &Path| {
        cluster.edit_member("a", |member| {
            member.insert(
                "write_only_in".to_owned(),
                vec![directory.to_str().expect("UTF-8")].into(),
            );
        });
    };
    let resident = |key: &str| CreateKeyRequest {
        member: "members/a".to_owned(),
        ..key_request("ring", key, KeySpec::ED25519_RESIDENT)
    };
    confine(&tokens);
    let gateway = Gateway::start(&cluster);
    assert!(!gateway.log().contains("it may write"), "{}", gateway.log());
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let made = client
        .keys()
        .create_key(resident("made"))
        .await
        .expect("a key in the token's directory")
        .into_inner();
    sign(&client, &made.name, b"a message").await.expect("a signature");
    gateway.stop();

    // Confined to another place, the same worker of the same token leaves no object on it.
    let elsewhere = cluster.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    confine(&elsewhere);
    let objects = || files_below(&tokens);
    let before = objects();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    refusal(client.keys().create_key(resident("not-made")).await);
    assert_eq!(objects(), before);
    // The others are not concerned.
    create_key(&client, "ring", "wrapped", KeySpec::EC_P256).await;
    gateway.stop();

    confine(&cluster.path().join("missing"));
    let gateway = Gateway::start(&cluster);
    wait_until("the reason in the log", SHORT, || {
        gateway.log().contains("write_only_in names").then_some(())
    });
    gateway.stop();
}

fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => BTreeSet::from([path]),
        })
        .collect()
}

/// Starts the gateway as a user without rights, who may lock so much memory. The owner of a process without rights is what tells
/// whether it can be dumped: root's processes belong to root either way.
fn as_nobody(cluster: &TestCluster, home: &Path, memlock: &str) -> Gateway {
    let program = home.join("portcullisd");
    fs::copy(workspace_binary("portcullisd"), &program).expect("a copy that everybody may run");
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("permissions");
    let limit = format!("--memlock={memlock}:{memlock}");
    let prlimit = find_tool("prlimit", "util-linux");
    let launch = Launch::new(cluster).from_copy(&program);
    if getuid().is_root() {
        let owner = format!("{NOBODY}:{NOBODY}");
        run(Command::new("chown").args(["-R", &owner]).arg(cluster.path())).succeeded();
        let setpriv = find_tool("setpriv", "util-linux");
        let ids = [
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".to_owned(),
        ];
        let arguments = [limit, setpriv.to_str().expect("UTF-8").to_owned()]
            .into_iter()
            .chain(ids);
        launch.under(prlimit, arguments).start()
    } else {
        launch.under(prlimit, [limit]).start()
    }
}

fn own_uid() -> u32 {
    match getuid() {
        root if root.is_root() => NOBODY,
        own => own.as_raw(),
    }
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_else(|error| panic!("/proc/{pid}/{file}: {error}"))
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).trim()
}

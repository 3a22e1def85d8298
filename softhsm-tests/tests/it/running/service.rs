//! Under a service manager: what it is told, and that the unit in deploy/ is right.

use portcullis_client::v1::MemberState;
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, Launch, Output, SHORT, TestCluster, create_key, create_ring, encrypt, find_tool, run, sign,
    temporary_directory, wait_until, workspace_binary,
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Instant,
};

/// Gets what a service manager would. The thread that reads ends with the datagram `end`, which this sends when it is dropped.
struct Manager {
    path: PathBuf,
    notices: mpsc::Receiver<String>,
}

impl Manager {
    fn new(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let (sender, notices) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = socket.recv(&mut buffer) {
                let notice = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if notice == "end" || sender.send(notice).is_err() {
                    return;
                }
            }
        });
        Self { path, notices }
    }

    /// Reads on until a notice; returns those before it.
    fn until(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let started = Instant::now();
        let mut before = Vec::new();
        loop {
            let notice = self.notices.recv_timeout(SHORT).expect("a notice in time");
            if wanted(&notice) {
                return before;
            }
            before.push(notice);
            assert!(started.elapsed() < LONG, "the last of many: {:?}", before.last());
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.send_to(b"end", &self.path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_readiness_members_life_reloads_and_the_end() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "2s");
    let manager = Manager::new(cluster.path());
    let gateway = Launch::new(&cluster)
        .with_environment("NOTIFY_SOCKET", &manager.path)
        .with_environment("WATCHDOG_USEC", "600000")
        .start();
    let before = manager.until(|notice| notice == "READY=1");
    assert!(before.is_empty(), "before it was ready: {before:?}");
    manager.until(|notice| notice == "STATUS=3 of 3 HSM members serve");
    for _ in 0..3 {
        let asked = Instant::now();
        manager.until(|notice| notice == "WATCHDOG=1");
        assert!(asked.elapsed() < LONG);
    }
    gateway.kill_worker("a");
    manager.until(|notice| notice == "STATUS=2 of 3 HSM members serve");
    gateway.wait_for_member("a", MemberState::Ready).await;
    manager.until(|notice| notice == "STATUS=3 of 3 HSM members serve");

    gateway.hang_up();
    manager.until(|notice| notice.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    manager.until(|notice| notice == "READY=1");

    let stopping = thread::spawn(move || gateway.stop());
    manager.until(|notice| notice == "STOPPING=1");
    let ended = stopping.join().expect("a clean end");
    assert!(ended.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_that_does_not_listen_holds_nothing_up() {
    let cluster = TestCluster::new();
    // Nobody ever reads: the queue is full after a few notices.
    let path = cluster.path().join("notify");
    let _socket = UnixDatagram::bind(&path).expect("a socket");
    let gateway = Launch::new(&cluster)
        .with_environment("NOTIFY_SOCKET", &path)
        .with_environment("WATCHDOG_USEC", "3000")
        .start();
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    wait_until("a notice that nobody takes", SHORT, || {
        gateway.log().contains("the service manager was not told").then_some(())
    });
    sign(&client, &key, b"a message").await.expect("a signature");
    gateway.stop();
}

#[test]
fn systemd_finds_the_unit_right_and_tight() {
    let unit = fs::read_to_string(unit_file()).expect("the unit");
    let directory = temporary_directory();
    // The program is not installed here, but it is there.
    let installed = unit.replace(
        "/usr/bin/portcullisd",
        workspace_binary("portcullisd").to_str().expect("UTF-8"),
    );
    assert_ne!(installed, unit);
    let path = directory.path().join("portcullis.service");
    fs::write(&path, installed.replace("Documentation=", "#")).expect("the unit");
    let output = analyze(&["verify", "--man=no"], &path).succeeded();
    assert!(output.stderr.is_empty() && output.text().is_empty(), "{output}");
    analyze(&["security", "--offline=true", "--no-pager", "--threshold=15"], &path).succeeded();
    // A unit with a mistake is found.
    fs::write(&path, unit.replace("Type=notify\n", "Type=nosuchtype\n")).expect("a wrong unit");
    let output = analyze(&["verify", "--man=no"], &path);
    assert!(output.stderr.contains("nosuchtype"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_system_call_of_a_working_day_is_one_that_the_unit_allows() {
    let cluster = TestCluster::new();
    let trace = cluster.path().join("trace");
    let gateway = Launch::new(&cluster)
        .under(
            find_tool("strace", "strace"),
            // The tracer is the child: the process id is the gateway's own.
            [
                "-D",
                "-f",
                "-qq",
                "-e",
                "signal=none",
                "-o",
                trace.to_str().expect("UTF-8"),
            ],
        )
        .start();
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    for (id, spec) in [
        ("ec", KeySpec::EC_P256),
        ("ed", KeySpec::ED25519_RESIDENT),
        ("aes", KeySpec::AES_256),
    ] {
        create_key(&client, "ring", id, spec).await;
    }
    sign(&client, "keyRings/ring/keys/ec", b"a message")
        .await
        .expect("a signature");
    sign(&gateway.unix_client().await, "keyRings/ring/keys/ed", b"a message")
        .await
        .expect("a signature");
    encrypt(&client, "keyRings/ring/keys/aes", b"plaintext", b"")
        .await
        .expect("a ciphertext");
    gateway.kill_worker("b");
    gateway.wait_for_worker("b", 2).await;
    fs::rename(cluster.audit_file(), cluster.path().join("audit.jsonl.1")).expect("rotated");
    gateway.hang_up();
    wait_until("a new audit file", SHORT, || {
        cluster.audit_file().exists().then_some(())
    });
    gateway.stop();
    let traced = wait_until("the end of the trace", SHORT, || {
        let traced = fs::read_to_string(&trace).ok()?;
        traced.contains("exit_group").then_some(traced)
    });
    let mut used: BTreeSet<&str> = traced.lines().filter_map(system_call).collect();
    if rustix::process::getuid().is_root() {
        // As root alone, SQLite gives new files to the owner of the database.
        used.remove("fchown");
    }
    assert!(used.len() > 30 && used.contains("mlockall"), "{used:?}");
    let allowed = allowed_system_calls();
    let missing: Vec<_> = used.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(missing.is_empty(), "the unit does not allow {missing:?}");
    // The filter is one: what a break-in would want is not in it.
    for call in [
        "ptrace",
        "mount",
        "init_module",
        "bpf",
        "keyctl",
        "setuid",
        "chroot",
        "reboot",
    ] {
        assert!(!allowed.contains(call), "{call}");
    }
}

/// The system call in a line of strace, if the line begins one: `123 openat(…`.
fn system_call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    name.chars()
        .all(|one| one.is_ascii_alphanumeric() || one == '_')
        .then_some(name)
}

/// What the unit's SystemCallFilter= lines come to, by systemd's own sets.
fn allowed_system_calls() -> BTreeSet<String> {
    let unit = fs::read_to_string(unit_file()).expect("the unit");
    let filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let mut allowed = expand("@default");
    for filter in filters {
        let (filter, allows) = match filter.strip_prefix('~') {
            Some(filter) => (filter, false),
            None => (filter, true),
        };
        for call in filter.split_ascii_whitespace().flat_map(expand) {
            if allows {
                allowed.insert(call);
            } else {
                allowed.remove(&call);
            }
        }
    }
    allowed
}

/// A credential is a copy from the service's start: with one, a new PIN or TLS key would need a restart.
#[test]
fn the_unit_takes_no_secret_that_only_a_restart_can_change() {
    let unit = fs::read_to_string(unit_file()).expect("the unit");
    let credential = unit.lines().find(|line| line.starts_with("LoadCredential"));
    assert_eq!(credential, None);
    for advised in [
        "pin_file = \"/etc/portcullis/pins/",
        "private_key = \"/etc/portcullis/tls/",
    ] {
        assert!(unit.contains(advised), "{advised}");
    }
}

fn expand(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let output =
        run(Command::new(find_tool("systemd-analyze", "systemd")).args(["syscall-filter", "--no-pager", name]));
    let text = output.succeeded().text();
    let members = text
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.flat_map(expand).collect()
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    run(Command::new(find_tool("systemd-analyze", "systemd"))
        .args(arguments)
        .arg(unit))
}

fn unit_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/portcullis.service")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_its_workers_work_without_memory_that_is_written_and_executed() {
    let cluster = TestCluster::new();
    // PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN, which outlives exec: what MemoryDenyWriteExecute=yes forbids.
    let script = "import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit('this kernel has no PR_SET_MDWE (Linux 6.3)')
os.execv(sys.argv[1], sys.argv[1:])";
    let gateway: Gateway = Launch::new(&cluster)
        .under(find_tool("python3", "python3"), ["-c", script])
        .start();
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    for (id, spec) in [
        ("ec", KeySpec::EC_P256),
        ("rsa", KeySpec::RSA_PSS),
        ("ed", KeySpec::ED25519_RESIDENT),
    ] {
        let key = create_key(&client, "ring", id, spec).await.name;
        sign(&client, &key, b"a message").await.expect("a signature");
    }
    gateway.stop();
}

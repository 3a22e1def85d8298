//! The module in a host: a program in C that keeps to the standard and expects the same.

use super::{ring, shim};
use portcullis_softhsm_tests::{
    Authority, Gateway, KeySpec, LONG, Launch, Shim, TestCluster, Wish, find_tool, run, wait_until,
};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc,
    thread,
};

fn source() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shim/host.c")
}

fn prepared() -> (TestCluster, Gateway, Shim) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "hosts", &[("ec", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "hosts");
    (cluster, gateway, shim)
}

#[track_caller]
fn passes(part: &str) {
    let (_cluster, _gateway, shim) = prepared();
    let host = shim.compile(&source());
    let ended = run(shim.command(host).arg(Shim::library()).arg(part)).succeeded();
    assert_eq!(ended.text(), "done\n", "{ended}");
}

#[test]
fn initialisation_is_as_the_standard_says() {
    passes("arguments");
}

#[test]
fn operations_and_attributes_are_as_the_standard_says() {
    passes("rules");
}

#[test]
fn children_go_on_or_begin_afresh_and_the_parent_notices_nothing() {
    passes("forks");
}

#[test]
fn threads_sign_while_children_are_forked() {
    passes("threads");
}

#[test]
fn nothing_is_read_or_written_where_it_should_not_be() {
    let (_cluster, _gateway, shim) = prepared();
    let host = shim.compile(&source());
    let mut command = shim.command(find_tool("valgrind", "valgrind"));
    command.args(["--quiet", "--error-exitcode=9", "--trace-children=no"]);
    let ended = run(command.arg(host).arg(Shim::library()).arg("rules")).succeeded();
    assert_eq!(ended.text(), "done\n", "{ended}");
}

#[test]
fn a_host_signs_on_over_the_death_of_a_member_and_a_restart_of_the_gateway() {
    let (cluster, gateway, shim) = prepared();
    let mut signing = Signing::start(&shim);
    for _ in 0..20 {
        signing.sign();
    }
    let dead = gateway.workers().into_keys().next().expect("a member");
    gateway.kill_worker(&dead);
    for _ in 0..20 {
        signing.sign();
    }
    // The signature that is asked for while nobody listens is made when somebody does again.
    gateway.kill9();
    signing.ask();
    let _gateway = Launch::new(&cluster).start();
    signing.answer();
    for _ in 0..20 {
        signing.sign();
    }
    signing.end();
}

#[test]
fn a_gateway_that_is_away_is_an_error_of_the_device_and_no_more() {
    let shim = Shim::at(
        "unix:/nowhere/portcullis.sock",
        "rings = [\"away\"]\ntimeout = \"200ms\"\n",
    );
    let slots = shim.pkcs11_tool("--list-slots").succeeded().text();
    assert!(slots.contains("away"), "{slots}");
    let objects = shim.pkcs11_tool("--list-objects");
    assert!(objects.stderr.contains("CKR_DEVICE_ERROR"), "{objects}");
    assert!(
        objects
            .stderr
            .contains("cannot connect to unix:/nowhere/portcullis.sock"),
        "{objects}"
    );
}

/// The module over TLS, with a certificate.
fn over_tls(cluster: &TestCluster, gateway: &Gateway, certificate: &Path, private_key: &Path) -> Shim {
    let trust = cluster.pki("ca.pem");
    let credentials = format!(
        "[credentials]\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\ntrust_bundle = {trust:?}\n"
    );
    Shim::at(
        &format!("https://{}", gateway.tls()),
        &format!("rings = [\"hosts\"]\ntimeout = \"60s\"\n{credentials}"),
    )
}

#[test]
fn a_certificate_says_who_the_caller_is() {
    let (cluster, gateway, _) = prepared();
    let shim = over_tls(
        &cluster,
        &gateway,
        &cluster.pki("developer.pem"),
        &cluster.pki("developer.key"),
    );
    let host = shim.compile(&source());
    for part in ["rules", "forks"] {
        let ended = run(shim.command(&host).arg(Shim::library()).arg(part)).succeeded();
        assert_eq!(ended.text(), "done\n", "{part}: {ended}");
    }
    // A stranger's certificate.
    let stranger = Authority::foreign().client(Wish::of("spiffe://elsewhere/somebody"), &cluster.pki("ca.pem"));
    let shim = over_tls(&cluster, &gateway, &stranger.certificate(), &stranger.private_key());
    let refused = shim.pkcs11_tool("--list-objects");
    assert!(
        refused.stderr.contains("CKR_GENERAL_ERROR") && refused.stderr.contains("the gateway refused the certificate"),
        "{refused}"
    );
    // And a gateway whose certificate is somebody else's.
    let credentials = format!(
        "[credentials]\ncertificate = {:?}\nprivate_key = {:?}\ntrust_bundle = {:?}\n",
        cluster.pki("developer.pem"),
        cluster.pki("developer.key"),
        stranger.certificate(),
    );
    let settings = format!("rings = [\"hosts\"]\n{credentials}");
    let shim = Shim::at(&format!("https://{}", gateway.tls()), &settings);
    let refused = shim.pkcs11_tool("--list-objects");
    assert!(
        refused.stderr.contains("CKR_GENERAL_ERROR") && refused.stderr.contains("no TLS connection"),
        "{refused}"
    );
}

#[test]
fn private_objects_show_to_who_has_the_pin() {
    let (_cluster, gateway, _) = prepared();
    let shim = Shim::new(
        &gateway,
        "rings = [\"hosts\"]\n[pin]\nmode = \"required\"\nfile = \"PIN\"\n",
    );
    std::fs::write(shim.path().join("PIN"), "correct horse\n").expect("a PIN");
    let hidden = shim.pkcs11_tool("--list-objects").succeeded().text();
    assert!(
        hidden.contains("Public Key Object") && !hidden.contains("Private Key Object"),
        "{hidden}"
    );
    let mut command = shim.command(find_tool("pkcs11-tool", "opensc"));
    command
        .arg("--module")
        .arg(Shim::library())
        .args(["--list-objects", "--login", "--pin", "correct horse"]);
    let shown = run(&mut command).succeeded().text();
    assert!(shown.contains("Private Key Object"), "{shown}");
    let wrong = shim.pkcs11_tool("--list-objects --login --pin wrong");
    assert!(wrong.stderr.contains("CKR_PIN_INCORRECT"), "{wrong}");
}

/// A host that signs when it is asked to, and never initialises again.
struct Signing {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Signing {
    fn start(shim: &Shim) -> Self {
        let host = shim.compile(&source());
        let mut command = shim.command(host);
        command.arg(Shim::library()).arg("signing");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("a host");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    #[track_caller]
    fn sign(&mut self) {
        self.ask();
        self.answer();
    }

    #[track_caller]
    fn ask(&mut self) {
        let stdin = self.stdin.as_mut().expect("it has not been ended");
        stdin.write_all(b"sign\n").expect("the host listens");
    }

    #[track_caller]
    fn answer(&mut self) {
        let line = self.lines.recv_timeout(LONG).expect("the host signs");
        assert!(line.starts_with("signed "), "{line}");
    }

    #[track_caller]
    fn end(mut self) {
        drop(self.stdin.take());
        let status = wait_until("the host has ended", LONG, || {
            self.child.try_wait().expect("its status")
        });
        assert!(status.success(), "{status}");
    }
}

impl Drop for Signing {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

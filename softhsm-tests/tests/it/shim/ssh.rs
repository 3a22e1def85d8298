//! OpenSSH: its keys, its agent, its certificates.

use super::{RSA_TLS, ring, shim};
use portcullis_softhsm_tests::{Gateway, KeySpec, LONG, Output, Shim, TestCluster, find_tool, run, wait_until};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

fn prepared() -> (TestCluster, Gateway, Shim) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "ssh", &[("rsa", RSA_TLS), ("ec", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "ssh");
    (cluster, gateway, shim)
}

fn keygen(shim: &Shim) -> Command {
    shim.command(find_tool("ssh-keygen", "openssh-client"))
}

/// The public keys of the token: RSA and EC.
fn public_keys(shim: &Shim) -> [String; 2] {
    let listed = run(keygen(shim).arg("-D").arg(Shim::library())).succeeded().text();
    ["ssh-rsa ", "ecdsa-sha2-nistp256 "].map(|kind| {
        let line = listed.lines().find(|line| line.starts_with(kind));
        line.unwrap_or_else(|| panic!("{listed}")).to_owned()
    })
}

/// Logs in to a server that trusts `authorized`, and says there who it is.
fn log_in(shim: &Shim, authorized: &str, trusted: &str, options: &[&str]) -> Output {
    let path = |name: &str| shim.path().join(name);
    if !path("host").exists() {
        let host = ["-q", "-t", "ed25519", "-N", "", "-f", "host"];
        run(keygen(shim).args(host)).succeeded();
    }
    fs::write(path("authorized"), authorized).expect("the keys that may log in");
    fs::write(path("trusted"), trusted).expect("the authorities of certificates");
    let directory = shim.path().display();
    let configuration = format!(
        "HostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\nTrustedUserCAKeys {directory}/trusted\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n"
    );
    fs::write(path("sshd_config"), configuration).expect("the server's configuration");
    let server = find_tool("sshd", "openssh-server");
    // Where it shuts itself in before it knows who speaks: its service makes the directory at each start.
    if rustix::process::getuid().is_root() {
        fs::create_dir_all("/run/sshd").expect("the server's directory");
    }
    let proxy = format!(
        "ProxyCommand={} -i -e -f {directory}/sshd_config 2>>{directory}/sshd.log",
        server.display()
    );
    let user = run(Command::new("id").arg("-un")).succeeded().text();
    let mut command = shim.command(find_tool("ssh", "openssh-client"));
    // It reads no keys or configuration of whoever runs the tests.
    command.args([
        "-F",
        "none",
        "-o",
        &proxy,
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=accept-new",
    ]);
    command.args([
        "-o",
        "UserKnownHostsFile=known",
        "-o",
        "PreferredAuthentications=publickey",
        "-l",
        user.trim(),
    ]);
    let mut ended = run(command.args(options).args(["gateway-test", "echo", "logged", "in"]));
    let said = fs::read_to_string(path("sshd.log")).unwrap_or_default();
    ended.stderr.push_str(&said);
    ended
}

#[test]
fn keys_of_the_gateway_log_in_by_the_module_and_by_an_agent() {
    let (_cluster, _gateway, shim) = prepared();
    let library = Shim::library();
    let provider = format!("PKCS11Provider={}", library.display());
    for public in public_keys(&shim) {
        let ended = log_in(&shim, &public, "", &["-o", "IdentityAgent=none", "-o", &provider]).succeeded();
        assert_eq!(ended.text(), "logged in\n", "{ended}");
    }
    let agent = Agent::start(&shim);
    agent.add(&shim);
    for public in public_keys(&shim) {
        let socket = format!("IdentityAgent={}", agent.socket.display());
        let ended = log_in(&shim, &public, "", &["-o", &socket]).succeeded();
        assert_eq!(ended.text(), "logged in\n", "{ended}");
    }
    // Nobody without a key that is authorised.
    let refused = log_in(&shim, "", "", &["-o", "IdentityAgent=none", "-o", &provider]);
    assert!(refused.stderr.contains("Permission denied"), "{refused}");
}

#[test]
fn certificates_are_issued_by_a_key_of_the_gateway() {
    let (_cluster, _gateway, shim) = prepared();
    let user = run(Command::new("id").arg("-un")).succeeded().text();
    run(keygen(&shim).args(["-q", "-t", "ed25519", "-N", "", "-f", "person"])).succeeded();
    for authority in public_keys(&shim) {
        fs::write(shim.path().join("authority.pub"), format!("{authority}\n")).expect("a public key");
        let mut command = keygen(&shim);
        command.args(["-s", "authority.pub", "-D"]).arg(Shim::library());
        run(command.args(["-I", "somebody", "-n", user.trim(), "-V", "+1h", "person.pub"])).succeeded();
        let options = ["-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes", "-i", "person"];
        let ended = log_in(&shim, "", &authority, &options).succeeded();
        assert_eq!(ended.text(), "logged in\n", "{ended}");
        // The same key with a certificate by an authority that nobody trusts.
        let refused = log_in(&shim, "", "", &options);
        assert!(refused.stderr.contains("Permission denied"), "{refused}");
    }
}

/// An agent that is ended when it is dropped.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(shim: &Shim) -> Self {
        let socket = shim.path().join("agent");
        let mut command = shim.command(find_tool("ssh-agent", "openssh-client"));
        command.arg("-D").arg("-a").arg(&socket).arg("-P").arg(Shim::library());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let child = command.spawn().expect("an agent");
        let agent = Self { child, socket };
        wait_until("the agent listens", LONG, || agent.socket.exists().then_some(()));
        agent
    }

    /// Gives it the module, with a PIN that somebody is asked for.
    fn add(&self, shim: &Shim) {
        let asked = shim.path().join("asked");
        fs::write(&asked, "#!/bin/sh\necho any\n").expect("a program that answers");
        fs::set_permissions(&asked, fs::Permissions::from_mode(0o700)).expect("a program");
        let mut command = shim.command(find_tool("ssh-add", "openssh-client"));
        command.env("SSH_AUTH_SOCK", &self.socket).env("SSH_ASKPASS", &asked);
        command
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("PATH", env::var_os("PATH").unwrap_or_default());
        run(command.arg("-s").arg(Shim::library())).succeeded();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! OpenSSL with its engine `pkcs11`.

use super::{RSA_TLS, ring, shim};
use portcullis_softhsm_tests::{Gateway, KeySpec, LONG, Shim, TestCluster, find_tool, run_with_input, wait_until};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

const ENGINE: &str = "-engine pkcs11 -keyform engine";

fn key(name: &str) -> String {
    format!("pkcs11:token=openssl;object={name};type=private")
}

fn prepared() -> (TestCluster, Gateway, Shim) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "openssl", &[("rsa", RSA_TLS), ("ec", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "openssl");
    for name in ["rsa", "ec"] {
        let issued = format!(
            "req -new -x509 {ENGINE} -key {} -sha256 -days 2 -subj /CN=localhost -out {name}.pem",
            key(name)
        );
        shim.openssl(&issued).succeeded();
    }
    (cluster, gateway, shim)
}

#[test]
fn certificates_requests_and_messages_are_signed_by_keys_of_the_gateway() {
    let (_cluster, _gateway, shim) = prepared();
    fs::write(shim.path().join("message"), "what is signed").expect("a message");
    for name in ["rsa", "ec"] {
        shim.openssl(&format!("verify -CAfile {name}.pem {name}.pem"))
            .succeeded();
        shim.openssl(&format!(
            "req -new {ENGINE} -key {} -subj /CN=requested -out {name}.csr",
            key(name)
        ))
        .succeeded();
        shim.openssl(&format!("req -in {name}.csr -verify -noout")).succeeded();
        shim.openssl(&format!(
            "x509 -req -in {name}.csr -CA {name}.pem -CAkey {} -CAkeyform engine -engine pkcs11 -out {name}.issued.pem -days 1 -set_serial 7",
            key(name)
        ))
        .succeeded();
        shim.openssl(&format!("verify -CAfile {name}.pem {name}.issued.pem"))
            .succeeded();
        let signed = format!(
            "cms -sign -binary -nodetach -in message -signer {name}.pem {ENGINE} -inkey {} -outform DER -out {name}.cms",
            key(name)
        );
        shim.openssl(&signed).succeeded();
        let opened = shim.openssl(&format!(
            "cms -verify -inform DER -in {name}.cms -CAfile {name}.pem -purpose any"
        ));
        assert_eq!(opened.succeeded().text().trim_end(), "what is signed");
    }
}

#[test]
fn a_server_speaks_tls_with_keys_of_the_gateway() {
    let (_cluster, _gateway, shim) = prepared();
    for name in ["rsa", "ec"] {
        let server = Server::start(&shim, name);
        for version in ["-tls1_2", "-tls1_3"] {
            let mut client = Command::new(find_tool("openssl", "openssl"));
            client
                .current_dir(shim.path())
                .args(["s_client", version, "-verify_return_error", "-CAfile"]);
            client.arg(format!("{name}.pem")).args(["-connect", &server.address]);
            let spoken = run_with_input(&mut client, b"Q\n").succeeded();
            assert!(
                spoken.text().contains("Verify return code: 0 (ok)"),
                "{name}, {version}: {spoken}"
            );
        }
    }
}

/// A server that is ended when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(shim: &Shim, name: &str) -> Self {
        let arguments = format!(
            "s_server -accept 127.0.0.1:0 -www {ENGINE} -key {} -cert {name}.pem",
            key(name)
        );
        let mut command = shim.command(find_tool("openssl", "openssl"));
        command
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("a server");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let mut server = Self {
            child,
            address: String::new(),
        };
        server.address = wait_until("the server listens", LONG, || {
            lines.try_recv().ok()?.strip_prefix("ACCEPT ").map(str::to_owned)
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

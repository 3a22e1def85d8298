//! The command line against a real gateway.

use portcullis_softhsm_tests::{
    Gateway, Output, PORTCULLIS, TestCluster, openssl, run, temporary_directory, workspace_binary,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// The command line as the developer uses it.
struct CommandLine<'d> {
    directory: &'d Path,
    global: Vec<String>,
}

impl CommandLine<'_> {
    #[track_caller]
    fn try_run(&self, arguments: &str) -> Output {
        let mut command = Command::new(workspace_binary(PORTCULLIS));
        command
            .args(&self.global)
            .args(arguments.split(' '))
            .current_dir(self.directory);
        // What is set where the tests run must not reach them.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        run(&mut command)
    }

    /// Runs what must succeed.
    #[track_caller]
    fn run(&self, arguments: &str) -> Output {
        self.try_run(arguments).succeeded()
    }

    /// Runs what must succeed, and reads its answer.
    #[track_caller]
    fn ask(&self, arguments: &str) -> Value {
        let output = self.run(&format!("--json {arguments}"));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"))
    }

    /// Runs what must fail with an exit code.
    #[track_caller]
    fn fails_with(&self, code: i32, arguments: &str) -> String {
        let output = self.try_run(arguments);
        assert_eq!(output.status.code(), Some(code), "{output}");
        output.stderr
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_signs_and_encrypts_outlives_a_worker() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let unix = vec!["--endpoint".to_owned(), gateway.unix_endpoint().to_string()];
    let mut tls = vec!["--endpoint".to_owned(), gateway.tls_endpoint().to_string()];
    for (option, file) in [
        ("--cert", "developer.pem"),
        ("--key-file", "developer.key"),
        ("--ca", "ca.pem"),
    ] {
        tls.extend([option.to_owned(), cluster.pki(file).to_string_lossy().into_owned()]);
    }
    let document: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(directory.join("document"), &document).expect("the document");
    for (ring, global) in [("by-unix", unix), ("by-tls", tls)] {
        let portcullis = CommandLine { directory, global };
        portcullis.run(&format!("ring create {ring}"));
        portcullis.run(&format!("key create {ring}/signer --type ec-p256"));
        portcullis.run(&format!(
            "key create {ring}/rsa --type rsa-2048 --mechanism rsa-pkcs1-sha256"
        ));
        portcullis.run(&format!("key create {ring}/data --type aes-256"));
        for key in ["signer", "rsa"] {
            portcullis.run(&format!("key public {ring}/{key} --out {key}.pem"));
        }
        let sign_and_encrypt = |round: &str| {
            for key in ["signer", "rsa"] {
                portcullis.run(&format!("sign {ring}/{key} --in document --out {key}-{round}.sig"));
            }
            portcullis.run(&format!(
                "encrypt {ring}/data --in document --out {round}.enc --context round={round}"
            ));
            assert_ne!(
                fs::read(directory.join(format!("{round}.enc"))).expect("the ciphertext"),
                document
            );
        };
        let check = |round: &str| {
            for key in ["signer", "rsa"] {
                let signature = format!("{key}-{round}.sig");
                let public_key = format!("{key}.pem");
                let arguments = [
                    "dgst",
                    "-sha256",
                    "-verify",
                    &public_key,
                    "-signature",
                    &signature,
                    "document",
                ];
                assert_eq!(openssl(directory, arguments).succeeded().text().trim(), "Verified OK");
                portcullis.run(&format!("verify {ring}/{key} --in document --signature {signature}"));
            }
            portcullis.run(&format!(
                "decrypt {ring}/data --in {round}.enc --out {round}.dec --context round={round}"
            ));
            assert!(fs::read(directory.join(format!("{round}.dec"))).expect("the plaintext") == document);
        };
        sign_and_encrypt("before");
        check("before");
        let starts = gateway.member("a").await.worker_starts;
        gateway.kill_worker("a");
        // At once, while the member is gone, and when it is back.
        check("before");
        sign_and_encrypt("during");
        check("during");
        gateway.wait_for_worker("a", starts + 1).await;
        sign_and_encrypt("after");
        for round in ["before", "during", "after"] {
            check(round);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_what_there_is_and_says_by_its_exit_code_what_went_wrong() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let global = vec!["--endpoint".to_owned(), gateway.unix_endpoint().to_string()];
    let portcullis = CommandLine {
        directory: directory.path(),
        global,
    };
    portcullis.run("ring create demo --label team=payments");
    portcullis.run("key create demo/ed --type ed25519 --protection resident --allow-single-replica");
    portcullis.run("key create demo/data --type aes-256");
    let show = portcullis.ask("key show demo/ed");
    assert_eq!(show["name"], "keyRings/demo/keys/ed");
    assert_eq!(show["primary"]["single_replica"], true);
    for (list, names) in [
        ("ring list", &["keyRings/demo"][..]),
        ("key list demo", &["keyRings/demo/keys/data", "keyRings/demo/keys/ed"]),
        ("cluster status", &["members/a", "members/b", "members/c"]),
    ] {
        let answer = portcullis.ask(list).to_string();
        for name in names {
            assert!(answer.contains(name), "{list} does not show {name}: {answer}");
        }
    }
    portcullis.run("random 32 --out random.bin");
    assert_eq!(
        fs::read(directory.path().join("random.bin"))
            .expect("random bytes")
            .len(),
        32
    );

    fs::write(directory.path().join("document"), "a document").expect("a document");
    fs::write(directory.path().join("other"), "another document").expect("a document");
    portcullis.run("sign demo/ed --in document --out document.sig");
    portcullis.run("verify demo/ed --in document --signature document.sig");
    portcullis.fails_with(1, "verify demo/ed --in other --signature document.sig");
    portcullis.fails_with(2, "sign demo/ed --in absent --out document.sig");
    portcullis.run("encrypt demo/data --in document --out document.enc --aad one");
    portcullis.fails_with(3, "decrypt demo/data --in document.enc --out document.dec --aad other");
    assert!(
        !directory.path().join("document.dec").exists(),
        "a failed decryption left a file"
    );
    portcullis.fails_with(3, "key create demo/data --type aes-256");
    portcullis.fails_with(3, "key create demo/wrapped --type ed25519");
    portcullis.fails_with(4, "key show demo/absent");
    gateway.stop();
    let said = portcullis.fails_with(6, "ring list");
    assert!(said.contains("portcullis.sock"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_a_version() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let global = vec!["--endpoint".to_owned(), gateway.unix_endpoint().to_string()];
    let portcullis = CommandLine {
        directory: directory.path(),
        global,
    };
    portcullis.run("ring create demo");
    portcullis.run("key create demo/key --type ec-p256");
    assert_eq!(
        portcullis.ask("key show demo/key/1")["name"],
        "keyRings/demo/keys/key/versions/1"
    );
}

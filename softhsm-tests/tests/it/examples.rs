//! The programs in examples/, built and run as their page says, against a real gateway.

use portcullis_softhsm_tests::{
    AuditLog, Authority, Gateway, LONG, MEMBERS, Output, TestCluster, Wish, find_tool, run, temporary_directory,
    wait_until, workspace_binary,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

#[test]
fn a_caller_in_python_takes_the_tour_over_both_transports() {
    takes_the_tour_over_both_transports(&Example::python("tour.py"));
}

#[test]
fn a_caller_in_java_takes_the_tour_over_both_transports() {
    takes_the_tour_over_both_transports(&Example::java());
}

#[test]
fn a_caller_in_python_comes_back_when_the_gateway_says() {
    comes_back_when_the_gateway_says(&Example::python("tour.py"));
}

#[test]
fn a_caller_in_java_comes_back_when_the_gateway_says() {
    comes_back_when_the_gateway_says(&Example::java());
}

#[test]
fn a_caller_without_stubs_learns_the_calls_from_the_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let reflection = Example::python("reflection.py");

    let listed = run(&mut reflection.over_socket(&gateway)).succeeded().text();
    for line in [
        "portcullis.v1.CryptoService/Sign(portcullis.v1.SignRequest) returns portcullis.v1.SignResponse",
        "grpc.health.v1.Health/Check(grpc.health.v1.HealthCheckRequest) returns grpc.health.v1.HealthCheckResponse",
    ] {
        assert!(listed.lines().any(|one| one == line), "{line} is not in:\n{listed}");
    }

    let invoke = |method: &str, request: &str| {
        let mut command = reflection.over_tls(&gateway, &Files::developer(&cluster));
        run(command.args([method, request]))
    };
    let made = invoke("portcullis.v1.KeyService/CreateKeyRing", r#"{"keyRingId": "plain"}"#).succeeded();
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!(made["name"], "keyRings/plain");
    let missing = invoke(
        "portcullis.v1.KeyService/GetKey",
        r#"{"name": "keyRings/plain/keys/missing"}"#,
    );
    fails_with(
        &missing,
        "error: NOT_FOUND KEY_NOT_FOUND (key=keyRings/plain/keys/missing), request ",
    );
    fails_with(
        &invoke("portcullis.v1.KeyService/Nothing", "{}"),
        "the gateway knows no method",
    );
    fails_with(
        &invoke("portcullis.v1.KeyService/GetKey", r#"{"nom": "x"}"#),
        "not a request of",
    );
}

#[test]
fn what_an_example_needs_and_does_not_find_is_named() {
    let scratch = temporary_directory();
    // Nothing on the search path but what the scripts themselves use.
    let tools = scratch.path().join("tools");
    fs::create_dir(&tools).expect("a directory");
    for tool in ["dirname", "find", "head", "mkdir", "sed"] {
        symlink(find_tool(tool, "coreutils, findutils, sed"), tools.join(tool)).expect("a link");
    }
    let prepare = |script: &str| {
        let mut command = Command::new(find_tool("bash", "bash"));
        command.arg(example_file(script)).arg(scratch.path().join("made"));
        run(command.env("PATH", &tools).env_remove("PYTHON"))
    };
    let java = prepare("java/build");
    for package in [
        "openjdk-17-jdk-headless (for javac)",
        "protobuf-compiler (for protoc)",
        "protobuf-compiler-grpc-java-plugin (for grpc_java_plugin)",
    ] {
        fails_with(&java, package);
    }
    fails_with(&prepare("python/prepare"), "apt-get install python3 python3-venv");
}

#[track_caller]
fn takes_the_tour_over_both_transports(example: &Example) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let ring = format!("tour-{}", example.language);

    let developer = Files::developer(&cluster);
    let first = run(&mut example.over_tls(&gateway, &developer)).succeeded();
    assert_eq!(without_request_ids(&first.text()), tour(&ring, "created", 1), "{first}");
    // What the first one made is used by the second one.
    let second = run(&mut example.over_socket(&gateway)).succeeded();
    assert_eq!(
        without_request_ids(&second.text()),
        tour(&ring, "is there already", 2),
        "{second}"
    );

    // Nobody granted this one anything.
    let stranger = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/stranger"), &cluster.pki("ca.pem"));
    let files = Files {
        certificate: stranger.certificate(),
        private_key: stranger.private_key(),
        ..Files::developer(&cluster)
    };
    let refused = run(&mut example.over_tls(&gateway, &files));
    fails_with(&refused, "error: PERMISSION_DENIED ACCESS_DENIED");
    fails_with(&refused, "what to do: ask those who write the gateway's policy");

    // Somebody else may listen where the gateway should.
    let foreign = cluster.place("foreign.pem", Authority::foreign().certificate());
    let files = Files {
        authorities: foreign,
        ..developer
    };
    fails_with(
        &run(&mut example.over_tls(&gateway, &files)),
        "error: UNAVAILABLE without an answer",
    );

    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    for output in [&first.text(), &second.text(), &refused.stderr] {
        for (reason, request) in faults(output) {
            let entry = log.outcomes().find(|entry| entry["request"] == request.as_str());
            let entry = entry.unwrap_or_else(|| panic!("request {request} is not in the audit log"));
            assert_eq!(entry["outcome"], reason.as_str(), "{entry}");
        }
    }
    assert_eq!(faults(&first.text()).len(), 3, "{first}");
    assert_eq!(faults(&refused.stderr).len(), 1, "{refused}");
}

/// What the program prints, when `signer` is used by its first version, and `files` and `slow` were rotated so often.
fn tour(ring: &str, made: &str, rotation: u32) -> String {
    let ring = format!("keyRings/{ring}");
    let (signer, files) = (format!("{ring}/keys/signer"), format!("{ring}/keys/files"));
    let next = rotation + 1;
    format!(
        "{ring}: {made}\n\
         {signer}: {made}\n\
         {files}: {made}\n\
         {ring}/keys/slow: {made}\n\
         signed by {signer}/versions/1 with MECHANISM_ECDSA_SHA256\n\
         the quarterly figures: valid says the gateway, valid says this program\n\
         another message: not valid says the gateway, not valid says this program\n\
         encrypted under {files}/versions/{rotation}\n\
         rotated, once for two calls with one request id: {files}/versions/{next}\n\
         decrypted under {files}/versions/{rotation}, no longer the primary version\n\
         with another context: INVALID_ARGUMENT DECRYPTION_FAILED, request #\n\
         with a disabled version: FAILED_PRECONDITION KEY_STATE_FORBIDS_OPERATION \
         (state=DISABLED, version={signer}/versions/1), request #\n\
         enabled again, and it signs\n\
         with a missing key: NOT_FOUND KEY_NOT_FOUND (key={ring}/keys/missing), request #\n\
         within 5 ms: DEADLINE_EXCEEDED\n\
         with the same request id and more time: rotated once, to version {next}\n\
         done\n"
    )
}

#[track_caller]
fn comes_back_when_the_gateway_says(example: &Example) {
    let cluster = TestCluster::new();
    cluster.reload_often();
    // No member opens with a wrong PIN, and each does as soon as its file has the right one.
    let right: Vec<_> = MEMBERS
        .iter()
        .map(|member| (member, cluster.user_pin(member)))
        .collect();
    for (member, _) in &right {
        cluster.place(&format!("members/{member}/user.pin"), "00000000-wrong\n");
    }
    let gateway = Gateway::start(&cluster);
    let mut command = example.over_tls(&gateway, &Files::developer(&cluster));
    let output = thread::scope(|scope| {
        let caller = scope.spawn(move || run(&mut command));
        wait_until("a request that was refused", LONG, || {
            let log = fs::read_to_string(cluster.audit_file()).expect("the audit log");
            log.contains("HSM_UNAVAILABLE").then_some(())
        });
        for (member, pin) in &right {
            cluster.place(&format!("members/{member}/user.pin"), pin);
        }
        caller.join().expect("the caller ends")
    })
    .succeeded();
    assert!(
        output
            .stderr
            .contains("UNAVAILABLE HSM_UNAVAILABLE: trying again in 5 s\n"),
        "{output}"
    );
    let ring = format!("tour-{}", example.language);
    assert_eq!(
        without_request_ids(&output.text()),
        tour(&ring, "created", 1),
        "{output}"
    );
}

/// An example that is built.
struct Example {
    language: &'static str,
    command: Vec<PathBuf>,
}

/// What a caller over mTLS brings.
struct Files {
    certificate: PathBuf,
    private_key: PathBuf,
    authorities: PathBuf,
}

impl Files {
    fn developer(cluster: &TestCluster) -> Self {
        Self {
            certificate: cluster.pki("developer.pem"),
            private_key: cluster.pki("developer.key"),
            authorities: cluster.pki("ca.pem"),
        }
    }
}

impl Example {
    fn python(program: &str) -> Self {
        let environment = built("python", "python/prepare");
        Self {
            language: "python",
            command: vec![
                environment.join("bin/python"),
                "-B".into(),
                example_file("python").join(program),
            ],
        }
    }

    fn java() -> Self {
        Self {
            language: "java",
            command: vec![built("java", "java/build").join("tour")],
        }
    }

    fn over_tls(&self, gateway: &Gateway, files: &Files) -> Command {
        let mut command = self.command();
        command
            .arg(format!("https://{}", gateway.tls()))
            .arg("--cert")
            .arg(&files.certificate)
            .arg("--key-file")
            .arg(&files.private_key)
            .arg("--ca")
            .arg(&files.authorities);
        command
    }

    fn over_socket(&self, gateway: &Gateway) -> Command {
        let mut command = self.command();
        command.arg(format!("unix:{}", gateway.unix().display()));
        command
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        // gRPC would ask a proxy of this machine for 127.0.0.1 too.
        command.env("no_grpc_proxy", "127.0.0.1");
        command
    }
}

/// Builds an example, unless it is built already; returns where it is. Tests that need it at the same time wait for each other.
#[track_caller]
fn built(language: &str, script: &str) -> PathBuf {
    let target = workspace_binary("portcullisd");
    let target = target.ancestors().nth(2).expect("the target directory");
    let directory = target.join("examples").join(language);
    run(Command::new(example_file(script)).arg(&directory)).succeeded();
    directory
}

fn example_file(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    root.join("examples").join(path)
}

#[track_caller]
fn fails_with(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains(words), "{words} is not said: {output}");
}

/// The reasons that a program printed, with the ids of the requests.
fn faults(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once(", request "));
    lines
        .map(|(fault, request)| {
            let reason = fault
                .split([' ', '('])
                .rfind(|word| word.contains('_') && word.chars().all(|one| one.is_ascii_uppercase() || one == '_'));
            (reason.expect("a reason").to_owned(), request.to_owned())
        })
        .collect()
}

fn without_request_ids(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(", request ") {
        Some((fault, _)) => format!("{fault}, request #\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

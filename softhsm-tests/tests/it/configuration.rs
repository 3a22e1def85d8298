//! Configuration files, good and bad.

use portcullis_gateway::config::Settings;
use portcullis_softhsm_tests::{Launch, Output, TestCluster, run, workspace_binary};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

fn check(file: &Path) -> Output {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["config", "check", "--config"])
        .arg(file))
}

#[test]
fn the_sample_is_a_valid_configuration() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/portcullis.toml");
    let text = fs::read_to_string(sample).expect("the sample");
    let settings = Settings::parse(&text, Path::new("/")).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(settings.members.len(), 1);
    // Each setting that is commented out shows its default: switched on, nothing changes but what has none.
    let mut names = 0;
    let switched_on: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => {
                names += 1;
                setting.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    assert!(names > 10, "only {names} settings are commented out");
    let all =
        Settings::parse(&switched_on.join("\n"), Path::new("/")).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let comparable = |settings: &Settings| {
        let mut settings = settings.clone();
        settings.members[0].token.serial_number = None;
        format!("{settings:#?}")
    };
    assert_eq!(
        comparable(&all),
        comparable(&settings),
        "the sample shows defaults that are none"
    );
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(name, _)| {
        !name.is_empty()
            && name
                .chars()
                .all(|character| character.is_ascii_lowercase() || character == '_')
    })
}

#[test]
fn a_development_cluster_has_a_valid_configuration() {
    let cluster = TestCluster::new();
    check(&cluster.config_file()).succeeded();
}

#[test]
fn all_problems_are_reported_at_once_with_their_lines() {
    let directory = portcullis_softhsm_tests::temporary_directory();
    let file = directory.path().join("portcullis.toml");
    let text = r#"state_directory = 7
unknown_setting = true

[listen.tls]
address = "localhost"
certificate = "server.pem"
private_key = "server.key"
client_authorities = "ca.pem"

[audit]
fil = "audit.jsonl"

[domain]
fingerprint = "abc"

[[member]]
name = "A"
module = "m.so"
pin_file = "a.pin"
sessions = 0

[[member]]
name = "b"
module = "m.so"
token_label = "b"
pin_file = "b.pin"
queue = "many"

[cluster]
probe_interval = "often"

[limits]
payload = "4GiB"

[[policy.grant]]
name = "grant"
principals = ["root"]
role = "everything"
rings = ["*"]
"#;
    fs::write(&file, text).expect("a configuration");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(1), "{output}");
    let said = format!("{}{}", output.text(), output.stderr);
    for (line, setting) in [
        (1, "state_directory"),
        (2, "unknown_setting"),
        (5, "listen.tls.address"),
        (11, "audit.fil"),
        (14, "domain.fingerprint"),
        (17, "member[1].name"),
        (20, "member[1].sessions"),
        (27, "member[2].queue"),
        (30, "cluster.probe_interval"),
        (33, "limits.payload"),
    ] {
        let found = said
            .lines()
            .any(|one| one.contains(&format!("line {line}:")) && one.contains(setting));
        assert!(found, "line {line}, {setting} is not in:\n{said}");
    }
    for (setting, word) in [
        ("member[1].token_label", ""),
        ("policy.grant[1].principals", "root"),
        ("policy.grant[1].role", "everything"),
    ] {
        let found = said.lines().any(|one| one.contains(setting) && one.contains(word));
        assert!(found, "{setting} is not in:\n{said}");
    }
    // It does not start either.
    let output = run(Command::new(workspace_binary("portcullisd"))
        .args(["serve", "--config"])
        .arg(&file));
    assert!(!output.status.success() && output.stdout.is_empty(), "{output}");
}

/// Who asks for revocation and names no list would go on in the belief that callers are looked up.
#[test]
fn revocation_that_is_required_without_lists_is_no_valid_configuration() {
    let cluster = TestCluster::new();
    check(&cluster.config_file()).succeeded();
    cluster.edit_tls(|tls| {
        tls.insert("revocation_policy".to_owned(), "require".into());
    });
    let output = check(&cluster.config_file());
    assert!(!output.status.success(), "{output}");
    for words in ["listen.tls.revocation_policy", "revocation_lists names no list"] {
        assert!(output.stderr.contains(words), "{words}: {output}");
    }
    assert!(!Launch::new(&cluster).start_in_vain().status.success());
}

#[test]
fn what_is_no_toml_is_reported_with_its_line() {
    let directory = portcullis_softhsm_tests::temporary_directory();
    let file = directory.path().join("portcullis.toml");
    fs::write(&file, "state_directory = \"db\"\n[listen.unix\n").expect("a configuration");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        format!("{}{}", output.text(), output.stderr).contains("line 2"),
        "{output}"
    );
    let output = check(&directory.path().join("absent.toml"));
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        format!("{}{}", output.text(), output.stderr).contains("absent.toml"),
        "{output}"
    );
}

#[test]
fn secrets_that_others_may_read_are_refused() {
    let cluster = TestCluster::new();
    let secrets = [
        cluster.member_directory("a").join("user.pin"),
        cluster.pki("server.key"),
    ];
    for secret in secrets {
        let mode = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).expect("permissions");
        mode(0o640);
        let output = check(&cluster.config_file());
        assert_eq!(output.status.code(), Some(1), "{output}");
        let said = format!("{}{}", output.text(), output.stderr);
        assert!(
            said.contains(secret.file_name().and_then(|name| name.to_str()).expect("a name")),
            "{said}"
        );
        assert!(!Launch::new(&cluster).start_in_vain().status.success());
        mode(0o600);
        check(&cluster.config_file()).succeeded();
    }
}

#[test]
fn what_is_secret_is_readable_by_its_owner_alone() {
    let cluster = TestCluster::new();
    let gateway = portcullis_softhsm_tests::Gateway::start(&cluster);
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    for file in ["ca.key", "server.key", "developer.key"] {
        assert_eq!(mode(&cluster.pki(file)), 0o600, "{file}");
    }
    for member in portcullis_softhsm_tests::MEMBERS {
        for file in ["user.pin", "so.pin"] {
            assert_eq!(
                mode(&cluster.member_directory(member).join(file)),
                0o600,
                "{member}/{file}"
            );
        }
    }
    assert_eq!(mode(&cluster.audit_file()), 0o600);
    assert_eq!(mode(&cluster.database_file()), 0o600);
    gateway.stop();
}

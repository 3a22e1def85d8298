//! Files with policies that are wrong, and roles over the wire.

use super::client_of;
use portcullis_client::{Code, v1::ListMembersRequest};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Launch, SHORT, TestCluster, create_key, create_ring, key_request, refusal, run, sign,
    wait_until, workspace_binary,
};
use std::{fs, process::Command, time::Instant};

#[test]
fn a_policy_that_is_wrong_is_refused_at_the_start_with_file_and_line() {
    let cluster = TestCluster::new();
    let good = fs::read_to_string(cluster.policy_file()).expect("the policies");
    for (text, words) in [
        ("permit (principal, action == Action::\"dance\", resource);", "dance"),
        ("permit (principal, action, resource", "unexpected end"),
        (
            "permit (principal, action == Action::\"sign\", resource) when { resource.colour == \"red\" };",
            "colour",
        ),
        (
            "permit (principal in Pattern::\"spiffe://example.org*\", action == Action::\"sign\", resource);",
            "only begin alike",
        ),
        // What is never asked about a ring is no policy about one.
        (
            "forbid (principal, action == Action::\"key.import_clear\", resource == KeyRing::\"ring\");",
            "can never apply",
        ),
    ] {
        fs::write(cluster.policy_file(), format!("// One.\n// Two.\n{text}\n")).expect("a policy");
        let ended = Launch::new(&cluster).start_in_vain();
        assert!(!ended.status.success() && ended.stdout.is_empty());
        let commands: [&[&str]; 3] = [&["config", "check"], &["policy", "check"], &["policy", "explain"]];
        let mut said = vec![ended.log];
        for command in commands {
            let output = run(Command::new(workspace_binary("portcullisd"))
                .args(command)
                .arg("--config")
                .arg(cluster.config_file()));
            assert_eq!(output.status.code(), Some(1), "{output}");
            said.push(output.stderr);
        }
        for said in said {
            let found = said
                .lines()
                .any(|line| line.contains("policy.cedar line 3: ") && line.contains(words));
            assert!(found, "{words} is not in:\n{said}");
        }
    }
    fs::write(cluster.policy_file(), good).expect("the policies");
    drop(Gateway::start(&cluster));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_all_of_a_policy_or_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "one", KeySpec::EC_P256).await;
    let teller = client_of(&cluster, &gateway, "spiffe://portcullis.dev/teller").await;
    let signs = async || sign(&teller, "keyRings/ring/keys/one", b"m").await.is_ok();
    assert!(!signs().await);

    let good = fs::read_to_string(cluster.policy_file()).expect("the policies");
    let permit =
        r#"permit (principal == Principal::"spiffe://portcullis.dev/teller", action == Action::"sign", resource);"#;
    let reloads = |outcome: &str| {
        let log = AuditLog::read(&cluster.audit_file());
        let counted = log.entries.iter();
        counted
            .filter(|entry| entry["action"] == "gateway.reload" && entry["outcome"] == outcome)
            .count()
    };
    // Something is wrong on its second line: the first is not taken either.
    fs::write(
        cluster.policy_file(),
        format!("{good}\n{permit}\npermit (principal, action, resurce);\n"),
    )
    .expect("a policy");
    gateway.hang_up();
    wait_until("a refused reload", SHORT, || {
        (reloads("CONFIGURATION_INVALID") > 0).then_some(())
    });
    assert!(!signs().await);
    let log = gateway.log();
    // After the good lines: an empty one, a policy, and the one that is wrong.
    let wrong = format!("policy.cedar line {}: ", good.lines().count() + 3);
    assert!(log.contains(&wrong) && log.contains("resurce"), "{log}");

    let done = reloads("OK");
    fs::write(cluster.policy_file(), format!("{good}\n{permit}\n")).expect("a policy");
    gateway.hang_up();
    wait_until("a reload", SHORT, || (reloads("OK") > done).then_some(()));
    let started = Instant::now();
    while !signs().await {
        assert!(started.elapsed() < SHORT, "the new policy is not in force");
    }
    fs::write(cluster.policy_file(), good).expect("a policy");
    gateway.hang_up();
    let started = Instant::now();
    while signs().await {
        assert!(started.elapsed() < SHORT, "the old policy is still in force");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_keep_their_duties_apart() {
    let cluster = TestCluster::new();
    for (role, places) in [
        ("key-admin", "rings = [\"ring\"]"),
        ("signer", "keys = [\"ring/one\"]"),
        ("hsm-operator", ""),
    ] {
        cluster.grant(&format!(
            "name = \"the {role}\"\nrole = \"{role}\"\nprincipals = [\"spiffe://portcullis.dev/{role}\"]\n{places}"
        ));
    }
    let gateway = Gateway::start(&cluster);
    let of = async |who: &str| client_of(&cluster, &gateway, &format!("spiffe://portcullis.dev/{who}")).await;
    let (admin, signer, operator) = (of("key-admin").await, of("signer").await, of("hsm-operator").await);
    create_ring(&admin, "ring").await;
    for key in ["one", "two"] {
        create_key(&admin, "ring", key, KeySpec::EC_P256).await;
    }
    sign(&signer, "keyRings/ring/keys/one", b"m")
        .await
        .expect("a signature");
    operator
        .cluster()
        .list_members(ListMembersRequest {})
        .await
        .expect("members");

    let denied = |refused: portcullis_softhsm_tests::Refusal| drop(refused.is(Code::PermissionDenied, "ACCESS_DENIED"));
    denied(refusal(sign(&admin, "keyRings/ring/keys/one", b"m").await));
    denied(refusal(admin.cluster().list_members(ListMembersRequest {}).await));
    denied(refusal(sign(&signer, "keyRings/ring/keys/two", b"m").await));
    denied(refusal(sign(&operator, "keyRings/ring/keys/one", b"m").await));
    for client in [&signer, &operator] {
        denied(refusal(
            client
                .keys()
                .create_key(key_request("ring", "three", KeySpec::EC_P256))
                .await,
        ));
    }
    denied(refusal(
        admin
            .keys()
            .create_key(key_request("other", "one", KeySpec::EC_P256))
            .await,
    ));
}

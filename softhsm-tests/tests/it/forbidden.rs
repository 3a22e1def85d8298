//! What somebody with a member's user PIN and a copy of the database cannot do.

use portcullis_softhsm_tests::{Adversary, Database, Gateway, KeySpec, MEMBERS, TestCluster, create_key, create_ring};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_refuses_what_is_forbidden_and_does_what_is_not() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let kinds = [
        ("ec", KeySpec::EC_P256),
        ("rsa", KeySpec::RSA_PKCS1),
        ("pss", KeySpec::RSA_PSS),
        ("aes", KeySpec::AES_256),
        ("hmac", KeySpec::HMAC_SHA256),
    ];
    for (id, spec) in kinds {
        create_key(&client, "ring", id, spec).await;
    }
    gateway.stop();
    let database = Database::of(&cluster);
    let tokens = kinds.map(|(id, _)| database.key_token("ring", id));
    for member in MEMBERS {
        let report = Adversary::at(&cluster, member).try_forbidden(&tokens);
        for control in &report.controls {
            assert!(
                control.worked,
                "member {member}: {} should work: {}",
                control.what, control.code
            );
        }
        let allowed: Vec<_> = report
            .attempts
            .iter()
            .filter(|attempt| !attempt.refused)
            .map(ToString::to_string)
            .collect();
        assert!(allowed.is_empty(), "member {member} allowed:\n{}", allowed.join("\n"));
        // A refusal must be about the key, not about the way it was asked.
        for attempt in &report.attempts {
            for technical in [
                "Session",
                "OperationActive",
                "HostMemory",
                "HandleInvalid",
                "UserNotLoggedIn",
            ] {
                assert!(!attempt.code.contains(technical), "member {member}: {attempt}");
            }
        }
        assert!(report.controls.len() >= 45, "only {} controls", report.controls.len());
        assert!(report.attempts.len() >= 400, "only {} attempts", report.attempts.len());
    }
}

#[test]
fn on_a_domain_that_was_made_carelessly_the_same_attempts_succeed() {
    let cluster = TestCluster::new();
    let adversary = Adversary::at(&cluster, "a");
    let token = adversary.replace_domain_by_a_careless_one();
    let report = adversary.try_forbidden(&[token]);
    let allowed: Vec<_> = report
        .attempts
        .iter()
        .filter(|attempt| !attempt.refused)
        .map(|one| one.what.as_str())
        .collect();
    for deed in [
        "seal: decrypt by ECB",
        "seal: derive a key by CBC",
        "seal: read the value",
        "portable: encrypt by GCM",
        "mac: compute an HMAC with SHA-1",
        "mac: read the value",
        "seal: copy it as it is",
        "seal: make it able to derive",
        "portable: copy it another by its label",
        "seal: wrap it under an own key by key wrap with padding",
        "seal: wrap it under an own RSA key by RSA OAEP",
        "mac: wrap it under seal by key wrap",
        "sealed AES key: load it extractable",
        "sealed AES key: load it not sensitive",
        "sealed AES key: load it with nothing said of either",
        "sealed AES key: decrypt its token with the seal key by ECB",
        "portable: load a key not sensitive with extractable true",
    ] {
        assert!(
            allowed.contains(&deed),
            "{deed} is not among what was allowed: {allowed:#?}"
        );
    }
}

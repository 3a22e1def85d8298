//! The audit log of a real run: whole, chained, and complete. That no secret is in it is shown by `canaries`.

use portcullis_client::{
    Code,
    v1::{EncryptRequest, EncryptionContext, encrypt_request::Authenticated},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, MEMBERS, SHORT, TestCluster, Wish, create_key, create_ring, decrypt, encrypt,
    key_request, refusal, sign, wait_until,
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

#[tokio::test(flavor = "multi_thread")]
async fn every_request_leaves_who_asked_what_of_which_key_and_what_came_of_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let unix = gateway.unix_client().await;
    let tls = gateway.tls_client().await;
    create_ring(&unix, "ring").await;
    let signer = create_key(&tls, "ring", "signer", KeySpec::EC_P256).await.name;
    let data = create_key(&unix, "ring", "data", KeySpec::AES_256).await.name;
    for _ in 0..20 {
        sign(&unix, &signer, b"a message").await.expect("a signature");
    }
    let ciphertext = encrypt(&tls, &data, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext;
    decrypt(&tls, &data, &ciphertext, b"").await.expect("the plaintext");
    refusal(decrypt(&tls, &data, &ciphertext, b"wrong").await).is(Code::InvalidArgument, "DECRYPTION_FAILED");
    let missing = refusal(sign(&tls, "keyRings/ring/keys/absent", b"").await).is(Code::NotFound, "KEY_NOT_FOUND");
    let stranger = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/stranger"), &cluster.pki("ca.pem"));
    let stranger = gateway
        .tls_client_as(&stranger.credentials())
        .await
        .expect("a connection");
    let denied = refusal(sign(&stranger, &signer, b"a message").await).is(Code::PermissionDenied, "ACCESS_DENIED");
    let context = EncryptionContext {
        values: [("purpose".to_owned(), "audit".to_owned())].into(),
    };
    let request = EncryptRequest {
        name: data.clone(),
        authenticated: Some(Authenticated::EncryptionContext(context)),
        ..Default::default()
    };
    tls.crypto().encrypt(request).await.expect("a ciphertext");
    // Each reply came after its entry, so the log is complete now.
    let log = AuditLog::read(&cluster.audit_file());
    gateway.stop();

    let uid = rustix::process::getuid().as_raw();
    let unix = format!("unix:uid={uid}");
    let developer = "spiffe://portcullis.dev/developer";
    let version = |name: &str| format!("{name}/versions/1");
    let count = |principal: &str, action: &str, resource: &str, outcome: &str| {
        let matches = |entry: &&Value| {
            entry["principal"] == principal
                && entry["action"] == action
                && entry["resource"] == resource
                && entry["outcome"] == outcome
        };
        log.outcomes().filter(matches).count()
    };
    assert_eq!(
        count(&unix, "key_ring.create", "keyRings/ring", "OK"),
        1,
        "{}",
        shown(&log)
    );
    assert_eq!(count(&unix, "sign", &version(&signer), "OK"), 20, "{}", shown(&log));
    assert_eq!(count(developer, "encrypt", &version(&data), "OK"), 2, "{}", shown(&log));
    assert_eq!(count(developer, "decrypt", &version(&data), "OK"), 1, "{}", shown(&log));
    let failed = log.outcomes().filter(|entry| entry["outcome"] == "DECRYPTION_FAILED");
    assert_eq!(
        failed.filter(|entry| entry["action"] == "decrypt").count(),
        1,
        "{}",
        shown(&log)
    );
    assert_eq!(
        count("spiffe://portcullis.dev/stranger", "sign", &signer, "ACCESS_DENIED"),
        1,
        "{}",
        shown(&log)
    );
    for (refused, reason) in [(missing, "KEY_NOT_FOUND"), (denied, "ACCESS_DENIED")] {
        let id = refused.metadata["request_id"].as_str();
        let found = log
            .outcomes()
            .filter(|entry| entry["request"] == id && entry["outcome"] == reason);
        assert_eq!(found.count(), 1, "request {id} in {}", shown(&log));
    }
    assert!(
        log.outcomes().any(|entry| entry["context"]["purpose"] == "audit"),
        "{}",
        shown(&log)
    );
    for entry in log.outcomes() {
        for field in ["time", "principal", "action", "outcome", "request"] {
            assert!(
                entry[field].as_str().is_some_and(|text| !text.is_empty()),
                "no {field} in {entry}"
            );
        }
        if entry["outcome"] == "OK" && entry["principal"] != "spiffe://portcullis.dev/stranger" {
            assert!(entry["rule"].is_string(), "no rule in {entry}");
        }
        if entry["outcome"] == "OK" && entry["action"] == "sign" {
            let member = entry["member"]
                .as_str()
                .unwrap_or_default()
                .trim_start_matches("members/");
            assert!(MEMBERS.contains(&member), "no member in {entry}");
            assert!(entry["mechanism"].is_string(), "no mechanism in {entry}");
        }
    }
    // A create is announced before it is made.
    let intents = log.entries.iter().filter(|entry| entry["phase"] == "intent");
    assert_eq!(
        intents.filter(|entry| entry["action"] == "key.create").count(),
        2,
        "{}",
        shown(&log)
    );
}

fn shown(log: &AuditLog) -> String {
    log.entries.iter().map(|entry| format!("{entry}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_caller_goes_away_ends_as_its_entry_says() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..60u64 {
        let client = client.clone();
        callers.spawn(async move {
            let request = key_request("ring", &format!("key-{number}"), KeySpec::EC_P256);
            // Dropping the call resets its stream. The moments lie from at once to a second, so that some fall into the work.
            let patience = std::time::Duration::from_micros(300 * number * number);
            drop(tokio::time::timeout(patience, client.keys().create_key(request)).await);
        });
    }
    callers.join_all().await;
    let key_creates = |log: &AuditLog, phase: &str| -> BTreeMap<String, Value> {
        let entries = log
            .entries
            .iter()
            .filter(|entry| entry["phase"] == phase && entry["action"] == "key.create");
        entries
            .map(|entry| (entry["request"].as_str().unwrap_or_default().to_owned(), entry.clone()))
            .collect()
    };
    let log = tokio::task::block_in_place(|| {
        wait_until("an outcome for each intent", SHORT, || {
            let log = AuditLog::parse(&fs::read(cluster.audit_file()).ok()?).ok()?;
            let outcomes = key_creates(&log, "outcome");
            key_creates(&log, "intent")
                .keys()
                .all(|request| outcomes.contains_key(request))
                .then_some(log)
        })
    });
    let (mut made, mut not_made) = (0, 0);
    for (request, intent) in key_creates(&log, "intent") {
        let name = intent["resource"].as_str().expect("the key's name").to_owned();
        let found = client
            .keys()
            .get_key(portcullis_client::v1::GetKeyRequest { name: name.clone() })
            .await;
        let outcome = &key_creates(&log, "outcome")[&request]["outcome"];
        assert_eq!(found.is_ok(), outcome == "OK", "{name}: {outcome}");
        if found.is_ok() { made += 1 } else { not_made += 1 }
    }
    assert!(
        made > 0,
        "{made} keys were made and {not_made} were not: the moments are too early"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_over_restarts() {
    let cluster = TestCluster::new();
    for number in 0..3 {
        let gateway = Gateway::start(&cluster);
        create_ring(&gateway.unix_client().await, &format!("ring-{number}")).await;
        gateway.stop();
    }
    let log = AuditLog::read(&cluster.audit_file());
    for number in 0..3 {
        let ring = format!("keyRings/ring-{number}");
        assert!(
            log.outcomes()
                .any(|entry| entry["resource"] == *ring && entry["outcome"] == "OK"),
            "{ring}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_was_torn_by_a_crash_is_set_aside_and_the_chain_goes_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "before").await;
    tokio::task::block_in_place(|| gateway.kill9());
    let whole = fs::read(cluster.audit_file()).expect("the audit log");
    let before = AuditLog::parse(&whole)
        .unwrap_or_else(|problem| panic!("{problem}"))
        .entries
        .len();
    // What a crash leaves when it comes in the middle of a write.
    let torn = br#"{"seq":99,"time":"2026-01-01T00:00:00Z","phase":"outcome","act"#;
    fs::write(cluster.audit_file(), [&whole[..], torn].concat()).expect("a torn log");
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "after").await;
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    assert!(log.entries.len() > before + 1);
    let now = fs::read(cluster.audit_file()).expect("the audit log");
    assert!(now.starts_with(&whole), "whole lines were changed");
    let repairs = log.entries[before..]
        .iter()
        .filter(|entry| entry["phase"] == "gateway")
        .count();
    assert!(repairs >= 1, "nothing tells of the repair: {}", shown(&log));
    let aside = files_below(cluster.path())
        .into_iter()
        .filter(|(_, bytes)| bytes == torn)
        .count();
    assert_eq!(aside, 1, "the torn line is lost");
}

fn files_below(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() {
            files.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            files.push((entry.path(), fs::read(entry.path()).expect("a file")));
        }
    }
    files
}

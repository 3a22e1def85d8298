//! A full disk under the audit log.

use portcullis_client::{
    Client, Code,
    v1::{GetKeyRequest, MemberState},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, LONG, Launch, MEMBERS, TestCluster, create_key, create_ring, key_request, refusal, sign,
};
use std::{fs, time::Instant};

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_the_audit_log_nothing_is_done_and_with_room_again_work_goes_on() {
    let cluster = TestCluster::new();
    let directory = cluster.path().join("audit");
    fs::create_dir(&directory).expect("the audit directory");
    let file = directory.join("audit.jsonl");
    cluster.edit_config(|config| {
        config["audit"]["file"] = file.to_str().expect("UTF-8").into();
    });
    let gateway = Launch::new(&cluster).with_small_disk_at(&directory, "256k").start();
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;

    // A neighbour takes the rest of the disk, then entries take what is left of the log's last block.
    let ballast = gateway.inside(&directory.join("ballast"));
    assert!(
        fs::write(&ballast, vec![0; 1 << 20]).is_err(),
        "the disk is larger than it should be"
    );
    let started = Instant::now();
    let refused = loop {
        match sign(&client, &name, b"a message").await {
            Ok(_) => assert!(started.elapsed() < LONG, "signatures on a full disk"),
            Err(status) => break refusal::<()>(Err(status)),
        }
    };
    refused.is(Code::Unavailable, "AUDIT_UNAVAILABLE");
    nothing_is_done(&client, &name).await;

    fs::remove_file(&ballast).expect("the neighbour leaves");
    let started = Instant::now();
    while let Err(status) = sign(&client, &name, b"a message").await {
        refusal::<()>(Err(status)).is(Code::Unavailable, "AUDIT_UNAVAILABLE");
        assert!(started.elapsed() < LONG, "still no signature");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let answer = client
        .keys()
        .get_key(GetKeyRequest {
            name: "keyRings/ring/keys/meanwhile".to_owned(),
        })
        .await;
    refusal(answer).is(Code::NotFound, "KEY_NOT_FOUND");
    create_key(&client, "ring", "meanwhile", KeySpec::EC_P256).await;
    for member in MEMBERS {
        assert!(gateway.member(member).await.state() == MemberState::Ready, "{member}");
    }
    let log = fs::read(gateway.inside(&file)).expect("the audit log");
    let log = AuditLog::parse(&log).unwrap_or_else(|problem| panic!("the chain broke: {problem}"));
    assert!(log.outcomes().any(|entry| {
        entry["resource"]
            .as_str()
            .is_some_and(|name| name.contains("meanwhile"))
    }));
    gateway.stop();
}

async fn nothing_is_done(client: &Client, name: &str) {
    for _ in 0..10 {
        refusal(sign(client, name, b"a message").await).is(Code::Unavailable, "AUDIT_UNAVAILABLE");
        let create = client
            .keys()
            .create_key(key_request("ring", "meanwhile", KeySpec::EC_P256))
            .await;
        refusal(create).is(Code::Unavailable, "AUDIT_UNAVAILABLE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_cannot_be_opened_keeps_the_gateway_from_starting() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        config["audit"]["file"] = "/proc/audit.jsonl".into();
    });
    let ended = tokio::task::block_in_place(|| Launch::new(&cluster).start_in_vain());
    assert!(!ended.status.success());
    assert!(ended.log.contains("/proc/audit.jsonl"), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_audit_log_keeps_the_gateway_from_starting_or_is_found_by_its_reader() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "ring").await;
    gateway.stop();
    let good = fs::read_to_string(cluster.audit_file()).expect("the audit log");
    AuditLog::parse(good.as_bytes()).unwrap_or_else(|problem| panic!("{problem}"));
    let lines: Vec<_> = good.lines().collect();
    assert!(lines.len() >= 3, "{good}");
    for at in 0..lines.len() - 1 {
        let mut removed = lines.clone();
        removed.remove(at);
        assert!(
            AuditLog::parse(format!("{}\n", removed.join("\n")).as_bytes()).is_err(),
            "line {at} was removed"
        );
    }
    let changed = good.replacen("keyRings/ring", "keyRings/ding", 1);
    assert_ne!(changed, good);
    assert!(AuditLog::parse(changed.as_bytes()).is_err(), "a name was changed");
}

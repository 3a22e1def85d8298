//! Destruction: its window, what carries it out, and what is left.

use super::{Verb, apply, destroy, schedule, version, wait_for_state};
use portcullis_client::{
    Code,
    v1::{
        CreateKeyRequest, CreateKeyRingRequest, Key, KeyDestruction, KeyRing, KeyVersionState, PublicKeyFormat,
        RotateKeyRequest, ScheduleKeyVersionDestructionRequest,
    },
};
use portcullis_softhsm_tests::{
    Adversary, AuditLog, Database, Gateway, KeySpec, LONG, TestCluster, create_key, create_ring, encrypt, key_request,
    public_key, refusal, sign,
};
use prost_types::Duration;

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_wrapped_key_is_gone_from_the_store_and_its_public_half_stays() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let name = format!("{}/versions/1", key.name);
    sign(&client, &key.name, b"message").await.expect("a signature");
    let public = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
    let token = Database::of(&cluster).key_token("ring", "key");
    let destroyed = destroy(&client, &name).await;
    assert_eq!(destroyed.destruction(), KeyDestruction::StoredToken);
    assert!(destroyed.destroy_time.is_some());
    assert_eq!(
        public_key(&client, &name, PublicKeyFormat::Der).await.public_key,
        public
    );
    let refused = refusal(sign(&client, &key.name, b"message").await);
    assert_eq!(refused.reason, "KEY_STATE_FORBIDS_OPERATION");
    assert!(Database::of(&cluster).key_token("ring", "key").is_empty());
    // Scheduling again is no error: the wish is fulfilled.
    assert_eq!(
        schedule(&client, &name, 60).await.expect("done").state(),
        KeyVersionState::Destroyed
    );
    let log = AuditLog::read(&cluster.audit_file());
    assert!(
        log.entries.iter().any(|entry| entry["action"] == "key_version.destroy"
            && entry["outcome"] == "OK"
            && entry["resource"] == name.as_str()),
        "the destruction is in the audit log"
    );
    drop(client);
    gateway.stop();
    // Not even in what SQLite leaves behind in its file.
    let wrapped = &token[60..token.len() - 40];
    for file in std::fs::read_dir(cluster.database_file().parent().expect("a directory")).expect("the directory") {
        let path = file.expect("a file").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("readable");
            let found = bytes.windows(wrapped.len()).any(|window| window == wrapped);
            assert!(!found, "the wrapped key is still in {}", path.display());
        }
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    assert_eq!(version(&client, &name).await.state(), KeyVersionState::Destroyed);
    assert_eq!(
        public_key(&client, &name, PublicKeyFormat::Der).await.public_key,
        public
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_is_destroyed_on_its_member_even_if_that_takes_a_while() {
    let cluster = TestCluster::new();
    // The frozen worker is to live until it is thawed.
    cluster.set_in_cluster("probe_interval", "10m");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let request = CreateKeyRequest {
        member: "members/b".to_owned(),
        ..key_request("ring", "key", KeySpec::ED25519_RESIDENT)
    };
    let key = client.keys().create_key(request).await.expect("a key").into_inner();
    let rotation = RotateKeyRequest {
        name: key.name.clone(),
        allow_single_replica: true,
        member: "members/b".to_owned(),
        ..Default::default()
    };
    client.keys().rotate_key(rotation).await.expect("a second version");
    let name = format!("{}/versions/1", key.name);
    let objects = Adversary::at(&cluster, "b").resident_keys().len();
    gateway.freeze_worker("b");
    // A signature that waits for the frozen member keeps whatever another member can do away from it.
    let second = format!("{}/versions/2", key.name);
    let waiting = {
        let (client, name) = (client.clone(), second.clone());
        tokio::spawn(async move { sign(&client, &name, b"message").await })
    };
    while gateway.member("b").await.outstanding == 0 {
        tokio::task::yield_now().await;
    }
    schedule(&client, &name, 1).await.expect("scheduled");
    wait_for_state(&client, &name, KeyVersionState::Destroying).await;
    // Neither this version nor another one of its key waits for the member.
    let refused = refusal(apply(&client, &name, Verb::CancelDestruction).await);
    assert_eq!(refused.reason, "KEY_STATE_FORBIDS_OPERATION");
    let other = apply(&client, &second, Verb::Disable).await;
    assert_eq!(other.expect("disabled").state(), KeyVersionState::Disabled);
    assert_eq!(version(&client, &name).await.state(), KeyVersionState::Destroying);
    gateway.thaw_worker("b");
    let destroyed = wait_for_state(&client, &name, KeyVersionState::Destroyed).await;
    assert_eq!(destroyed.destruction(), KeyDestruction::HsmObject);
    // Its version was disabled meanwhile.
    let late = refusal(waiting.await.expect("no panic"));
    assert_eq!(late.reason, "KEY_STATE_FORBIDS_OPERATION");
    assert_eq!(Adversary::at(&cluster, "b").resident_keys().len(), objects - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_that_is_cancelled_does_not_happen() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::AES_256).await;
    let other = create_key(&client, "ring", "other", KeySpec::AES_256).await;
    let name = format!("{}/versions/1", key.name);
    let ciphertext = encrypt(&client, &key.name, b"plaintext", b"")
        .await
        .expect("encrypted")
        .ciphertext;
    let scheduled = schedule(&client, &name, 2).await.expect("scheduled");
    assert!(scheduled.destroy_time.is_some());
    let cancelled = apply(&client, &name, Verb::CancelDestruction).await.expect("cancelled");
    assert_eq!(
        (cancelled.state(), cancelled.destroy_time),
        (KeyVersionState::Disabled, None)
    );
    // One scheduled for the same time goes; when it is gone, the cancelled one would be too.
    destroy(&client, &format!("{}/versions/1", other.name)).await;
    apply(&client, &name, Verb::Enable).await.expect("enabled");
    let opened = portcullis_softhsm_tests::decrypt(&client, &key.name, &ciphertext, b"").await;
    assert_eq!(opened.expect("decrypted").plaintext, b"plaintext".as_slice());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_has_bounds_of_the_gateway_of_the_ring_and_of_the_key() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let keys = toml::toml! {
            least_destroy_window = "1h"
            destroy_window = "2h"
            most_destroy_window = "10h"
        };
        config.insert("keys".to_owned(), toml::Value::Table(keys));
    });
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let ring = CreateKeyRingRequest {
        key_ring_id: "careful".to_owned(),
        key_ring: Some(KeyRing {
            least_destroy_window: seconds(3 * 3600),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = client.keys().create_key_ring(ring).await.expect("a ring").into_inner();
    assert_eq!(made.least_destroy_window, seconds(3 * 3600));
    create_ring(&client, "usual").await;
    let with_window = |ring: &str, id: &str, window| {
        let mut request = key_request(ring, id, KeySpec::AES_256);
        request.key.get_or_insert_with(Key::default).destroy_window = window;
        request
    };
    for (ring, window) in [("usual", 1800), ("usual", 11 * 3600), ("careful", 2 * 3600)] {
        let refused = refusal(
            client
                .keys()
                .create_key(with_window(ring, "bad", seconds(window)))
                .await,
        );
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::InvalidArgument, "FIELD_INVALID"),
            "{ring}"
        );
        assert!(refused.message.contains("window"), "{}", refused.message);
    }
    for (ring, window, asked, expected) in [
        ("usual", None, None, Some(2 * 3600)),
        ("usual", Some(4 * 3600), None, Some(4 * 3600)),
        ("usual", None, Some(3600), Some(3600)),
        ("usual", None, Some(60), None),
        ("usual", None, Some(20 * 3600), None),
        // The ring's least is longer than the gateway's usual window.
        ("careful", None, None, Some(3 * 3600)),
        ("careful", None, Some(3600), None),
    ] {
        let id = format!("key-{}-{}", window.unwrap_or(0), asked.unwrap_or(0));
        let request = with_window(ring, &id, window.and_then(seconds));
        let key = client.keys().create_key(request).await.expect("a key").into_inner();
        let request = ScheduleKeyVersionDestructionRequest {
            name: format!("{}/versions/1", key.name),
            window: asked.and_then(seconds),
            ..Default::default()
        };
        let before = std::time::SystemTime::now();
        let answer = client.keys().schedule_key_version_destruction(request).await;
        match expected {
            None => assert_eq!(refusal(answer).reason, "FIELD_INVALID", "{ring}/{id}"),
            Some(expected) => {
                let time = answer.expect("scheduled").into_inner().destroy_time.expect("a time");
                let before = before
                    .duration_since(std::time::UNIX_EPOCH)
                    .expect("after 1970")
                    .as_secs();
                let waits = time.seconds - before as i64;
                assert!(
                    (expected..expected + 30).contains(&waits),
                    "{ring}/{id} waits {waits} s"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_destruction_gets_another_time_from_those_who_know_its_etag() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let name = format!("{}/versions/1", key.name);
    let first = schedule(&client, &name, 3600).await.expect("scheduled");
    let time = |version: &portcullis_client::v1::KeyVersion| version.destroy_time.expect("a time").seconds;
    let later = schedule(&client, &name, 24 * 3600).await.expect("another time");
    let moved = time(&later) - time(&first);
    assert!((22 * 3600..24 * 3600).contains(&moved), "moved by {moved} s");
    let request = |etag: &str, window: Option<i64>| ScheduleKeyVersionDestructionRequest {
        name: name.clone(),
        etag: etag.to_owned(),
        window: window.and_then(seconds),
        ..Default::default()
    };
    let stale = request(&first.etag, Some(7200));
    let answer = client.keys().schedule_key_version_destruction(stale).await;
    assert_eq!(refusal(answer).reason, "ETAG_MISMATCH");
    // Without a window the wish is fulfilled already.
    let same = client
        .keys()
        .schedule_key_version_destruction(request("", None))
        .await
        .expect("the same")
        .into_inner();
    assert_eq!((same.destroy_time, &same.etag), (later.destroy_time, &later.etag));
    let sooner = client
        .keys()
        .schedule_key_version_destruction(request(&later.etag, Some(1)))
        .await
        .expect("another time");
    assert_eq!(sooner.into_inner().state(), KeyVersionState::DestroyScheduled);
    wait_for_state(&client, &name, KeyVersionState::Destroyed).await;
}

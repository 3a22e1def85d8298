//! Somebody mixes things up: another domain's member, changed rows, swapped tokens.

use portcullis_client::{
    Code, Status,
    v1::{GetKeyRequest, GetPublicKeyRequest, ListKeysRequest, MemberState},
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, MEMBERS, TestCluster, create_key, create_ring, decrypt, encrypt, refusal, sign,
};
use rusqlite::types::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_domain_is_fenced_and_the_others_serve() {
    let cluster = TestCluster::new();
    let stranger = TestCluster::with_another_domain();
    cluster.take_member_from(&stranger, "c");
    let gateway = Gateway::start(&cluster);
    let status = gateway.cluster_status().await;
    let fenced = gateway.wait_for_member("c", MemberState::Fenced).await;
    assert_ne!(fenced.domain_fingerprint, status.domain_fingerprint);
    assert!(fenced.reason.contains("domain"), "{}", fenced.reason);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    for number in 0..100u8 {
        sign(&client, &name, &[number])
            .await
            .expect("a signature by another member");
    }
    for member in ["a", "b"] {
        assert!(gateway.member(member).await.state() == MemberState::Ready, "{member}");
    }
    let fenced = gateway.member("c").await;
    assert!(fenced.state() == MemberState::Fenced, "{}", fenced.reason);
    assert_eq!(fenced.outstanding, 0);
}

/// Columns of a key that are authenticated. Integers change by one, blobs by one bit.
const COLUMNS: [(&str, &str); 12] = [
    ("keys", "purpose"),
    ("keys", "protection"),
    ("keys", "primary_version"),
    ("keys", "created"),
    ("keys", "revision"),
    ("keys", "tag"),
    ("key_versions", "number"),
    ("key_versions", "state"),
    ("key_versions", "created"),
    ("key_versions", "revision"),
    ("key_versions", "token"),
    ("key_versions", "tag"),
];

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_in_a_key_is_refused_by_the_keys_name_and_other_keys_serve() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let names: Vec<_> = COLUMNS
        .iter()
        .map(|(table, column)| format!("{}-{column}", table.replace('_', "-")))
        .collect();
    for name in &names {
        create_key(&client, "ring", name, KeySpec::EC_P256).await;
    }
    for name in ["labels", "members", "good"] {
        create_key(&client, "ring", name, KeySpec::EC_P256).await;
    }
    gateway.stop();
    let database = Database::of(&cluster);
    for (name, (table, column)) in names.iter().zip(COLUMNS) {
        database.disturb(table, column, "ring", name);
    }
    let labels = Value::Text(r#"{"team":"payments"}"#.to_owned());
    database.set("keys", "labels", "ring", "labels", &labels);
    let members = match database.column("key_versions", "members", "ring", "members") {
        Value::Text(none) if none.starts_with('[') => r#"["a"]"#.to_owned(),
        Value::Text(_) => "a".to_owned(),
        other => panic!("members is {other:?}"),
    };
    database.set("key_versions", "members", "ring", "members", &Value::Text(members));
    drop(database);

    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let mut wrong: Vec<_> = names.iter().map(|id| format!("keyRings/ring/keys/{id}")).collect();
    wrong.extend(["labels", "members"].map(|id| format!("keyRings/ring/keys/{id}")));
    for name in &wrong {
        is_not_authentic(sign(&client, name, b"a message").await, name);
        is_not_authentic(client.keys().get_key(GetKeyRequest { name: name.clone() }).await, name);
        let request = GetPublicKeyRequest {
            name: name.clone(),
            ..Default::default()
        };
        is_not_authentic(client.keys().get_public_key(request).await, name);
    }
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let listed = client.keys().list_keys(request).await.expect("a page").into_inner();
    let mut unauthentic = listed.unauthentic;
    unauthentic.sort();
    wrong.sort();
    assert_eq!(unauthentic, wrong);
    assert_eq!(
        listed.keys.into_iter().map(|key| key.name).collect::<Vec<_>>(),
        ["keyRings/ring/keys/good"]
    );
    sign(&client, "keyRings/ring/keys/good", b"a message")
        .await
        .expect("a signature");
    all_ready(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_key_token_counts() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", KeySpec::AES_256).await.name;
    let ciphertext = encrypt(&client, &name, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext;
    gateway.stop();
    let good = Database::of(&cluster).key_token("ring", "key");
    // A gateway reads a row once, so each byte needs a start; every seventh, and each end.
    for at in (0..good.len()).step_by(good.len() / 6).chain([good.len() - 1]) {
        let mut changed = good.clone();
        changed[at] ^= 0x80;
        Database::of(&cluster).set_key_token("ring", "key", &changed);
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        is_not_authentic(decrypt(&client, &name, &ciphertext, b"").await, &name);
    }
    for wrong in [&[][..], &good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        Database::of(&cluster).set_key_token("ring", "key", wrong);
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        is_not_authentic(decrypt(&client, &name, &ciphertext, b"").await, &name);
    }
    Database::of(&cluster).set_key_token("ring", "key", &good);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    assert_eq!(
        decrypt(&client, &name, &ciphertext, b"")
            .await
            .expect("the plaintext")
            .plaintext,
        &b"a plaintext"[..]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_rows_that_are_swapped_are_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    create_ring(&client, "other").await;
    for id in [
        "token-1", "token-2", "whole-1", "whole-2", "row-1", "row-2", "renamed", "moved", "good",
    ] {
        create_key(&client, "ring", id, KeySpec::EC_P256).await;
    }
    gateway.stop();
    let database = Database::of(&cluster);
    let swap = |columns: &[(&str, &str)], first: &str, second: &str| {
        for (table, column) in columns {
            let one = database.column(table, column, "ring", first);
            let two = database.column(table, column, "ring", second);
            database.set(table, column, "ring", first, &two);
            database.set(table, column, "ring", second, &one);
        }
    };
    swap(&[("key_versions", "token")], "token-1", "token-2");
    let row = ["state", "members", "created", "revision", "token", "tag"];
    swap(&row.map(|column| ("key_versions", column)), "whole-1", "whole-2");
    // The names change places: each key would be used under the other's name.
    let renamed = |from: &str, to: &str| {
        database.execute(
            "UPDATE keys SET key_id = ?2 WHERE ring_id = 'ring' AND key_id = ?1",
            [from, to],
        );
    };
    renamed("row-1", "between");
    renamed("row-2", "row-1");
    renamed("between", "row-2");
    renamed("renamed", "new-name");
    database.execute(
        "UPDATE keys SET ring_id = 'other' WHERE ring_id = 'ring' AND key_id = 'moved'",
        [],
    );
    drop(database);

    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    for id in ["token-1", "token-2", "whole-1", "whole-2", "row-1", "row-2", "new-name"] {
        let name = format!("keyRings/ring/keys/{id}");
        is_not_authentic(sign(&client, &name, b"a message").await, &name);
    }
    let name = "keyRings/other/keys/moved";
    is_not_authentic(sign(&client, name, b"a message").await, name);
    for id in ["renamed", "moved"] {
        let name = format!("keyRings/ring/keys/{id}");
        refusal(sign(&client, &name, b"a message").await).is(Code::NotFound, "KEY_NOT_FOUND");
    }
    sign(&client, "keyRings/ring/keys/good", b"a message")
        .await
        .expect("a signature");
    all_ready(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ring_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for ring in ["changed", "good"] {
        create_ring(&client, ring).await;
        create_key(&client, ring, "key", KeySpec::EC_P256).await;
    }
    gateway.stop();
    let database = Database::of(&cluster);
    assert_eq!(
        database.execute(
            "UPDATE key_rings SET created = created + 1 WHERE ring_id = 'changed'",
            []
        ),
        1
    );
    drop(database);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let request = portcullis_client::v1::GetKeyRingRequest {
        name: "keyRings/changed".to_owned(),
    };
    is_not_authentic(client.keys().get_key_ring(request).await, "keyRings/changed");
    sign(&client, "keyRings/good/keys/key", b"a message")
        .await
        .expect("a signature");
}

#[track_caller]
fn is_not_authentic<T>(answer: Result<T, Status>, name: &str) {
    refusal(answer).is(Code::DataLoss, "RECORD_NOT_AUTHENTIC").naming(name);
}

/// Checks that wrong records cost no member anything.
async fn all_ready(gateway: &Gateway) {
    for member in MEMBERS {
        let member = gateway.member(member).await;
        assert!(
            member.state() == MemberState::Ready && member.worker_starts == 1,
            "{}: {}",
            member.name,
            member.reason
        );
    }
}

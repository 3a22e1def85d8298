//! Resident keys: notes that lie about them, and objects that are gone.

use super::probes::RSA_RESIDENT;
use portcullis_client::{
    Client, Code,
    v1::{Key, MemberState},
};
use portcullis_softhsm_tests::{
    Adversary, AuditLog, Database, Gateway, KeySpec, LONG, SHORT, TestCluster, create_key, create_ring, key_request,
    refusal, sign, wait_until,
};
use rusqlite::types::Value;
use std::{collections::BTreeSet, fs, path::PathBuf};

async fn create_on_a(client: &Client, id: &str) -> Key {
    let mut request = key_request("ring", id, KeySpec::ED25519_RESIDENT);
    request.member = "a".to_owned();
    client
        .keys()
        .create_key(request)
        .await
        .expect("a resident key")
        .into_inner()
}

fn object_id(key: &Key) -> String {
    format!("{}00000001", key.uid.replace('-', ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_note_of_an_interrupted_create_destroys_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let ids = ["rubbish", "short", "key-tag", "version-tag", "orphan"];
    let mut keys = Vec::new();
    for id in ids {
        keys.push(create_on_a(&client, id).await);
    }
    gateway.stop();

    let database = Database::of(&cluster);
    for id in ids {
        let tag = match id {
            "short" => Value::Blob(Vec::new()),
            "key-tag" => database.column("keys", "tag", "ring", id),
            "version-tag" | "orphan" => database.column("key_versions", "tag", "ring", id),
            _ => Value::Blob(vec![7; 32]),
        };
        let uid = database.column("keys", "uid", "ring", id);
        let changed = database.execute(
            "INSERT INTO resident_intents (uid, version, member, tag) VALUES (?1, 1, 'a', ?2)",
            (uid, tag),
        );
        assert_eq!(changed, 1, "{id}");
    }
    // The last one is no stored key any more, as if its create had been interrupted.
    let orphan = "(SELECT uid FROM keys WHERE key_id = 'orphan')";
    for table in ["key_versions WHERE key_uid", "keys WHERE uid"] {
        assert_eq!(database.execute(&format!("DELETE FROM {table} = {orphan}"), ()), 1);
    }
    drop(database);

    let gateway = Gateway::start(&cluster);
    for key in &keys {
        tokio::task::block_in_place(|| {
            wait_until(&format!("a word on the note that names {}", key.name), SHORT, || {
                let log = gateway.log();
                let mut lines = log.lines();
                lines
                    .any(|line| line.contains(&key.uid) && line.contains("is not authentic"))
                    .then_some(())
            });
        });
    }
    let client = gateway.unix_client().await;
    for (key, id) in keys.iter().zip(ids) {
        if id != "orphan" {
            sign(&client, &key.name, b"a message")
                .await
                .expect("the key still signs");
        }
    }
    let on_the_token = tokio::task::block_in_place(|| Adversary::at(&cluster, "a").resident_keys());
    let expected: BTreeSet<_> = keys.iter().map(object_id).collect();
    assert_eq!(on_the_token, expected);
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let cleared: Vec<_> = log
        .entries
        .iter()
        .filter(|entry| entry["action"] == "resident.clear")
        .collect();
    assert!(cleared.is_empty(), "{cleared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentic_note_that_is_put_back_destroys_no_stored_key() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let database = Database::of(&cluster);
    let mut note = None;
    let mut created = Vec::new();
    // The note is there while the key is made, which takes a while for this type.
    for number in 0.. {
        assert!(number < 20, "no note was ever seen");
        let mut request = key_request("ring", &format!("rsa-{number}"), RSA_RESIDENT);
        request.member = "a".to_owned();
        let create = tokio::spawn({
            let client = client.clone();
            async move { client.keys().create_key(request).await }
        });
        while note.is_none() && !create.is_finished() {
            note = database.resident_note();
            tokio::task::yield_now().await;
        }
        let key = create.await.expect("the call does not panic").expect("a resident key");
        created.push(key.into_inner());
        if note.is_some() {
            break;
        }
    }
    gateway.stop();
    let (uid, tag) = note.expect("a note");
    let changed = database.execute(
        "INSERT INTO resident_intents (uid, version, member, tag) VALUES (?1, 1, 'a', ?2)",
        (&uid, tag),
    );
    assert_eq!(changed, 1);
    drop(database);
    let gateway = Gateway::start(&cluster);
    let key = created.last().expect("a key");
    assert_eq!(key.uid.replace('-', ""), hex::encode(uid));
    tokio::task::block_in_place(|| {
        wait_until("a word on the note", SHORT, || {
            let log = gateway.log();
            let mut lines = log.lines();
            lines
                .any(|line| line.contains(&key.uid) && line.contains("names a stored key"))
                .then_some(())
        });
    });
    sign(&gateway.unix_client().await, &key.name, b"a message")
        .await
        .expect("the key still signs");
}

/// The object files of member a's token.
fn object_files(cluster: &TestCluster) -> BTreeSet<PathBuf> {
    let tokens = fs::read_dir(cluster.member_directory("a").join("tokens")).expect("the tokens");
    tokens
        .flat_map(|token| fs::read_dir(token.expect("a token").path()).expect("a token's directory"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "object"))
        .collect()
}

/// More uses of a lost key than faults in a row end a worker.
async fn is_missing(gateway: &Gateway, client: &Client, lost: &str, living: &str) {
    for _ in 0..12 {
        refusal(sign(client, lost, b"a message").await).is(Code::DataLoss, "RESIDENT_KEY_MISSING");
    }
    sign(client, living, b"a message")
        .await
        .expect("a neighbour is not concerned");
    let member = gateway.member("a").await;
    assert!(member.state() == MemberState::Ready, "{}", member.reason);
    assert_eq!(member.worker_starts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_whose_object_was_lost_is_missing_and_its_member_serves_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let living = create_on_a(&client, "living").await.name;
    let before = object_files(&cluster);
    let lost = create_on_a(&client, "lost").await.name;
    let files: Vec<_> = object_files(&cluster).difference(&before).cloned().collect();
    assert_eq!(files.len(), 2, "a private and a public object: {files:?}");
    gateway.stop();
    for file in files {
        fs::remove_file(file).expect("an object is lost");
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    is_missing(&gateway, &client, &lost, &living).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_that_is_destroyed_behind_the_gateway_is_missing_and_its_member_serves_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let living = create_on_a(&client, "living").await.name;
    let lost = create_on_a(&client, "lost").await;
    let wrapped = create_key(&client, "ring", "wrapped", KeySpec::EC_P256).await.name;
    // In use, so that the worker has the object's handle.
    for name in [&lost.name, &living, &wrapped] {
        sign(&client, name, b"a message").await.expect("a signature");
    }
    let destroyed =
        tokio::task::block_in_place(|| Adversary::at(&cluster, "a").destroy_resident_key(&object_id(&lost)));
    assert_eq!(destroyed, 2, "a private and a public object");
    is_missing(&gateway, &client, &lost.name, &living).await;
    sign(&client, &wrapped, b"a message").await.expect("a signature");
}

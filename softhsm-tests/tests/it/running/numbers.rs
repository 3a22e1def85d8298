//! After a restore no number of a version is given twice, and nothing that an earlier making left on a token becomes a new version.

use super::backup::{create, restore};
use portcullis_client::{
    Client, Code,
    v1::{ChangeKeyVersionStateRequest, GetKeyVersionRequest, KeyVersionState, PublicKeyFormat, RotateKeyRequest},
};
use portcullis_softhsm_tests::{
    Adversary, Gateway, KeySpec, Output, TestCluster, create_key, create_ring, decrypt, encrypt, key_request,
    public_key, refusal, sign,
};
use std::{fs, path::Path};

const IDS: [&str; 3] = ["resident", "wrapped", "unrotated"];

fn key(id: &str) -> String {
    format!("keyRings/ring/keys/{id}")
}

async fn create_keys(client: &Client) {
    create_ring(client, "ring").await;
    for id in IDS {
        let spec = match id {
            "resident" => KeySpec::ED25519_RESIDENT,
            _ => KeySpec::EC_P256,
        };
        let mut request = key_request("ring", id, spec);
        if id == "resident" {
            request.member = "a".to_owned();
        }
        client.keys().create_key(request).await.expect("a key");
    }
}

/// Rotates a key; says which version is new.
async fn rotate(client: &Client, id: &str) -> u32 {
    let resident = id == "resident";
    let request = RotateKeyRequest {
        name: key(id),
        allow_single_replica: resident,
        member: if resident { "a".to_owned() } else { String::new() },
        ..Default::default()
    };
    let rotated = client.keys().rotate_key(request).await.expect("rotated").into_inner();
    let primary = rotated.primary.expect("a version");
    assert_eq!(primary.state(), KeyVersionState::Active);
    primary.version
}

async fn public(client: &Client, id: &str, number: u32) -> Vec<u8> {
    let name = format!("{}/versions/{number}", key(id));
    public_key(client, &name, PublicKeyFormat::Der)
        .await
        .public_key
        .to_vec()
}

/// A second version, which is then known to others; its public key.
async fn lose_to_others(client: &Client, id: &str) -> Vec<u8> {
    assert_eq!(rotate(client, id).await, 2);
    let request = ChangeKeyVersionStateRequest {
        name: format!("{}/versions/2", key(id)),
        reason: "stolen".to_owned(),
        ..Default::default()
    };
    let marked = client.keys().mark_key_version_compromised(request).await;
    marked.expect("marked");
    public(client, id, 2).await
}

fn lose_database(cluster: &TestCluster) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", cluster.database_file().display()));
    }
}

fn restore_lost(cluster: &TestCluster, backup: &Path) -> Output {
    lose_database(cluster);
    restore(cluster, backup)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_key_gets_new_keys_under_numbers_that_no_key_had() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_keys(&client).await;
    let backup = cluster.path().join("backup");
    tokio::task::block_in_place(|| create(&cluster, &backup, &[]).succeeded());
    let mut compromised = Vec::new();
    for id in ["resident", "wrapped"] {
        compromised.push((id, lose_to_others(&client, id).await));
    }
    // A request that names a version that never was takes no number.
    let strange = format!("{}/versions/4000000", key("unrotated"));
    refusal(sign(&client, &strange, b"a message").await);
    gateway.stop();

    let output = tokio::task::block_in_place(|| restore_lost(&cluster, &backup)).succeeded();
    for (id, _) in &compromised {
        let told = format!("{}: new versions get numbers above 2", key(id));
        assert!(output.text().contains(&told), "{told}: {output}");
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for (id, stolen) in &compromised {
        let request = GetKeyVersionRequest {
            name: format!("{}/versions/2", key(id)),
        };
        let found = client.keys().get_key_version(request).await.map(drop);
        assert_eq!(found.expect_err("it is lost").code(), Code::NotFound, "{id}");
        assert_eq!(rotate(&client, id).await, 3, "{id}");
        assert_ne!(public(&client, id, 3).await, *stolen, "{id}");
        sign(&client, &key(id), b"a message").await.expect("a signature");
        assert_eq!(rotate(&client, id).await, 4, "{id}");
    }
    assert_eq!(rotate(&client, "unrotated").await, 2);
    // What the restore presumed is in the key's row by now, and so kept over another start.
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    assert_eq!(rotate(&client, "wrapped").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_is_not_known_new_versions_are_numbered_far_above() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_keys(&client).await;
    let backup = cluster.path().join("backup");
    tokio::task::block_in_place(|| create(&cluster, &backup, &[]).succeeded());
    let stolen = lose_to_others(&client, "resident").await;
    gateway.stop();
    fs::remove_file(cluster.audit_file()).expect("lost");
    let output = tokio::task::block_in_place(|| restore_lost(&cluster, &backup));
    assert_eq!(output.status.code(), Some(3), "{output}");
    assert!(output.text().contains("1,000,000 further on"), "{output}");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for id in IDS {
        assert_eq!(rotate(&client, id).await, 1_000_002, "{id}");
    }
    assert_ne!(public(&client, "resident", 1_000_002).await, stolen);
    sign(&client, &key("resident"), b"a message")
        .await
        .expect("a signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_database_that_was_put_back_by_hand_adopts_no_object_of_the_time_after_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_keys(&client).await;
    create_key(&client, "ring", "aes", KeySpec::AES_256).await;
    let sealed = encrypt(&client, &key("aes"), b"precious", b"")
        .await
        .expect("encrypted");
    gateway.stop();
    let kept = cluster.path().join("kept.sqlite");
    fs::copy(cluster.database_file(), &kept).expect("a copy");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let stolen = lose_to_others(&client, "resident").await;
    gateway.stop();
    let objects = || tokio::task::block_in_place(|| Adversary::at(&cluster, "a").resident_objects());
    let before = objects();
    lose_database(&cluster);
    fs::copy(&kept, cluster.database_file()).expect("put back");

    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    assert_eq!(rotate(&client, "resident").await, 2);
    assert_ne!(public(&client, "resident", 2).await, stolen);
    sign(&client, &key("resident"), b"a message")
        .await
        .expect("a signature");
    decrypt(&client, &key("aes"), &sealed.ciphertext, b"")
        .await
        .expect("what did not change works");
    gateway.stop();
    // What was there is still there, for whoever has the newer database: nothing destroys what it did not make.
    let after = objects();
    assert!(
        after.is_superset(&before) && after.len() == before.len() + 1,
        "{before:?} {after:?}"
    );
}

//! A database that the first version of this program made, with the tokens that it was made on, goes on under this one.
//!
//! `fixtures/version-1` was written by that version: keys of each kind, a ciphertext, and a dump of the database.

use portcullis_client::v1::{GetKeyRequest, Mechanism, PublicKeyFormat};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, MEMBERS, TestCluster, create_key, decrypt, encrypt, public_key, sign, verifies,
};
use rusqlite::Connection;
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_version_is_upgraded_and_everything_in_it_works() {
    let fixture: Value = serde_json::from_str(CLUSTER).expect("the fixture");
    let cluster = cluster_of_version_1(&fixture);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for key in fixture["keys"].as_array().expect("keys") {
        let name = format!("keyRings/ring/keys/{}", key["id"].as_str().expect("an id"));
        let found = client.keys().get_key(GetKeyRequest { name: name.clone() }).await;
        let found = found.unwrap_or_else(|status| panic!("{name}: {status:?}")).into_inner();
        assert_eq!(found.uid, key["uid"].as_str().expect("a uid"), "{name}");
        let mechanism = match key["id"].as_str().expect("an id") {
            "ec" => Mechanism::EcdsaSha256,
            "pkcs1" => Mechanism::RsaPkcs1Sha256,
            "pss" => Mechanism::RsaPssSha256,
            "ed" => Mechanism::Ed25519,
            _ => continue,
        };
        let public = hex::decode(key["public_key"].as_str().expect("a public key")).expect("hexadecimal");
        assert_eq!(
            public_key(&client, &name, PublicKeyFormat::Der).await.public_key,
            public
        );
        let answer = sign(&client, &name, b"after the upgrade").await;
        let answer = answer.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        assert!(
            verifies(&public, mechanism, b"after the upgrade", &answer.signature),
            "{name}"
        );
    }
    let aes = "keyRings/ring/keys/aes";
    let ciphertext = hex::decode(fixture["ciphertext"].as_str().expect("a ciphertext")).expect("hexadecimal");
    let plaintext = decrypt(&client, aes, &ciphertext, b"aad")
        .await
        .expect("the plaintext")
        .plaintext;
    assert_eq!(plaintext, &b"written before the upgrade"[..]);
    encrypt(&client, aes, b"written after the upgrade", b"aad")
        .await
        .expect("a ciphertext");
    create_key(&client, "ring", "new", KeySpec::EC_P256).await;
    gateway.stop();

    let now = version(&cluster.database_file());
    let copy = cluster.database_file().with_file_name("portcullis.sqlite.v1-backup");
    // A copy is kept where something was changed, and there alone.
    assert_eq!(copy.exists(), now > 1, "the schema is now {now}");
    if now > 1 {
        assert_eq!(version(&copy), 1);
        assert_eq!(
            fs::metadata(&copy).expect("the copy").permissions().mode() & 0o777,
            0o600
        );
    }
    // A second start changes nothing more.
    Gateway::start(&cluster).stop();
    assert_eq!(version(&cluster.database_file()), now);
}

/// A new cluster with the tokens, the domain and the database of the fixture.
fn cluster_of_version_1(fixture: &Value) -> TestCluster {
    let cluster = TestCluster::new();
    for member in MEMBERS {
        fs::remove_dir_all(cluster.member_directory(member).join("tokens")).expect("the new token goes");
    }
    for (path, content) in fixture["members"].as_object().expect("the members' files") {
        let path = cluster.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        let bytes = hex::decode(content.as_str().expect("text")).expect("hexadecimal");
        fs::write(&path, bytes).expect("a member's file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
    }
    cluster.edit_config(|config| {
        config["domain"]["fingerprint"] = fixture["fingerprint"].as_str().expect("text").into();
    });
    let file = cluster.database_file();
    fs::create_dir_all(file.parent().expect("a directory")).expect("the state directory");
    let connection = Connection::open(&file).expect("a database");
    // A dump's tables come in any order.
    connection
        .pragma_update(None, "foreign_keys", false)
        .expect("a setting");
    connection.execute_batch(DATABASE).expect("the dump");
    connection.pragma_update(None, "user_version", 1).expect("the version");
    cluster
}

fn version(database: &Path) -> i64 {
    let connection = Connection::open(database).expect("a database");
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
    version.expect("its version")
}

const CLUSTER: &str = include_str!("../../../fixtures/version-1/cluster.json");
const DATABASE: &str = include_str!("../../../fixtures/version-1/database.sql");

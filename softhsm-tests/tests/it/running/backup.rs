//! Backups: made beside a running gateway, checked with and without an HSM, restored where there is nothing.

use portcullis_client::{
    Client, Code,
    v1::{
        Alias, CreateAliasRequest, GenerateDataKeyRequest, GetKeyRequest, Key, Mechanism, PublicKeyFormat,
        ReEncryptRequest,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Output, TestCluster, create_key, create_ring, decrypt, encrypt, key_request,
    public_key, refusal, run, sign, temporary_directory, verifies, workspace_binary,
};
use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const KINDS: [(&str, KeySpec, Option<Mechanism>); 6] = [
    ("ec", KeySpec::EC_P256, Some(Mechanism::EcdsaSha256)),
    ("pkcs1", KeySpec::RSA_PKCS1, Some(Mechanism::RsaPkcs1Sha256)),
    ("pss", KeySpec::RSA_PSS, Some(Mechanism::RsaPssSha256)),
    ("ed", KeySpec::ED25519_RESIDENT, Some(Mechanism::Ed25519)),
    ("aes", KeySpec::AES_256, None),
    ("hmac", KeySpec::HMAC_SHA256, None),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_works_after_a_restore_and_what_came_later_is_gone_and_named() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let mut keys = Vec::new();
    for (id, spec, mechanism) in KINDS {
        keys.push((create_key(&client, "ring", id, spec).await, mechanism));
    }
    let publics = public_keys(&client, &keys).await;
    let ciphertext = encrypt(&client, "keyRings/ring/keys/aes", b"precious", b"aad")
        .await
        .expect("a ciphertext")
        .ciphertext;
    let signature = sign(&client, "keyRings/ring/keys/ec", b"a message")
        .await
        .expect("a signature")
        .signature;

    let backup = cluster.path().join("backup");
    let made = create(&cluster, &backup, &[]).succeeded();
    assert!(
        made.text()
            .contains("1 key rings, 6 keys, 6 versions, every change up to audit entry"),
        "{made}"
    );
    assert_eq!(
        fs::metadata(&backup).expect("the backup").permissions().mode() & 0o777,
        0o600
    );
    let checked = verify(&backup, None).succeeded();
    assert!(
        checked
            .text()
            .contains("not checked: whether rows and tokens are authentic"),
        "{checked}"
    );
    // Beside the running gateway.
    let checked = verify(&backup, Some(&cluster)).succeeded();
    assert!(checked.text().contains(" tags are authentic"), "{checked}");

    create_key(&client, "ring", "later", KeySpec::EC_P256).await;
    create_ring(&client, "later").await;
    encrypt_afterwards(&client).await;
    gateway.stop();
    fs::remove_dir_all(cluster.database_file().parent().expect("the state directory")).expect("the disk is lost");

    let restored = restore(&cluster, &backup).succeeded().text();
    assert!(restored.contains("lost: every change after audit entry"), "{restored}");
    assert!(restored.contains("key.create keyRings/ring/keys/later"), "{restored}");
    assert!(restored.contains("key_ring.create keyRings/later"), "{restored}");
    assert!(!restored.contains("keyRings/ring/keys/ec"), "{restored}");
    // One by itself, one of a data key, one of a re-encryption; that before the backup is counted.
    let counted = "  3 by keyRings/ring/keys/aes/versions/1";
    assert!(restored.lines().any(|line| line == counted), "{restored}");
    let log = AuditLog::read(&cluster.audit_file());
    let told = log.entries.iter().filter(|entry| entry["action"] == "store.restore");
    let reasons: Vec<_> = told.filter_map(|entry| entry["reason"].as_str()).collect();
    assert_eq!(
        reasons,
        ["3 AES-GCM encryptions by 1 versions were made after the backup; they are counted again"]
    );
    assert_eq!(
        fs::metadata(cluster.database_file())
            .expect("the database")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );

    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    for (key, _) in &keys {
        let name = key.name.clone();
        let found = client
            .keys()
            .get_key(GetKeyRequest { name })
            .await
            .expect("a restored key")
            .into_inner();
        assert!(found == *key, "{} is another", key.name);
    }
    assert!(public_keys(&client, &keys).await == publics);
    for ((key, mechanism), public) in keys.iter().zip(&publics) {
        if let (Some(mechanism), Some(public)) = (mechanism, public) {
            let answer = sign(&client, &key.name, b"another message").await.expect("a signature");
            assert!(
                verifies(public, *mechanism, b"another message", &answer.signature),
                "{}",
                key.name
            );
        }
    }
    assert!(verifies(
        publics[0].as_ref().expect("a public key"),
        Mechanism::EcdsaSha256,
        b"a message",
        &signature
    ));
    let plaintext = decrypt(&client, "keyRings/ring/keys/aes", &ciphertext, b"aad")
        .await
        .expect("the plaintext");
    assert_eq!(plaintext.plaintext, &b"precious"[..]);
    let later = GetKeyRequest {
        name: "keyRings/ring/keys/later".to_owned(),
    };
    refusal(client.keys().get_key(later).await).is(Code::NotFound, "KEY_NOT_FOUND");
    create_key(&client, "ring", "later", KeySpec::EC_P256).await;
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let restores = log.entries.iter().filter(|entry| entry["action"] == "store.restore");
    assert_eq!(
        restores.map(|entry| entry["outcome"].clone()).collect::<Vec<_>>(),
        ["INTENT", "OK"]
    );
}

async fn public_keys(client: &Client, keys: &[(Key, Option<Mechanism>)]) -> Vec<Option<Vec<u8>>> {
    let mut publics = Vec::new();
    for (key, mechanism) in keys {
        publics.push(match mechanism {
            Some(_) => Some(
                public_key(client, &key.name, PublicKeyFormat::Der)
                    .await
                    .public_key
                    .to_vec(),
            ),
            None => None,
        });
    }
    publics
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_during_creates_hold_every_key_that_was_answered_before() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let creating = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..200 {
                create_key(&client, "ring", &format!("busy-{number}"), KeySpec::EC_P256).await;
            }
        }
    });
    let mut rounds = 0;
    while !creating.is_finished() || rounds < 3 {
        let answered = create_key(&client, "ring", &format!("answered-{rounds}"), KeySpec::EC_P256)
            .await
            .name;
        let backup = cluster.path().join(format!("backup-{rounds}"));
        tokio::task::block_in_place(|| {
            create(&cluster, &backup, &[]).succeeded();
            verify(&backup, None).succeeded();
        });
        let (_, database) = open(&backup);
        let (ring, key) = answered
            .strip_prefix("keyRings/")
            .and_then(|name| name.split_once("/keys/"))
            .expect("a name");
        let work = temporary_directory();
        let file = work.path().join("database");
        fs::write(&file, database).expect("the database");
        let found: i64 = Connection::open(&file)
            .expect("the database")
            .query_row(
                "SELECT count(*) FROM keys WHERE ring_id = ?1 AND key_id = ?2",
                [ring, key],
                |row| row.get(0),
            )
            .expect("a count");
        assert_eq!(found, 1, "{answered} is not in backup {rounds}");
        rounds += 1;
    }
    creating.await.expect("keys");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_takes_the_place_of_no_file_unless_told() {
    let cluster = TestCluster::new();
    Gateway::start(&cluster).stop();
    let backup = cluster.path().join("backup");
    fs::write(&backup, "precious").expect("a file");
    let output = create(&cluster, &backup, &[]);
    assert!(
        !output.status.success() && output.stderr.contains("exists already"),
        "{output}"
    );
    assert_eq!(fs::read_to_string(&backup).expect("the file"), "precious");
    create(&cluster, &backup, &["--overwrite"]).succeeded();
    verify(&backup, None).succeeded();
    // Nothing is left beside it, and nothing where there is no database.
    let nowhere = TestCluster::new();
    let output = create(&nowhere, &nowhere.path().join("backup"), &[]);
    assert!(
        !output.status.success() && output.stderr.contains("no gateway of this configuration"),
        "{output}"
    );
    for cluster in [&cluster, &nowhere] {
        let names = fs::read_dir(cluster.path())
            .expect("the directory")
            .map(|entry| entry.expect("an entry").file_name());
        for name in names {
            assert!(
                !name.to_string_lossy().starts_with(".portcullis-backup"),
                "{name:?} is left"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_refused_where_it_would_harm() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "ring").await;
    let backup = cluster.path().join("backup");
    create(&cluster, &backup, &[]).succeeded();
    let refused = |cluster: &TestCluster, expected: &str| {
        let output = restore(cluster, &backup);
        assert!(
            !output.status.success() && output.stderr.contains(expected),
            "{expected}: {output}"
        );
    };
    refused(
        &cluster,
        &format!("in use by another portcullisd (process {})", gateway.pid()),
    );
    gateway.stop();
    let before = fs::read(cluster.database_file()).expect("the database");
    refused(&cluster, "restored only where there is no database");
    assert!(fs::read(cluster.database_file()).expect("the database") == before);

    let other = TestCluster::with_another_domain();
    refused(&other, "its keys cannot be used here");
    assert!(!other.database_file().exists());

    fs::remove_file(cluster.database_file()).expect("removed");
    let mut bytes = fs::read(&backup).expect("the backup");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&backup, bytes).expect("a damaged backup");
    refused(&cluster, "a byte in it was changed");
    assert!(!cluster.database_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_backup_is_found_also_when_its_digests_are_made_to_fit() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for key in ["one", "two"] {
        create_key(&client, "ring", key, KeySpec::EC_P256).await;
    }
    let aes = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    encrypt(&client, &aes, b"counted", b"").await.expect("a ciphertext");
    let alias = CreateAliasRequest {
        parent: "keyRings/ring".to_owned(),
        alias_id: "alias".to_owned(),
        alias: Some(Alias {
            target: "keyRings/ring/keys/one".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.keys().create_alias(alias).await.expect("an alias");
    gateway.stop();
    let backup = cluster.path().join("backup");
    create(&cluster, &backup, &[]).succeeded();
    let forged = |sql: &str| -> PathBuf {
        let path = cluster.path().join("forged");
        fs::write(&path, reseal(&backup, sql)).expect("a forged backup");
        path
    };
    // Found without an HSM.
    for (sql, expected) in [
        (
            "DELETE FROM key_versions WHERE rowid = 1",
            "key versions: 3, its database has 2",
        ),
        (
            "UPDATE keys SET purpose = 77 WHERE key_id = 'one'",
            "keyRings/ring/keys/one is malformed",
        ),
        (
            "UPDATE key_versions SET token = x'00' WHERE rowid = 1",
            "the key token is malformed",
        ),
        (
            "UPDATE key_versions SET token = (SELECT token FROM key_versions WHERE rowid = 2) WHERE rowid = 1",
            "the row and the key token do not agree",
        ),
        (
            "UPDATE keys SET primary_version = 9 WHERE key_id = 'two'",
            "has no primary version",
        ),
        (
            "PRAGMA foreign_keys = OFF; UPDATE keys SET ring_id = 'gone' WHERE key_id = 'one'",
            "refer to rows that are missing",
        ),
        ("CREATE TABLE more (it INTEGER)", "its tables are not those of schema"),
        ("PRAGMA user_version = 99", "schema"),
        (
            "UPDATE documents SET revision = -1",
            "the document alias/1 alias of keyRings/ring is malformed",
        ),
    ] {
        let output = verify(&forged(sql), None);
        assert!(
            !output.status.success() && output.stderr.contains(expected),
            "{sql}: {output}"
        );
    }
    // Found by an HSM alone.
    for (sql, expected) in [
        (
            "UPDATE keys SET labels = '{\"stage\":\"other\"}' WHERE key_id = 'one'",
            "keyRings/ring/keys/one is not authentic",
        ),
        ("UPDATE key_rings SET revision = 7", "keyRings/ring is not authentic"),
        ("UPDATE key_versions SET state = 3 WHERE rowid = 1", "is not authentic"),
        ("UPDATE use_counts SET encryptions = 0", "the use count of version 1"),
        (
            "UPDATE documents SET id = 'other'",
            "the document alias/1 other of keyRings/ring is not authentic",
        ),
    ] {
        let forged = forged(sql);
        verify(&forged, None).succeeded();
        let output = verify(&forged, Some(&cluster));
        assert!(
            !output.status.success() && output.stderr.contains(expected),
            "{sql}: {output}"
        );
    }
    // No HSM is there to ask.
    for member in portcullis_softhsm_tests::MEMBERS {
        cluster.edit_member(member, |member| {
            member["module"] = "/nowhere/module.so".into();
        });
    }
    let output = verify(&backup, Some(&cluster));
    assert!(
        !output.status.success() && output.stderr.contains("no HSM member is ready"),
        "{output}"
    );
}

/// A key's creation that has not ended is in the backup as a note, which is checked too.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_killed_gateway_is_whole() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut answered = 0;
    for number in 0..20 {
        let request = key_request("ring", &format!("key-{number}"), KeySpec::EC_P256);
        answered += u64::from(client.keys().create_key(request).await.is_ok());
    }
    tokio::task::block_in_place(|| gateway.kill9());
    // What was committed is in the write-ahead log still.
    let backup = cluster.path().join("backup");
    let made = create(&cluster, &backup, &[]).succeeded();
    assert!(made.text().contains(&format!("{answered} keys")), "{made}");
    verify(&backup, Some(&cluster)).succeeded();
}

/// Encrypts in every way that counts, and in one that does not.
async fn encrypt_afterwards(client: &Client) {
    let name = "keyRings/ring/keys/aes".to_owned();
    let made = encrypt(client, &name, b"more", b"").await.expect("a ciphertext");
    let request = ReEncryptRequest {
        source_name: name.clone(),
        ciphertext: made.ciphertext.clone(),
        destination_name: name.clone(),
        ..Default::default()
    };
    client.crypto().re_encrypt(request).await.expect("a ciphertext");
    let request = GenerateDataKeyRequest {
        name: name.clone(),
        length_bytes: 32,
        ..Default::default()
    };
    client.crypto().generate_data_key(request).await.expect("a data key");
    decrypt(client, &name, &made.ciphertext, b"")
        .await
        .expect("the plaintext");
}

pub(super) fn create(cluster: &TestCluster, output: &Path, more: &[&str]) -> Output {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["backup", "create", "--config"])
        .arg(cluster.config_file())
        .arg("--output")
        .arg(output)
        .args(more))
}

fn verify(file: &Path, cluster: Option<&TestCluster>) -> Output {
    let mut command = Command::new(workspace_binary("portcullisd"));
    command.args(["backup", "verify", "--file"]).arg(file);
    if let Some(cluster) = cluster {
        command.arg("--config").arg(cluster.config_file());
    }
    run(&mut command)
}

pub(super) fn restore(cluster: &TestCluster, file: &Path) -> Output {
    run(Command::new(workspace_binary("portcullisd"))
        .args(["backup", "restore", "--config"])
        .arg(cluster.config_file())
        .arg("--file")
        .arg(file))
}

/// A backup's manifest and database, read by docs/formats.md.
fn open(backup: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(backup).expect("the backup");
    assert_eq!(&bytes[..17], b"PORTCULLISBACKUP\x01");
    let length = u32::from_be_bytes(bytes[17..21].try_into().expect("four bytes")) as usize;
    let manifest: Value = serde_json::from_slice(&bytes[21..21 + length]).expect("the manifest");
    let (content, digest) = bytes[21 + length..].split_at(bytes.len() - 21 - length - 32);
    assert_eq!(digest, Sha256::digest(&bytes[..bytes.len() - 32]).as_slice());
    assert_eq!(manifest["content"]["sha256"], hex::encode(Sha256::digest(content)));
    (manifest, content.to_vec())
}

/// A backup whose database was changed by a statement, with all digests as they should be.
fn reseal(backup: &Path, sql: &str) -> Vec<u8> {
    let (mut manifest, database) = open(backup);
    let work = temporary_directory();
    let file = work.path().join("database");
    fs::write(&file, database).expect("the database");
    let connection = Connection::open(&file).expect("the database");
    connection
        .execute_batch(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    drop(connection);
    let database = fs::read(&file).expect("the database");
    manifest["content"]["length"] = database.len().into();
    manifest["content"]["sha256"] = hex::encode(Sha256::digest(&database)).into();
    let manifest = serde_json::to_vec(&manifest).expect("a manifest");
    let length = u32::try_from(manifest.len()).expect("a short manifest").to_be_bytes();
    let mut bytes = [&b"PORTCULLISBACKUP\x01"[..], &length, &manifest, &database].concat();
    bytes.extend(Sha256::digest(&bytes));
    bytes
}

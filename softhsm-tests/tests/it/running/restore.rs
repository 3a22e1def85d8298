//! What a restore does with what was taken away after the backup: it is in the audit log, and nowhere else.

use super::backup::{create, restore};
use portcullis_client::{
    Client, Code, Status,
    v1::{
        ChangeKeyVersionStateRequest, DeleteRecipientRequest, GetImportJobRequest, GetKeyVersionRequest,
        GetRecipientRequest, KeyOperation, KeyType, KeyVersion, KeyVersionState, Mechanism, RevokeEphemeralKeysRequest,
        RotateKeyRequest, ScheduleKeyVersionDestructionRequest, SignRequest, sign_request,
    },
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, Output, TestCluster, create_ephemeral_key, create_import_job, create_key,
    create_recipient, create_ring, decrypt, encrypt, find_tool, public_key, refusal, run, sign, wait_until,
};
use std::{fs, path::PathBuf, process::Command, time::Duration};

/// A gateway with a backup, and everything that can be taken away.
struct Scene {
    cluster: TestCluster,
    backup: PathBuf,
    ephemeral: Vec<u8>,
    ciphertext: Vec<u8>,
    job: String,
}

const KEYS: [&str; 7] = [
    "compromised",
    "disabled",
    "enabled",
    "deactivated",
    "scheduled",
    "saved",
    "untouched",
];

impl Scene {
    async fn new(cluster: TestCluster) -> (Self, Gateway, Client) {
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        create_ring(&client, "ring").await;
        for key in KEYS {
            create_key(&client, "ring", key, KeySpec::EC_P256).await;
        }
        create_key(&client, "ring", "aes", KeySpec::AES_256).await;
        let rsa = KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)]);
        create_key(&client, "ring", "rsa", rsa).await;
        let public = public_key(&client, &key("rsa"), portcullis_client::v1::PublicKeyFormat::Der).await;
        create_recipient(&client, "ring", "partner", &public.public_key)
            .await
            .expect("a recipient");
        let ephemeral = create_ephemeral_key(&client, "ring", KeySpec::EC_P256, 3600)
            .await
            .expect("an ephemeral key")
            .token
            .to_vec();
        let ciphertext = encrypt(&client, &key("aes"), b"precious", b"")
            .await
            .expect("a ciphertext");
        let job = create_import_job(&client, "ring").await.name;
        let backup = cluster.path().join("backup");
        tokio::task::block_in_place(|| create(&cluster, &backup, &[]).succeeded());
        let scene = Self {
            cluster,
            backup,
            ephemeral,
            ciphertext: ciphertext.ciphertext.to_vec(),
            job,
        };
        (scene, gateway, client)
    }

    /// The database is lost; everything else is still there.
    fn restore(&self) -> Output {
        for suffix in ["", "-wal", "-shm"] {
            let file = format!("{}{suffix}", self.cluster.database_file().display());
            let _ = fs::remove_file(file);
        }
        restore(&self.cluster, &self.backup)
    }

    /// Moves the audit log's file away while the gateway runs, and waits until the log goes on in a new one.
    async fn rotate_log(&self, client: &Client, name: &str) -> PathBuf {
        let away = PathBuf::from(format!("{}-{name}", self.cluster.audit_file().display()));
        fs::rename(self.cluster.audit_file(), &away).expect("renamed");
        while !self.cluster.audit_file().exists() {
            sign(client, &key("untouched"), b"go on").await.expect("a signature");
        }
        away
    }
}

fn key(id: &str) -> String {
    format!("keyRings/ring/keys/{id}")
}

fn version(id: &str) -> String {
    format!("{}/versions/1", key(id))
}

fn change(id: &str) -> ChangeKeyVersionStateRequest {
    ChangeKeyVersionStateRequest {
        name: version(id),
        reason: "somebody published it".to_owned(),
        ..Default::default()
    }
}

async fn take_away(client: &Client) {
    let mut keys = client.keys();
    keys.mark_key_version_compromised(change("compromised"))
        .await
        .expect("compromised");
    keys.disable_key_version(change("disabled")).await.expect("disabled");
    keys.disable_key_version(change("enabled")).await.expect("disabled");
    keys.enable_key_version(change("enabled")).await.expect("enabled");
    keys.deactivate_key_version(change("deactivated"))
        .await
        .expect("deactivated");
    for id in ["scheduled", "saved"] {
        let request = ScheduleKeyVersionDestructionRequest {
            name: version(id),
            ..Default::default()
        };
        keys.schedule_key_version_destruction(request).await.expect("scheduled");
    }
    keys.cancel_key_version_destruction(change("saved"))
        .await
        .expect("saved");
    // What only says what would be does nothing, and is not made again.
    let request = ChangeKeyVersionStateRequest {
        validate_only: true,
        ..change("untouched")
    };
    keys.mark_key_version_compromised(request).await.expect("it could be");
    let request = DeleteRecipientRequest {
        name: "keyRings/ring/recipients/partner".to_owned(),
        ..Default::default()
    };
    keys.delete_recipient(request).await.expect("deleted");
    let uid = rustix::process::getuid().as_raw();
    let request = RevokeEphemeralKeysRequest {
        parent: "keyRings/ring".to_owned(),
        principal: format!("unix:uid={uid}"),
        ..Default::default()
    };
    keys.revoke_ephemeral_keys(request).await.expect("revoked");
}

async fn found(client: &Client, id: &str) -> KeyVersion {
    let request = GetKeyVersionRequest { name: version(id) };
    client
        .keys()
        .get_key_version(request)
        .await
        .expect("a version")
        .into_inner()
}

async fn sign_ephemeral(client: &Client, token: &[u8]) -> Result<(), Status> {
    let request = SignRequest {
        key_token: token.to_vec().into(),
        input: Some(sign_request::Input::Message(b"a message"[..].into())),
        ..Default::default()
    };
    client.crypto().sign(request).await.map(|_| ())
}

async fn require_taken_away(scene: &Scene, client: &Client) {
    for (id, state) in [
        ("compromised", KeyVersionState::Compromised),
        ("disabled", KeyVersionState::Disabled),
        ("enabled", KeyVersionState::Active),
        ("deactivated", KeyVersionState::Deactivated),
        ("scheduled", KeyVersionState::Disabled),
        ("saved", KeyVersionState::Disabled),
        ("untouched", KeyVersionState::Active),
    ] {
        let found = found(client, id).await;
        assert_eq!(found.state(), state, "{id}: {}", found.state_reason);
        if state == KeyVersionState::Active {
            sign(client, &key(id), b"a message").await.expect("a signature");
        } else {
            assert!(
                found.state_reason.contains("after the backup that was restored"),
                "{id}: {}",
                found.state_reason
            );
            refusal(sign(client, &key(id), b"a message").await)
                .is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION");
        }
    }
    assert!(
        found(client, "compromised")
            .await
            .state_reason
            .ends_with("somebody published it")
    );
    refusal(sign_ephemeral(client, &scene.ephemeral).await).is(Code::FailedPrecondition, "KEY_TOKEN_REVOKED");
    let recipient = GetRecipientRequest {
        name: "keyRings/ring/recipients/partner".to_owned(),
    };
    let gone = client.keys().get_recipient(recipient).await.map(drop);
    assert_eq!(gone.expect_err("it was deleted").code(), Code::NotFound);
    let job = GetImportJobRequest {
        name: scene.job.clone(),
    };
    let gone = client.keys().get_import_job(job).await.map(drop);
    assert_eq!(gone.expect_err("it may have been used").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_away_again_what_the_time_after_the_backup_took_away() {
    let (scene, gateway, client) = Scene::new(TestCluster::new()).await;
    take_away(&client).await;
    for _ in 0..300 {
        encrypt(&client, &key("aes"), b"another", b"")
            .await
            .expect("a ciphertext");
    }
    gateway.stop();
    let made = made_encryptions(&scene.cluster);
    assert!(made >= 301, "{made}");
    let output = scene.restore().succeeded();
    for told in [
        "keyRings/ring/keys/compromised/versions/1 is COMPROMISED",
        "keyRings/ring/keys/scheduled/versions/1 is DISABLED",
        "the recipient partner of keyRings/ring is removed",
        "in keyRings/ring are revoked",
        "1 import jobs are removed",
    ] {
        assert!(output.text().contains(told), "{told}: {output}");
    }
    assert!(!output.text().contains("NOT KNOWN"), "{output}");

    let gateway = Gateway::start(&scene.cluster);
    let client = gateway.unix_client().await;
    require_taken_away(&scene, &client).await;
    // What was counted after the backup is not forgotten: the 300, and more than a crash can have hidden.
    encrypt(&client, &key("aes"), b"one more", b"")
        .await
        .expect("a ciphertext");
    gateway.stop();
    let counted = made_encryptions(&scene.cluster);
    assert!(counted >= made + (1 << 20), "{counted} after {made}");
    // Authenticated by now, and so kept over another start.
    let database = Database::of(&scene.cluster);
    assert_eq!(database.count("restrictions"), 0);
    drop(database);
    let gateway = Gateway::start(&scene.cluster);
    let client = gateway.unix_client().await;
    require_taken_away(&scene, &client).await;
    client
        .keys()
        .enable_key_version(change("disabled"))
        .await
        .expect("enabled by somebody who looked");
    sign(&client, &key("disabled"), b"a message")
        .await
        .expect("a signature");
}

/// How many encryptions are stored for the AES key.
fn made_encryptions(cluster: &TestCluster) -> i64 {
    let database = Database::of(cluster);
    let aes = "key_uid = (SELECT uid FROM keys WHERE key_id = 'aes')";
    database.number(&format!("SELECT max(encryptions) FROM use_counts WHERE {aes}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_compressed_audit_files_is_read_like_the_rest() {
    let (scene, gateway, client) = Scene::new(TestCluster::new()).await;
    take_away(&client).await;
    let away = scene.rotate_log(&client, "20260131").await;
    create_key(&client, "ring", "later", KeySpec::EC_P256).await;
    gateway.stop();
    run(Command::new(find_tool("gzip", "gzip")).arg(&away)).succeeded();
    let compressed = PathBuf::from(format!("{}.gz", away.display()));
    assert!(compressed.is_file() && !away.exists());

    let verify = |files: &[PathBuf]| super::rotation::verify(&scene.cluster, files);
    let output = verify(&[compressed, scene.cluster.audit_file()]).succeeded();
    assert!(output.text().contains("the chain is whole"), "{output}");
    let output = verify(&[scene.cluster.audit_file()]);
    assert_eq!(output.status.code(), Some(3), "{output}");
    assert!(output.text().contains("entries 1 to"), "{output}");

    let output = scene.restore().succeeded();
    assert!(
        output
            .text()
            .contains("key_version.disable keyRings/ring/keys/disabled/versions/1"),
        "{output}"
    );
    assert!(
        output.text().contains("key.create keyRings/ring/keys/later"),
        "{output}"
    );
    let gateway = Gateway::start(&scene.cluster);
    require_taken_away(&scene, &gateway.unix_client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_audit_log_is_not_whole_a_restore_says_so_and_is_careful() {
    let (scene, gateway, client) = Scene::new(TestCluster::new()).await;
    client
        .keys()
        .mark_key_version_compromised(change("compromised"))
        .await
        .expect("compromised");
    let away = scene.rotate_log(&client, "20260131").await;
    client
        .keys()
        .disable_key_version(change("disabled"))
        .await
        .expect("disabled");
    gateway.stop();
    let last = last_entry(&away);
    fs::remove_file(&away).expect("lost");
    let output = scene.restore();
    assert_eq!(output.status.code(), Some(3), "{output}");
    let told = output.text();
    assert!(told.contains("NOT KNOWN: which keys were compromised"), "{output}");
    assert!(told.contains(&format!("to {last} were not looked at")), "{output}");
    assert!(
        told.contains("no key version encrypts with AES-GCM any more"),
        "{output}"
    );

    let gateway = Gateway::start(&scene.cluster);
    let client = gateway.unix_client().await;
    // What is known is done.
    assert_eq!(found(&client, "disabled").await.state(), KeyVersionState::Disabled);
    refusal(sign_ephemeral(&client, &scene.ephemeral).await).is(Code::FailedPrecondition, "KEY_TOKEN_REVOKED");
    let fresh = create_ephemeral_key(&client, "ring", KeySpec::EC_P256, 3600)
        .await
        .expect("a new one");
    sign_ephemeral(&client, &fresh.token).await.expect("a signature");
    // 2^32 encryptions may have been made since the backup.
    refusal(encrypt(&client, &key("aes"), b"more", b"").await).is(Code::ResourceExhausted, "KEY_USAGE_LIMIT");
    let plaintext = decrypt(&client, &key("aes"), &scene.ciphertext, b"")
        .await
        .expect("old data");
    assert_eq!(plaintext.plaintext, &b"precious"[..]);
    let request = RotateKeyRequest {
        name: key("aes"),
        ..Default::default()
    };
    client.keys().rotate_key(request).await.expect("a new version");
    encrypt(&client, &key("aes"), b"more", b"")
        .await
        .expect("a ciphertext under the new version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_without_any_audit_file_or_with_another_log_is_careful_too() {
    let (scene, gateway, client) = Scene::new(TestCluster::new()).await;
    sign(&client, &key("untouched"), b"a message")
        .await
        .expect("a signature");
    gateway.stop();
    let log = fs::read_to_string(scene.cluster.audit_file()).expect("the log");
    let note = scene.cluster.database_file().with_file_name("audit.head");
    // The log of another gateway, which did the same and a little more.
    let (other, gateway, client) = Scene::new(TestCluster::new()).await;
    for _ in 0..20 {
        sign(&client, &key("untouched"), b"a message")
            .await
            .expect("a signature");
    }
    gateway.stop();
    let other = fs::read_to_string(other.cluster.audit_file()).expect("another log");
    for (content, told) in [(None, "are in no file"), (Some(other), "not the one of the backup")] {
        let _ = fs::remove_file(&note);
        match &content {
            None => fs::remove_file(scene.cluster.audit_file()).expect("lost"),
            Some(content) => fs::write(scene.cluster.audit_file(), content).expect("another log"),
        }
        let output = scene.restore();
        assert_eq!(output.status.code(), Some(3), "{output}");
        assert!(output.text().contains(told), "{told}: {output}");
    }
    // The same without its end, which only the note knows of.
    fs::write(scene.cluster.audit_file(), &log).expect("the log");
    let _ = fs::remove_file(&note);
    scene.restore().succeeded();
    wait_until("the log is closed", Duration::from_secs(1), || {
        note.exists().then_some(())
    });
    let head = fs::read(&note).expect("the note");
    fs::write(scene.cluster.audit_file(), &log).expect("the log without its end");
    fs::write(&note, head).expect("the note");
    let output = scene.restore();
    assert_eq!(output.status.code(), Some(3), "{output}");
    assert!(output.text().contains("were not looked at"), "{output}");
}

fn last_entry(file: &PathBuf) -> u64 {
    let text = fs::read_to_string(file).expect("a file of the log");
    let line = text.lines().last().expect("a line");
    let entry: serde_json::Value = serde_json::from_str(line).expect("an entry");
    entry["seq"].as_u64().expect("a number")
}

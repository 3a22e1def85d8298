//! A restore destroys nothing by itself: what the time after the backup decided about a destruction, the backup does not know.

use super::backup::{create, restore};
use portcullis_client::{
    Client, Code,
    v1::{
        ChangeKeyVersionStateRequest, GetKeyVersionRequest, KeyVersion, KeyVersionState,
        ScheduleKeyVersionDestructionRequest,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Database, Gateway, KeySpec, LONG, Output, TestCluster, create_key, create_ring, decrypt, encrypt,
    refusal, sign,
};
use prost_types::Duration;
use std::{
    fs,
    path::PathBuf,
    time::{Instant, SystemTime},
};

/// A version that waits for its destruction when the backup is made, and what becomes of it afterwards.
const IDS: [&str; 5] = ["wrapped", "resident", "later", "marked", "forgotten"];

struct Scene {
    cluster: TestCluster,
    backup: PathBuf,
    ciphertext: Vec<u8>,
}

fn version(id: &str) -> String {
    format!("{}/versions/1", key(id))
}

fn key(id: &str) -> String {
    format!("keyRings/ring/keys/{id}")
}

fn change(id: &str) -> ChangeKeyVersionStateRequest {
    ChangeKeyVersionStateRequest {
        name: version(id),
        reason: "somebody looked".to_owned(),
        ..Default::default()
    }
}

async fn schedule(client: &Client, id: &str, seconds: i64) -> KeyVersion {
    let request = ScheduleKeyVersionDestructionRequest {
        name: version(id),
        window: Some(Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    let scheduled = client.keys().schedule_key_version_destruction(request).await;
    scheduled.expect("scheduled").into_inner()
}

async fn save(client: &Client, id: &str) {
    let mut keys = client.keys();
    keys.cancel_key_version_destruction(change(id))
        .await
        .expect("cancelled");
    keys.enable_key_version(change(id)).await.expect("enabled");
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

/// Waits until a version is destroyed; by then the gateway has looked for all that is due.
async fn wait_for_destruction(client: &Client, id: &str) {
    let end = Instant::now() + LONG;
    while found(client, id).await.state() != KeyVersionState::Destroyed {
        assert!(Instant::now() < end, "{id} is not destroyed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Destroys a key that nobody misses.
async fn destroy_another(client: &Client, id: &str) {
    create_key(client, "ring", id, KeySpec::EC_P256).await;
    schedule(client, id, 1).await;
    wait_for_destruction(client, id).await;
}

impl Scene {
    /// Every version of `IDS` waits for a destruction in eight seconds, is backed up so, and has another fate afterwards; then that
    /// time passes, and the database is lost.
    async fn new() -> Self {
        let cluster = TestCluster::new();
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        create_ring(&client, "ring").await;
        for id in IDS {
            let spec = match id {
                "wrapped" => KeySpec::AES_256,
                "resident" => KeySpec::ED25519_RESIDENT,
                _ => KeySpec::EC_P256,
            };
            create_key(&client, "ring", id, spec).await;
        }
        let ciphertext = encrypt(&client, &key("wrapped"), b"precious", b"")
            .await
            .expect("a ciphertext");
        let mut due = None;
        for id in IDS {
            due = schedule(&client, id, 8).await.destroy_time;
        }
        let due = SystemTime::try_from(due.expect("a time")).expect("a time");
        let backup = cluster.path().join("backup");
        tokio::task::block_in_place(|| create(&cluster, &backup, &[]).succeeded());
        save(&client, "wrapped").await;
        save(&client, "resident").await;
        schedule(&client, "later", 3600).await;
        client
            .keys()
            .mark_key_version_compromised(change("marked"))
            .await
            .expect("marked");
        // In use past the time at which they were to be destroyed.
        wait_for_destruction(&client, "forgotten").await;
        assert!(SystemTime::now() >= due);
        let scene = Self {
            cluster,
            backup,
            ciphertext: ciphertext.ciphertext.to_vec(),
        };
        scene.require_in_use(&client).await;
        assert_eq!(found(&client, "later").await.state(), KeyVersionState::DestroyScheduled);
        gateway.stop();
        scene
    }

    fn restore(&self) -> Output {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", self.cluster.database_file().display()));
        }
        restore(&self.cluster, &self.backup)
    }

    async fn require_in_use(&self, client: &Client) {
        let plaintext = decrypt(client, &key("wrapped"), &self.ciphertext, b"")
            .await
            .expect("the plaintext");
        assert_eq!(plaintext.plaintext, &b"precious"[..]);
        sign(client, &key("resident"), b"a message").await.expect("a signature");
    }

    /// Nothing was destroyed by the restore, or will be, until somebody says so.
    async fn require_held(&self, client: &Client) {
        for id in IDS {
            let held = found(client, id).await;
            assert_eq!(held.state(), KeyVersionState::DestroyScheduled, "{id}");
            assert_eq!(held.destroy_time, None, "{id}");
            assert!(
                held.state_reason.contains("is stopped by a restore") || id == "marked",
                "{id}: {}",
                held.state_reason
            );
        }
        refusal(sign(client, &key("resident"), b"a message").await)
            .is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_that_was_cancelled_or_put_off_after_the_backup_is_not_carried_out_by_a_restore() {
    let scene = Scene::new().await;
    let output = scene.restore().succeeded();
    for id in IDS {
        let told = format!("{}: its destruction at ", version(id));
        assert!(output.text().contains(&told), "{told}: {output}");
    }
    for told in ["\"enable\"", "\"schedule destruction\""] {
        assert!(
            output.text().contains(&format!("the last word on it was {told}")),
            "{output}"
        );
    }
    let gateway = Gateway::start(&scene.cluster);
    let client = gateway.unix_client().await;
    destroy_another(&client, "another").await;
    scene.require_held(&client).await;
    // Authenticated by now, and so kept over another start.
    assert_eq!(Database::of(&scene.cluster).count("destruction_holds"), 0);
    gateway.stop();
    let gateway = Gateway::start(&scene.cluster);
    let client = gateway.unix_client().await;
    destroy_another(&client, "one-more").await;
    scene.require_held(&client).await;

    // A person decides, as the page on operations says.
    for id in ["wrapped", "resident"] {
        save(&client, id).await;
    }
    scene.require_in_use(&client).await;
    let cancelled = client.keys().cancel_key_version_destruction(change("marked")).await;
    assert_eq!(
        cancelled.expect("cancelled").into_inner().state(),
        KeyVersionState::Compromised
    );
    // Without a window it is the key's own, and with one it is that.
    let request = ScheduleKeyVersionDestructionRequest {
        name: version("later"),
        ..Default::default()
    };
    let scheduled = client.keys().schedule_key_version_destruction(request).await;
    assert!(scheduled.expect("scheduled").into_inner().destroy_time.is_some());
    schedule(&client, "forgotten", 1).await;
    wait_for_destruction(&client, "forgotten").await;
    gateway.stop();
    let log = AuditLog::read(&scene.cluster.audit_file());
    let restored = log.entries.iter().rfind(|entry| entry["action"] == "store.restore");
    let reason = restored.expect("its entry")["reason"]
        .as_str()
        .expect("a reason")
        .to_owned();
    assert!(reason.contains("5 destructions are stopped"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_without_the_audit_log_carries_no_destruction_out_either() {
    let scene = Scene::new().await;
    fs::remove_file(scene.cluster.audit_file()).expect("lost");
    let output = scene.restore();
    assert_eq!(output.status.code(), Some(3), "{output}");
    let gateway = Gateway::start(&scene.cluster);
    let client = gateway.unix_client().await;
    destroy_another(&client, "another").await;
    scene.require_held(&client).await;
    for id in ["wrapped", "resident"] {
        save(&client, id).await;
    }
    scene.require_in_use(&client).await;
}

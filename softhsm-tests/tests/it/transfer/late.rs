//! A key that is stopped while an HSM works on its export, or on what it unwraps.

use super::exporting::{WRAPPING, create_exportable, export, under};
use portcullis_client::{
    Client, Code, Status,
    v1::{ChangeKeyVersionStateRequest, GetKeyRequest, KeyOperation, KeyType, KeyVersionState, Mechanism},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, LONG, MEMBERS, Material, SHORT, TestCluster, clear_import, create_key,
    create_key_for_import, create_ring, import, refusal, shared_key_import,
};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const UNWRAPPING: KeySpec = KeySpec::wrapped(KeyType::Aes256, &[(KeyOperation::Unwrap, Mechanism::AesKwp)]);

fn key(id: &str) -> String {
    format!("keyRings/ring/keys/{id}")
}

/// Takes a key's first version out of use while no member has the time for it.
async fn stop(client: &Client, id: &str) {
    let client = client.clone().with_deadline(Duration::from_secs(1));
    let request = ChangeKeyVersionStateRequest {
        name: format!("{}/versions/1", key(id)),
        reason: "it was stolen".to_owned(),
        ..Default::default()
    };
    let mut keys = client.keys();
    let stopped = match id.ends_with("-stolen") {
        true => keys.mark_key_version_compromised(request).await,
        false => keys.disable_key_version(request).await,
    };
    stopped.unwrap_or_else(|status| panic!("{id}: {status:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_export_and_no_import_by_a_key_that_was_stopped_while_it_waited() {
    let cluster = TestCluster::new();
    // Members that do not answer are to stay in service.
    cluster.set_in_cluster("probe_interval", "10m");
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let shared = Material::secret(32);
    for id in ["data", "data-stolen", "data-2"] {
        create_exportable(&client, id, KeySpec::HMAC_SHA256).await;
    }
    for id in ["wrapping", "wrapping-stolen", "wrapping-2"] {
        create_key(&client, "ring", id, WRAPPING).await;
    }
    create_key_for_import(&client, "ring", "unwrapping", UNWRAPPING).await;
    import(&client, clear_import(&key("unwrapping"), &shared))
        .await
        .expect("the shared key");
    create_key_for_import(&client, "ring", "imported", KeySpec::HMAC_SHA256).await;

    for member in MEMBERS {
        gateway.freeze_worker(member);
    }
    let patient = client.clone().with_deadline(LONG);
    let mut waiting: Vec<(&str, JoinHandle<Result<(), Status>>)> = Vec::new();
    for (data, wrapping, stopped) in [
        ("data", "wrapping-2", "data"),
        ("data-stolen", "wrapping-2", "data-stolen"),
        ("data-2", "wrapping", "wrapping"),
        ("data-2", "wrapping-stolen", "wrapping-stolen"),
        ("data-2", "wrapping-2", "nothing"),
    ] {
        let client = patient.clone();
        let work = async move {
            let exported = export(&client, &key(data), under(wrapping), Mechanism::AesKwp).await;
            exported.map(drop)
        };
        waiting.push((stopped, tokio::spawn(work)));
    }
    let request = shared_key_import(
        &key("imported"),
        &key("unwrapping"),
        &shared.value,
        &Material::generate(KeyType::HmacSha256),
    );
    let importer = patient.clone();
    let work = async move { import(&importer, request).await.map(drop) };
    waiting.push(("unwrapping", tokio::spawn(work)));

    let end = Instant::now() + SHORT;
    loop {
        let members = gateway.cluster_status().await.members;
        let outstanding: u64 = members.iter().map(|member| u64::from(member.outstanding)).sum();
        if outstanding >= waiting.len() as u64 {
            break;
        }
        assert!(Instant::now() < end, "only {outstanding} wait at members");
        tokio::task::yield_now().await;
    }
    for (id, _) in &waiting {
        if *id != "nothing" {
            stop(&client, id).await;
        }
    }
    for member in MEMBERS {
        gateway.thaw_worker(member);
    }
    for (stopped, work) in waiting {
        let result = work.await.expect("no panic");
        if stopped == "nothing" {
            result.expect("an exported key");
        } else {
            let refused = refusal(result).is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION");
            assert!(refused.message.contains(&key(stopped)), "{}", refused.message);
        }
    }
    // Nothing of the import is left.
    let request = GetKeyRequest { name: key("imported") };
    let found = client.keys().get_key(request).await.expect("the key").into_inner();
    assert_eq!(
        found.primary.expect("a version").state(),
        KeyVersionState::PendingImport
    );
    drop(client);
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let of = |action: &str| {
        let outcomes = log.outcomes().filter(|entry| entry["action"] == action);
        outcomes
            .filter(|entry| entry["outcome"] == "KEY_STATE_FORBIDS_OPERATION")
            .count()
    };
    assert_eq!((of("key.export"), of("key.import")), (4, 1));
}

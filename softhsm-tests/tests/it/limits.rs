//! What one principal may ask for, while others are served.

use portcullis_client::{Code, v1::BatchSignRequest};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, LONG, MEMBERS, TestCluster, Wish, create_key, create_ring, message_request, refusal,
    sign, wait_until,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::task::JoinSet;

fn limit(cluster: &TestCluster, setting: &str, value: i64) {
    cluster.edit_config(|config| {
        let limits = config
            .entry("limits")
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let limits = limits.as_table_mut().expect("[limits]");
        limits.insert(setting.to_owned(), value.into());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_asks_too_often_is_told_when_to_come_back_and_others_are_served() {
    let cluster = TestCluster::new();
    cluster.grant(
        "name = \"signers\"\nrole = \"signer\"\nprincipals = [\"spiffe://portcullis.dev/other\"]\nrings = [\"ring\"]",
    );
    limit(&cluster, "principal_rate", 20);
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let mut refused = None;
    for _ in 0..200 {
        if let Err(status) = sign(&client, &key.name, b"message").await {
            refused = Some(refusal::<()>(Err(status)));
            break;
        }
    }
    let refused = refused.expect("200 signatures were made faster than 20 a second");
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    let wait = refused.retry_after.expect("a time after which to try again");
    assert!(wait <= std::time::Duration::from_millis(50), "{wait:?}");
    // Another principal has its own share.
    let identity = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/other"), &cluster.pki("ca.pem"));
    let other = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
    sign(&other, &key.name, b"message").await.expect("a signature");
    // The refused call is in the audit log like any other.
    let log = AuditLog::read(&cluster.audit_file());
    assert!(log.outcomes().any(|entry| entry["outcome"] == "RATE_LIMITED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_items_of_a_batch_count_for_their_principal_and_a_reload_changes_the_limit() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    limit(&cluster, "principal_concurrency", 4);
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::RSA_PSS).await;
    let batch = || BatchSignRequest {
        items: (0..64u8).map(|number| message_request(&key.name, &[number])).collect(),
    };
    let refused = async || {
        let answer = client.crypto().batch_sign(batch()).await.expect("a batch").into_inner();
        let errors = answer.results.into_iter().filter_map(|one| match one.result {
            Some(portcullis_client::v1::batch_sign_response::result::Result::Error(error)) => Some(error),
            _ => None,
        });
        errors.collect::<Vec<_>>()
    };
    let errors = refused().await;
    assert!(!errors.is_empty(), "64 signatures at once are more than 4");
    for error in errors {
        assert_eq!(error.reason, "RATE_LIMITED");
        assert!(error.retry_delay.is_some());
    }
    limit(&cluster, "principal_concurrency", 1000);
    gateway.hang_up();
    let end = std::time::Instant::now() + portcullis_softhsm_tests::LONG;
    while !refused().await.is_empty() {
        assert!(std::time::Instant::now() < end, "the new limit is not in force");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_fills_every_queue_leaves_others_their_share() {
    let cluster = TestCluster::new();
    cluster.grant(
        "name = \"signers\"\nrole = \"signer\"\nprincipals = [\"spiffe://portcullis.dev/other\"]\nrings = [\"ring\"]",
    );
    for member in MEMBERS {
        cluster.edit_member(member, |member| drop(member.insert("queue".to_owned(), 16.into())));
    }
    let gateway = Gateway::start(&cluster);
    let greedy = gateway.tls_client().await.with_deadline(LONG);
    create_ring(&greedy, "ring").await;
    let key = create_key(&greedy, "ring", "key", KeySpec::RSA_PSS).await.name;
    let identity = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/other"), &cluster.pki("ca.pem"));
    let modest = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
    let modest = modest.with_deadline(LONG);
    let over = Arc::new(AtomicBool::new(false));
    let full = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    // Several times what all queues take.
    for _ in 0..200 {
        let (greedy, key, over, full) = (greedy.clone(), key.clone(), Arc::clone(&over), Arc::clone(&full));
        callers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if let Err(status) = sign(&greedy, &key, b"a message").await {
                    let refused = refusal::<()>(Err(status));
                    assert_eq!(refused.code, Code::ResourceExhausted, "{}", refused.message);
                    full.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(refused.retry_after.expect("a time after which to try again")).await;
                }
            }
        });
    }
    tokio::task::block_in_place(|| {
        wait_until("queues that are full", LONG, || {
            (full.load(Ordering::Relaxed) > 200).then_some(())
        });
    });
    // One operation at a time is less than a share: it is never refused for what another has under way.
    for number in 0..100 {
        let signed = sign(&modest, &key, b"a message").await;
        assert!(signed.is_ok(), "signature {number}: {:?}", signed.err());
    }
    over.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller fails otherwise");
    }
}

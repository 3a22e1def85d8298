//! SIGTERM under load: what was begun is finished, and nothing is done whose answer is lost.

use portcullis_softhsm_tests::{AuditLog, Gateway, KeySpec, TestCluster, create_key, create_ring, sign};
use tokio::task::JoinSet;

const CALLS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn every_signature_that_was_made_reaches_its_caller() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let clients = gateway.clients().await.map(|(_, client)| client);
    create_ring(&clients[0], "ring").await;
    let key = create_key(&clients[0], "ring", "key", KeySpec::RSA_PKCS1).await.name;
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let (client, key) = (clients[number % 2].clone(), key.clone());
        calls.spawn(async move {
            sign(&client, &key, format!("message {number}").as_bytes())
                .await
                .is_ok()
        });
    }
    // The load is on its way when some of it is answered and much of it is not.
    let mut answered = 0;
    while answered < CALLS / 20 {
        answered += usize::from(calls.join_next().await.expect("a call").expect("a call does not panic"));
    }
    let ended = tokio::task::block_in_place(|| gateway.stop());
    assert!(ended.status.success(), "{}", ended.log);
    while let Some(call) = calls.join_next().await {
        answered += usize::from(call.expect("a call does not panic"));
    }
    let log = AuditLog::read(&cluster.audit_file());
    let made = log
        .outcomes()
        .filter(|entry| entry["action"] == "sign" && entry["outcome"] == "OK")
        .count();
    assert_eq!(
        answered, made,
        "signatures that callers have, and signatures that were made"
    );
    let lost: Vec<_> = log.outcomes().filter(|entry| entry["outcome"] != "OK").collect();
    assert!(
        lost.is_empty(),
        "{} calls were begun and not finished, first: {}",
        lost.len(),
        lost[0]
    );
    assert_eq!(
        log.entries.last().map(|entry| entry["action"].clone()),
        Some("gateway.stop".into())
    );
}

//! SIGTERM under load: what was begun is finished, and nothing is done whose answer is lost.

use portcullis_client::{
    Code,
    v1::{GenerateRandomRequest, ListMembersRequest},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, Http2, KeySpec, TestCluster, create_key, create_ring, framed, message_request, refusal, sign,
};
use prost::Message;
use std::time::{Duration, Instant};
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

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_arrived_and_streams_that_wait_do_not_delay_the_end() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let connection = Http2::over_socket(gateway.unix()).await;
    let request = framed(&message_request("keyRings/ring/keys/key", &[7; 1000]).encode_to_vec());
    let sign = "portcullis.v1.CryptoService/Sign";
    let mut unfinished = Vec::new();
    for arrives in [0, 100] {
        let mut call = connection.begin(sign, None).await.expect("a call");
        call.send(&request[..arrives], false);
        unfinished.push(call);
    }
    let mut watch = connection
        .begin("grpc.health.v1.Health/Watch", None)
        .await
        .expect("a call");
    watch.send(&framed(b""), true);
    unfinished.push(watch);
    let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    unfinished.push(connection.begin(reflection, None).await.expect("a call"));
    unfinished.push(
        connection
            .begin("portcullis.v1.CryptoService/Pipeline", None)
            .await
            .expect("a call"),
    );
    // What came before is known to have reached the gateway.
    let list = ListMembersRequest::default().encode_to_vec();
    let listed = connection.call("portcullis.v1.ClusterService/ListMembers", &list, None);
    assert_eq!(listed.await.expect("a status").code(), Code::Ok);
    let begun = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || gateway.stop());
    for call in unfinished {
        let status = call.status().await.expect("a status");
        let refused = refusal(Err::<(), _>(status)).is(Code::Unavailable, "GATEWAY_STOPPING");
        assert!(refused.retry_after.is_some());
    }
    stopping.await.expect("the gateway ends");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_take_its_answer_delays_the_end_as_long_as_is_configured() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let shutdown: toml::Table = toml::from_str(r#"drain = "1s""#).expect("a table");
        config.insert("shutdown".to_owned(), shutdown.into());
    });
    let gateway = Gateway::start(&cluster);
    let connection = Http2::that_takes_nothing(gateway.unix()).await;
    let method = "portcullis.v1.CryptoService/GenerateRandom";
    let mut call = connection.begin(method, None).await.expect("a call");
    let request = GenerateRandomRequest { length_bytes: 8 };
    call.send(&framed(&request.encode_to_vec()), true);
    let answered = || std::fs::read_to_string(cluster.audit_file()).is_ok_and(|log| log.contains("random"));
    tokio::task::block_in_place(|| {
        portcullis_softhsm_tests::wait_until("the answer", portcullis_softhsm_tests::SHORT, || {
            answered().then_some(())
        });
    });
    let begun = Instant::now();
    let ended = tokio::task::block_in_place(|| gateway.stop());
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(8),
        "{took:?}"
    );
    assert!(ended.log.contains("connections were still open"), "{}", ended.log);
}

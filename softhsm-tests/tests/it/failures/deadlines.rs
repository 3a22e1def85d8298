//! A deadline that has passed is DEADLINE_EXCEEDED with its reason, wherever the call was.

use portcullis_client::{
    Code,
    v1::{KeyOperation::Sign, KeyType, Mechanism},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, Http2, KeySpec, MEMBERS, TestCluster, create_key, create_ring, framed, key_request,
    message_request, refusal, sign,
};
use prost::Message;
use std::time::{Duration, Instant};
use tonic::Status;

const ALLOWED: &str = "300m";
const SIGN: &str = "portcullis.v1.CryptoService/Sign";

/// The call was answered with the reason, at its deadline.
#[track_caller]
fn is_over(begun: Instant, status: Result<Status, impl std::fmt::Debug>) {
    let took = begun.elapsed();
    let status = status.expect("a status");
    refusal(Err::<(), _>(status)).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(
        took >= Duration::from_millis(250) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_request_does_not_arrive_ends_at_its_deadline() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let connection = Http2::over_socket(gateway.unix()).await;
    let request = framed(&message_request("keyRings/ring/keys/key", &[7; 1000]).encode_to_vec());
    for arrives in [0, 3, 100] {
        let begun = Instant::now();
        let mut call = connection.begin(SIGN, Some(ALLOWED)).await.expect("a call");
        call.send(&request[..arrives], false);
        is_over(begun, call.status().await);
    }
    // Nobody knows what these asked for: there was nothing to decide.
    drop(gateway.stop());
    let log = AuditLog::read(&cluster.audit_file());
    assert_eq!(log.outcomes().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_members_do_not_answer_ends_at_its_deadline_and_the_log_says_so() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    sign(&client, &key, b"a message").await.expect("a signature");
    for member in MEMBERS {
        gateway.freeze_worker(member);
    }
    let connection = Http2::over_socket(gateway.unix()).await;
    let begun = Instant::now();
    let request = message_request(&key, b"a message").encode_to_vec();
    is_over(begun, connection.call(SIGN, &request, Some(ALLOWED)).await);
    for member in MEMBERS {
        gateway.thaw_worker(member);
    }
    let log = std::fs::read_to_string(cluster.audit_file()).expect("the log");
    let last = log.lines().rev().find(|line| line.contains(r#""action":"sign""#));
    let last = last.expect("an entry");
    assert!(last.contains(r#""outcome":"DEADLINE_EXCEEDED""#), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_takes_longer_than_it_may_ends_at_its_deadline() {
    const LARGE: KeySpec = KeySpec::wrapped(KeyType::Rsa4096, &[(Sign, Mechanism::RsaPssSha256)]);
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let connection = Http2::over_socket(gateway.unix()).await;
    for number in 0..3 {
        // Such a key takes a second or more; this is over before anything is answered, by whomever.
        let request = key_request("ring", &format!("large-{number}"), LARGE).encode_to_vec();
        let method = "portcullis.v1.KeyService/CreateKey";
        let status = connection.call(method, &request, Some("20m")).await.expect("a status");
        refusal(Err::<(), _>(status)).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    sign(&client, &name, b"a message").await.expect("the gateway goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_say_nothing_end_at_their_deadlines() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let connection = Http2::over_socket(gateway.unix()).await;
    let begun = Instant::now();
    let pipeline = connection.begin("portcullis.v1.CryptoService/Pipeline", Some(ALLOWED));
    is_over(begun, pipeline.await.expect("a call").status().await);

    let begun = Instant::now();
    let watched = connection.call("grpc.health.v1.Health/Watch", b"", Some(ALLOWED));
    is_over(begun, watched.await);
}

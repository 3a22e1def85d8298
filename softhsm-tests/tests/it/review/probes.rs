//! Probes: what stands behind them, and what is said when they are missed.

use portcullis_client::v1::{KeyOperation, KeyProtection, KeyType, Mechanism, MemberState};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, SHORT, TestCluster, create_ring, is_running, key_request, sign, wait_until,
};
use std::time::{Duration, Instant};

const CREATES: usize = 16;
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// Slow to make.
pub(super) const RSA_RESIDENT: KeySpec = KeySpec {
    protection: KeyProtection::Resident,
    allow_single_replica: true,
    ..KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Sign, Mechanism::RsaPssSha256)])
};

#[tokio::test(flavor = "multi_thread")]
async fn probes_do_not_wait_behind_slow_creates_of_resident_keys() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("probe_interval", "300ms");
    cluster.set_in_cluster("probe_deadline", &format!("{}ms", PROBE_DEADLINE.as_millis()));
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let started = Instant::now();
    let mut creates = tokio::task::JoinSet::new();
    for number in 0..CREATES {
        let mut request = key_request("ring", &format!("rsa-{number}"), RSA_RESIDENT);
        request.member = "a".to_owned();
        let client = client.clone();
        creates.spawn(async move { client.keys().create_key(request).await });
    }
    let answers = creates.join_all().await;
    let took = started.elapsed();
    let member = gateway.member("a").await;
    assert_eq!(member.worker_starts, 1, "the busy member was ended");
    for answer in answers {
        let key = answer.expect("a resident key").into_inner();
        sign(&client, &key.name, b"a message").await.expect("a signature");
    }
    assert!(
        took > 2 * PROBE_DEADLINE,
        "the creates took only {took:?}: no probe would have been missed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_missed_a_probe_says_so_and_not_how_it_was_ended() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("probe_interval", "200ms");
    cluster.set_in_cluster("probe_deadline", "1s");
    cluster.set_in_cluster("restart_pause", "3s");
    let gateway = Gateway::start(&cluster);
    let frozen = gateway.freeze_worker("b");
    let down = gateway.wait_for_member("b", MemberState::Down).await;
    assert!(down.reason.contains("did not answer a probe"), "{}", down.reason);
    tokio::task::block_in_place(|| {
        wait_until("the end of the frozen worker", SHORT, || {
            (!is_running(frozen)).then_some(())
        });
    });
    // The worker's end is reported now, and until the next one serves the cause stays to be read.
    let started = Instant::now();
    loop {
        let found = gateway.member("b").await;
        if found.state() == MemberState::Ready {
            assert_eq!(found.worker_starts, 2);
            break;
        }
        assert!(found.reason.contains("did not answer a probe"), "{}", found.reason);
        assert!(started.elapsed() < LONG, "no other worker is started");
    }
    let log = gateway.stop().log;
    let said = log
        .lines()
        .filter(|line| line.contains("a member is down") && line.contains("member=\"b\""));
    let said: Vec<_> = said.collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("did not answer a probe"), "{}", said[0]);
}

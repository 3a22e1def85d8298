//! Members that hang while the gateway starts or stops.

use super::freeze_all;
use portcullis_client::v1::MemberState;
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, Launch, MEMBERS, SHORT, TestCluster, create_key, create_ring, find_tool, is_running, run,
    sign, wait_until,
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// How long a start may take of which nothing comes.
const START_DEADLINE: Duration = Duration::from_secs(90);
/// A member that hangs may delay the ready line by this, and the load on this machine adds to it.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// What is under way gets its time; then it is over.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Gives members a module that nobody can load: opening a FIFO waits for a writer.
fn hang_at_start(cluster: &TestCluster, members: &[&str]) {
    let fifo = cluster.path().join("module.so");
    run(Command::new(find_tool("mkfifo", "coreutils")).arg(&fifo)).succeeded();
    let deadline = format!("{}s", START_DEADLINE.as_secs());
    cluster.set_in_cluster("start_deadline", &deadline);
    for member in members {
        cluster.edit_member(member, |member| {
            drop(member.insert("module".to_owned(), fifo.to_str().expect("UTF-8").into()))
        });
    }
}

/// Ends the gateway; says how long that took, and that no worker is left.
fn stop(gateway: Gateway) -> Duration {
    let workers = gateway.workers();
    let started = Instant::now();
    gateway.stop();
    let took = started.elapsed();
    for (member, pid) in workers {
        wait_until(
            &format!("the end of the worker {pid} of member {member}"),
            SHORT,
            || (!is_running(pid)).then_some(()),
        );
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_at_its_start_keeps_neither_callers_nor_the_operator_waiting() {
    let cluster = TestCluster::new();
    hang_at_start(&cluster, &["b"]);
    let started = Instant::now();
    let gateway = Gateway::start(&cluster);
    let took = started.elapsed();
    assert!(took < READY_LIMIT, "ready after {took:?}");
    assert!(gateway.member("b").await.state() == MemberState::Starting);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    sign(&client, &name, b"a message")
        .await
        .expect("a signature by another member");
    drop(client);
    let took = tokio::task::block_in_place(|| stop(gateway));
    assert!(took < STOP_LIMIT, "stopped after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_waits_for_its_first_member_ends_when_it_is_told_to() {
    let cluster = TestCluster::new();
    hang_at_start(&cluster, &MEMBERS);
    let took = tokio::task::block_in_place(|| {
        let gateway = Launch::new(&cluster).begin();
        wait_until("the workers that hang", LONG, || {
            (gateway.workers().len() == MEMBERS.len()).then_some(())
        });
        stop(gateway)
    });
    assert!(took < STOP_LIMIT, "stopped after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_workers_do_not_outlive_a_gateway_that_is_told_to_end() {
    let cluster = TestCluster::new();
    let took = tokio::task::block_in_place(|| {
        let gateway = Gateway::start(&cluster);
        freeze_all(&gateway);
        stop(gateway)
    });
    assert!(took < STOP_LIMIT, "stopped after {took:?}");
}

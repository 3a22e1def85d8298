//! Work that nobody waits for any more, and callers that wait for the same thing with different patience.

use super::{freeze_all, thaw_all};
use portcullis_client::{
    Client, Code,
    v1::{KeyType, MemberState, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, MEMBERS, TestCluster, create_key, create_ring, encrypt, is_running, key_request,
    public_key, refusal, sign, wait_until,
};
use std::time::{Duration, Instant};

const QUEUE: u32 = 8;
const IMPATIENCE: Duration = Duration::from_millis(50);

/// A cluster that frozen workers do not disturb: nobody misses their answers.
fn patient_cluster() -> TestCluster {
    let cluster = TestCluster::new();
    for setting in ["probe_interval", "probe_deadline", "hang_after"] {
        cluster.set_in_cluster(setting, "600s");
    }
    cluster
}

async fn outstanding(gateway: &Gateway) -> u32 {
    let members = gateway.cluster_status().await.members;
    for member in &members {
        assert!(
            member.outstanding <= QUEUE,
            "{} has {} operations",
            member.name,
            member.outstanding
        );
        assert!(
            member.state() == MemberState::Ready,
            "{}: {}",
            member.name,
            member.reason
        );
    }
    members.iter().map(|member| member.outstanding).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_caller_gave_up_counts_until_the_worker_has_answered() {
    let cluster = patient_cluster();
    for member in MEMBERS {
        cluster.edit_member(member, |member| drop(member.insert("queue".to_owned(), QUEUE.into())));
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let plaintext = vec![7; 512 << 10];
    freeze_all(&gateway);

    let impatient = gateway.unix_client().await.with_deadline(IMPATIENCE);
    let all = QUEUE * MEMBERS.len() as u32;
    let started = Instant::now();
    let (mut sent, mut counted) = (0, 0);
    while counted < all {
        assert!(
            started.elapsed() < LONG,
            "{counted} of {all} abandoned operations are counted"
        );
        let answer = encrypt(&impatient, &name, &plaintext, b"").await;
        assert!(answer.is_err(), "a frozen worker encrypts");
        sent += 1;
        // A call may be too late before it is sent to a member; what was sent to one stays counted.
        let now = outstanding(&gateway).await;
        assert!(
            (counted..=sent).contains(&now),
            "{counted} operations became {now} after {sent} calls"
        );
        counted = now;
    }
    for _ in 0..10 {
        refusal(encrypt(&client, &name, &plaintext, b"").await)
            .is(Code::ResourceExhausted, "HSM_SATURATED")
            .retryable();
    }
    assert_eq!(outstanding(&gateway).await, all);

    thaw_all(&gateway);
    let started = Instant::now();
    while outstanding(&gateway).await > 0 {
        assert!(
            started.elapsed() < LONG,
            "the work of callers that left is never finished"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    encrypt(&client, &name, &plaintext, b"").await.expect("a ciphertext");
    for member in MEMBERS {
        assert_eq!(gateway.member(member).await.worker_starts, 1, "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_answer_long_after_a_deadline_is_replaced_and_the_reason_says_so() {
    let cluster = patient_cluster();
    cluster.set_in_cluster("hang_after", "500ms");
    cluster.set_in_cluster("restart_pause", "3s");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let frozen = gateway.freeze_worker("b");
    let impatient = gateway.unix_client().await.with_deadline(IMPATIENCE);
    let started = Instant::now();
    let down = loop {
        let found = gateway.member("b").await;
        if found.state() == MemberState::Down {
            break found;
        }
        assert!(started.elapsed() < LONG, "the frozen worker is still trusted");
        // By chance one of the others does it.
        drop(encrypt(&impatient, &name, b"a plaintext", b"").await);
    };
    assert!(down.reason.contains("not answered"), "{}", down.reason);
    gateway.wait_for_worker("b", 2).await;
    assert_ne!(gateway.workers()["b"], frozen);
    encrypt(&client, &name, b"a plaintext", b"")
        .await
        .expect("a ciphertext");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_deadline_does_not_fail_others_that_wait_for_the_same_key() {
    let cluster = patient_cluster();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    gateway.stop();

    // Nothing is in memory now: the first use reads and checks the record.
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    freeze_all(&gateway);
    let impatient = gateway.unix_client().await.with_deadline(Duration::from_secs(2));
    let first = tokio::spawn({
        let name = name.clone();
        async move { sign(&impatient, &name, b"a message").await }
    });
    wait_for_the_check(&gateway).await;
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (client, name) = (client.clone(), name.clone());
        others.spawn(async move { sign(&client, &name, b"a message").await });
    }
    let gave_up = first.await.expect("the call does not panic");
    let gave_up = gave_up.err().expect("nobody can answer").code();
    assert!(
        matches!(gave_up, Code::DeadlineExceeded | Code::Cancelled),
        "{gave_up:?}"
    );
    thaw_all(&gateway);
    for answer in others.join_all().await {
        answer.expect("a signature for whoever waits longer");
    }
    public_key(&client, &name, PublicKeyFormat::Der).await;
}

async fn wait_for_the_check(gateway: &Gateway) {
    let started = Instant::now();
    while outstanding(gateway).await == 0 {
        assert!(started.elapsed() < LONG, "nobody asks a member");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_go_away_while_members_are_frozen_leave_nothing_behind() {
    let cluster = patient_cluster();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let frozen = freeze_all(&gateway);
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..6u8 {
        let (client, name): (Client, _) = (client.clone(), name.clone());
        callers.spawn(async move { sign(&client, &name, &[number]).await });
    }
    let started = Instant::now();
    while outstanding(&gateway).await < 6 {
        assert!(started.elapsed() < LONG, "not all calls are under way");
    }
    // Resets their streams: the gateway drops the calls.
    callers.shutdown().await;
    assert_eq!(outstanding(&gateway).await, 6);
    thaw_all(&gateway);
    let started = Instant::now();
    while outstanding(&gateway).await > 0 {
        assert!(
            started.elapsed() < LONG,
            "the work of callers that left is never finished"
        );
    }
    tokio::task::block_in_place(|| gateway.stop());
    wait_until("the end of the workers", LONG, || {
        (!frozen.iter().any(|pid| is_running(*pid))).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_generations_keep_no_use_waiting() {
    let cluster = patient_cluster();
    for member in MEMBERS {
        cluster.edit_member(member, |member| {
            member.insert("sessions".to_owned(), 1.into());
            member.insert("generation_sessions".to_owned(), 1.into());
        });
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    sign(&client, &name, b"a message").await.expect("a signature");
    let mut creators = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (client, spec) = (
            client.clone(),
            KeySpec {
                key_type: KeyType::Rsa4096,
                ..KeySpec::RSA_PSS
            },
        );
        creators.spawn(async move {
            let request = key_request("ring", &format!("rsa-{number}"), spec);
            client.keys().create_key(request).await.map(drop)
        });
    }
    // More than all members make at once, so that each is at one.
    while outstanding(&gateway).await <= MEMBERS.len() as u32 {
        assert!(
            creators.try_join_next().is_none(),
            "the creates are done before they were seen"
        );
    }
    // A signature that waited for a generation would come after its answer.
    loop {
        let before = outstanding(&gateway).await;
        assert!(before >= MEMBERS.len() as u32, "each signature waited for a generation");
        sign(&client, &name, b"a message").await.expect("a signature");
        if outstanding(&gateway).await == before {
            break;
        }
    }
    for created in creators.join_all().await {
        created.expect("a key");
    }
}

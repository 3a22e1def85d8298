//! Members that are reset, exchanged, hang, crash, lose replies or lose their token: no call fails as long as others are there.

use super::{CALLS, FaultyMember};
use portcullis_client::{
    Client,
    v1::{MacSignRequest, MemberState},
};
use portcullis_softhsm_tests::{
    Crash, Function, Gateway, KeySpec, LONG, Rule, TestCluster, create_key, sign, wait_until,
};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_reset_is_opened_again_by_a_new_worker_and_no_call_fails() {
    for rule in [
        Rule::lose_sessions_and_login([Function::C_Sign]),
        Rule::lose_handles([Function::C_Sign]),
    ] {
        let mut faulty = FaultyMember::start_with(|cluster| cluster.set_in_cluster("probe_interval", "200ms")).await;
        let logins = faulty.module.calls(Function::C_Login);
        let placed = faulty.module.place(rule);
        faulty
            .work_until("the reset", |module| module.strikes(placed) == 1)
            .await;
        let started = Instant::now();
        while faulty.member().await.worker_starts < 2 {
            assert!(
                started.elapsed() < LONG,
                "the member goes on with handles that mean nothing"
            );
            faulty.work().await;
        }
        let back = faulty.gateway.wait_for_worker("b", 2).await;
        assert_eq!(back.worker_starts, 2);
        faulty.work().await;
        // One by the old worker, which had lost it, at most, and one by the new one.
        assert!((1..=2).contains(&(faulty.module.calls(Function::C_Login) - logins)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_key_that_became_another_is_found_by_a_probe_and_fences_the_member() {
    let mut faulty = FaultyMember::start_with(|cluster| cluster.set_in_cluster("probe_interval", "200ms")).await;
    // A key of the mac key's type, loaded on the member.
    let name = create_key(&faulty.client, "ring", "mac", KeySpec::HMAC_SHA256)
        .await
        .name;
    let loaded = faulty.module.calls(Function::C_UnwrapKey);
    let started = Instant::now();
    while faulty.module.calls(Function::C_UnwrapKey) == loaded {
        assert!(started.elapsed() < LONG, "the member is never asked");
        mac_sign(&faulty.client, &name).await;
    }
    // Now each handle of a secret key means another one of its type, as after a restore of another token.
    let swap = faulty
        .module
        .place(Rule::swap_handles([Function::C_GetTokenInfo], Some(SECRET_KEY)));
    let fenced = faulty.gateway.wait_for_member("b", MemberState::Fenced).await;
    assert!(
        fenced.reason.contains("a probe's answer was wrong"),
        "{}",
        fenced.reason
    );
    assert_eq!(faulty.module.strikes(swap), 1);
    for _ in 0..5 {
        faulty.work().await;
    }
    assert_eq!(faulty.member().await.state(), MemberState::Fenced);
}

async fn mac_sign(client: &Client, name: &str) {
    let request = MacSignRequest {
        name: name.to_owned(),
        data: b"a message".to_vec().into(),
        ..Default::default()
    };
    client.crypto().mac_sign(request).await.expect("a code");
}

/// `CKO_SECRET_KEY`.
const SECRET_KEY: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_costs_the_worker_its_life_and_no_caller_an_answer() {
    for function in [Function::C_Sign, Function::C_UnwrapKey, Function::C_GenerateKeyPair] {
        let mut faulty = FaultyMember::start_with(|cluster| {
            cluster.set_in_cluster("hang_after", "1s");
            cluster.set_in_cluster("generation_hang_after", "1s");
            cluster.set_in_cluster("probe_interval", "60s");
        })
        .await;
        let hang = faulty.module.place(Rule::hang([function]).first(1));
        faulty.work_until("a hang", |module| module.strikes(hang) == 1).await;
        let back = faulty.gateway.wait_for_worker("b", 2).await;
        assert_eq!(back.worker_starts, 2, "{function:?}: {}", back.reason);
        faulty.work().await;
        let log = faulty.gateway.log();
        assert!(log.contains("was not answered 1s after it had begun"), "{function:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_hangs_costs_the_worker_its_life() {
    let mut faulty = FaultyMember::start_with(|cluster| {
        cluster.set_in_cluster("probe_interval", "200ms");
        cluster.set_in_cluster("probe_deadline", "1s");
    })
    .await;
    let hang = faulty.module.place(Rule::hang([Function::C_GetTokenInfo]).first(1));
    faulty.work_until("a hang", |module| module.strikes(hang) == 1).await;
    faulty.gateway.wait_for_worker("b", 2).await;
    faulty.work().await;
    assert!(faulty.gateway.log().contains("did not answer a probe"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_any_call_costs_no_caller_an_answer() {
    let mut faulty = FaultyMember::start().await;
    let ways = [Crash::Abort, Crash::Segfault, Crash::Exit];
    for (starts, (function, how)) in (2..).zip(CALLS.into_iter().zip(ways.into_iter().cycle())) {
        let crash = faulty.module.place(Rule::crash([function], how).first(1));
        faulty
            .work_until(&format!("{how:?} in {function:?}"), |module| module.strikes(crash) == 1)
            .await;
        faulty.gateway.wait_for_worker("b", starts).await;
        faulty.work().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_asked_for_elsewhere_and_creates_nothing_twice() {
    let mut faulty = FaultyMember::start().await;
    for function in CALLS {
        let lost = faulty.module.place(Rule::fail_after([function], 0x30).first(3));
        faulty
            .work_until(&format!("lost replies of {function:?}"), |module| {
                module.strikes(lost) == 3
            })
            .await;
        faulty.module.clear();
    }
    assert_eq!(faulty.member().await.state(), MemberState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_goes_away_and_comes_back_costs_no_call_and_no_person() {
    let mut faulty = FaultyMember::start_with(|cluster| cluster.set_in_cluster("probe_interval", "200ms")).await;
    let absent = faulty.module.place(Rule::absent_token());
    faulty.gateway.wait_for_member("b", MemberState::Down).await;
    // Some starts find no token either.
    let strikes = faulty.module.strikes(absent);
    faulty
        .work_until("more looks for the token", |module| {
            module.strikes(absent) > strikes + 10
        })
        .await;
    assert_ne!(faulty.member().await.state(), MemberState::Stopped);
    faulty.module.remove(absent);
    faulty.gateway.wait_for_member("b", MemberState::Ready).await;
    faulty.work().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_refused_is_tried_once_however_many_workers_lost_their_login() {
    let mut faulty = FaultyMember::start_with(|cluster| {
        cluster.edit_member("b", |member| drop(member.insert("workers".to_owned(), 3.into())));
    })
    .await;
    faulty.gateway.wait_for_worker("b", 3).await;
    let logins = faulty.module.calls(Function::C_Login);
    assert_eq!(logins, 3);
    faulty
        .module
        .place(Rule::fail_before([Function::C_SignInit], CKR_USER_NOT_LOGGED_IN));
    let refusals = faulty
        .module
        .place(Rule::fail_before([Function::C_Login], CKR_PIN_INCORRECT));
    faulty
        .work_until("a login that is refused", |module| module.strikes(refusals) > 0)
        .await;
    let stopped = faulty.gateway.wait_for_member("b", MemberState::Stopped).await;
    assert!(stopped.reason.contains("no PIN is tried twice"), "{}", stopped.reason);
    for _ in 0..10 {
        faulty.work().await;
    }
    assert_eq!(faulty.module.strikes(refusals), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_slower_than_its_callers_wait_is_found_out() {
    let faulty = FaultyMember::start().await;
    // The cluster learns what a signature takes here and now: a machine that is busy with other tests is slow everywhere.
    for _ in 0..200 {
        sign(&faulty.client, &faulty.signer, b"a message")
            .await
            .expect("a signature");
    }
    let slow = faulty
        .module
        .place(Rule::delay([Function::C_Sign], Duration::from_millis(2500)).with_mechanism(CKM_ECDSA));
    let hasty = faulty.client.clone().with_deadline(Duration::from_millis(1500));
    let started = Instant::now();
    while faulty.module.strikes(slow) == 0 {
        assert!(started.elapsed() < LONG, "the slow member is never chosen");
        drop(sign(&hasty, &faulty.signer, b"a message").await);
    }
    // One of three members would be given ten of these; each time it is waited for, so that it is not avoided for being busy.
    for _ in 0..30 {
        faulty
            .gateway
            .wait_for("b", "idle", |member| member.outstanding == 0)
            .await;
        drop(sign(&hasty, &faulty.signer, b"a message").await);
    }
    let more = faulty.module.strikes(slow) - 1;
    assert!(more <= 5, "{more} of 30 calls went to the slow member");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_die_leave_nothing_open_in_the_gateway() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "50ms");
    let gateway = Gateway::start(&cluster);
    gateway.kill_worker("b");
    gateway.wait_for_worker("b", 2).await;
    let before = gateway.held().descriptors;
    for starts in 3..9 {
        gateway.kill_worker("b");
        gateway.wait_for_worker("b", starts).await;
    }
    // Connections of those who looked may still be closing.
    tokio::task::block_in_place(|| {
        wait_until("as many descriptors as before", LONG, || {
            (gateway.held().descriptors <= before).then_some(())
        });
    });
}

const CKR_USER_NOT_LOGGED_IN: u64 = 0x101;
const CKR_PIN_INCORRECT: u64 = 0xa0;
const CKM_ECDSA: u64 = 0x1041;

//! Members of a real gateway whose modules answer with each class of code: what the callers see, and what becomes of the member.

use super::{CALLS, FaultyMember};
use portcullis_client::{Code, v1::MemberState};
use portcullis_softhsm_tests::{Function, LONG, MEMBERS, Rule, Scrape, refusal, sign};
use std::{path::PathBuf, time::Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_short_of_something_keeps_its_place_and_others_do_its_work() {
    let mut faulty = FaultyMember::start().await;
    // The probes are not in want of anything: they sign with the domain's key.
    let busy = CALLS
        .into_iter()
        .filter(|one| !matches!(one, Function::C_SignInit | Function::C_Sign));
    let rule = faulty.module.place(Rule::fail_before(busy, 0x31));
    faulty
        .work_until("20 refusals", |module| module.strikes(rule) >= 20)
        .await;
    let member = faulty.member().await;
    assert_eq!(
        (member.state(), member.worker_starts),
        (MemberState::Ready, 1),
        "{}",
        member.reason
    );
    faulty.module.clear();
    let before = faulty.module.calls(Function::C_Sign);
    faulty
        .work_until("work on the member again", |module| {
            module.calls(Function::C_Sign) > before + 20
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_fails_is_told_of_and_started_again_while_others_do_its_work() {
    for code in [0x5, 0x30, 0x8000_0001] {
        let mut faulty = FaultyMember::start().await;
        faulty.module.place(Rule::fail_before(CALLS, code));
        let started = Instant::now();
        let down = loop {
            faulty.work().await;
            let member = faulty.member().await;
            if member.worker_starts > 1 || member.state() != MemberState::Ready {
                break member;
            }
            assert!(started.elapsed() < LONG, "the failing member keeps its place");
        };
        // A new worker fails too, for as long as its module does; nobody stops trying, and nobody notices.
        for _ in 0..20 {
            faulty.work().await;
        }
        assert_ne!(down.state(), MemberState::Stopped, "{}", down.reason);
        faulty.module.clear();
        faulty.gateway.wait_for_worker("b", 2).await;
        faulty.work().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_needs_a_person_is_stopped_and_says_what_it_was_told() {
    let mut faulty = FaultyMember::start().await;
    let rule = faulty
        .module
        .place(Rule::fail_before([Function::C_Sign], 0xa4).first(1));
    faulty
        .work_until("one refusal", |module| module.strikes(rule) == 1)
        .await;
    let stopped = faulty.gateway.wait_for_member("b", MemberState::Stopped).await;
    assert!(stopped.reason.contains("CKR_PIN_LOCKED"), "{}", stopped.reason);
    let logins = faulty.module.calls(Function::C_Login);
    for _ in 0..20 {
        faulty.work().await;
    }
    let still = faulty.member().await;
    assert_eq!((still.state(), still.worker_starts), (MemberState::Stopped, 1));
    assert_eq!(
        faulty.module.calls(Function::C_Login),
        logins,
        "a login on a stopped member"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_told_its_own_fault_after_one_call_and_no_member_suffers() {
    let faulty = FaultyMember::start_with(|cluster| {
        for member in MEMBERS.into_iter().filter(|one| *one != "b") {
            cluster.edit_member(member, |member| drop(member.insert("weight".to_owned(), 1.into())));
        }
    })
    .await;
    // DATA_LEN_RANGE of one member: whoever meets it is told, and it is met at most once by each call.
    let rule = faulty
        .module
        .place(Rule::fail_before([Function::C_Sign], 0x21).with_mechanism(0x1041));
    let started = Instant::now();
    let mut told = 0;
    while told < 10 {
        assert!(started.elapsed() < LONG, "only {told} calls met the fault");
        let before = faulty.module.strikes(rule);
        match sign(&faulty.client, &faulty.signer, b"a message").await {
            Ok(_) => assert_eq!(faulty.module.strikes(rule), before),
            Err(status) => {
                refusal::<()>(Err(status)).is(Code::Internal, "INTERNAL");
                assert_eq!(faulty.module.strikes(rule), before + 1, "the call was repeated");
                told += 1;
            }
        }
    }
    let member = faulty.member().await;
    assert_eq!(
        (member.state(), member.worker_starts),
        (MemberState::Ready, 1),
        "{}",
        member.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_repaired_in_the_worker_and_cost_neither_a_call_nor_a_worker() {
    let mut faulty = FaultyMember::start().await;
    for rule in [
        Rule::lose_login([]),
        Rule::lose_sessions([Function::C_Sign]),
        Rule::fail_before([Function::C_SignInit], 0x60).first(1),
        Rule::fail_before([Function::C_Encrypt], 0x90).first(1),
        Rule::fail_before([Function::C_UnwrapKey], 0xb3).first(1),
        Rule::fail_before([Function::C_WrapKey], 0x101).first(1),
        Rule::fail_before([Function::C_OpenSession], 0xb0).first(1),
    ] {
        let what = format!("{rule:?}");
        let placed = faulty.module.place(rule);
        if what.contains("C_OpenSession") {
            // Sessions are opened only to replace others.
            faulty
                .module
                .place(Rule::fail_before([Function::C_Sign], 0xb0).first(1));
        }
        faulty.work_until(&what, |module| module.strikes(placed) == 1).await;
        for _ in 0..3 {
            faulty.work().await;
        }
        faulty.module.clear();
        let member = faulty.member().await;
        assert_eq!(
            (member.state(), member.worker_starts),
            (MemberState::Ready, 1),
            "{what}: {}",
            member.reason
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_and_changes_of_a_breaker_are_counted_by_their_reason_and_state() {
    let mut socket = PathBuf::new();
    let mut faulty = FaultyMember::start_with(|cluster| socket = cluster.serve_metrics()).await;
    let rule = faulty.module.place(Rule::fail_before(CALLS, CKR_DEVICE_ERROR));
    faulty
        .work_until("five faults", |module| module.strikes(rule) >= 5)
        .await;
    let sum = |name, labels: &[(&str, &str)]| Scrape::of(&socket).sum(name, labels).unwrap_or_default();
    let opened = [("portcullis_member", "b"), ("portcullis_state", "open")];
    let started = Instant::now();
    while sum("portcullis_member_breaker_changes_total", &opened) == 0.0 {
        assert!(started.elapsed() < LONG, "the breaker never opened");
        faulty.work().await;
    }
    let moved_on = [("portcullis_reason", "member_fault")];
    assert!(sum("portcullis_hsm_retries_total", &moved_on) >= 5.0);
    let others = [("portcullis_member", "a")];
    assert_eq!(sum("portcullis_member_breaker_changes_total", &others), 0.0);
}

const CKR_DEVICE_ERROR: u64 = 0x30;

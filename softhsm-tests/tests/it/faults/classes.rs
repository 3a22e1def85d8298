//! What a worker makes of each class of return code at the calls that matter: how often it calls, what it repairs, and what it answers.

use super::{FaultyWorker, open_request};
use crate::worker::{MAC_USES, Worker, mac};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    worker::protocol::{Empty, Failure, FailureKind, Generate, Probed, ReplyBody, RequestBody},
};
use portcullis_softhsm_tests::{FaultyModule, Function, Rule, TestCluster};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A return code, and what a worker does about it.
struct Row {
    code: u64,
    // When it stays.
    kind: FailureKind,
    // How often the call is made then.
    calls: u64,
    // How often the PIN is sent.
    logins: u64,
}

const fn row(code: u64, kind: FailureKind, calls: u64, logins: u64) -> Row {
    Row {
        code,
        kind,
        calls,
        logins,
    }
}

/// One or two of each class.
const ROWS: [Row; 14] = [
    row(0x21, FailureKind::Refused, 1, 0),            // DATA_LEN_RANGE
    row(0x68, FailureKind::Refused, 1, 0),            // KEY_FUNCTION_NOT_PERMITTED
    row(0xb3, FailureKind::MemberFault, 2, 0),        // SESSION_HANDLE_INVALID
    row(0x90, FailureKind::MemberFault, 2, 0),        // OPERATION_ACTIVE
    row(0x101, FailureKind::MemberFault, 2, 1),       // USER_NOT_LOGGED_IN
    row(0x60, FailureKind::MemberFault, 2, 0),        // KEY_HANDLE_INVALID
    row(0x31, FailureKind::Busy, 1, 0),               // DEVICE_MEMORY
    row(0x201, FailureKind::Busy, 1, 0),              // TOKEN_RESOURCE_EXCEEDED
    row(0x5, FailureKind::MemberFault, 1, 0),         // GENERAL_ERROR
    row(0x30, FailureKind::MemberFault, 1, 0),        // DEVICE_ERROR
    row(0x8000_0001, FailureKind::MemberFault, 1, 0), // vendor-defined
    row(0x999, FailureKind::MemberFault, 1, 0),       // of no standard
    row(0xa4, FailureKind::Fatal, 1, 0),              // PIN_LOCKED
    row(0xe1, FailureKind::Fatal, 1, 0),              // TOKEN_NOT_RECOGNIZED
];

/// Whether a code is of a class that a repair can help.
fn is_repaired(row: &Row) -> bool {
    row.calls == 2
}

fn generate_ec() -> RequestBody {
    RequestBody::GenerateWrapped(Generate {
        uid: Uuid::new_v4().as_bytes().to_vec(),
        version: 1,
        key_type: KeyType::EcP256.number().into(),
        uses: vec![u32::from(Operation::Sign.number()) << 16 | u32::from(Mechanism::EcdsaSha256.number())],
        exportable: false,
        making: Vec::new(),
    })
}

/// A function, and a request that calls it once.
type Deed = (Function, fn(&mut FaultyWorker) -> RequestBody);

const DEEDS: [Deed; 5] = [
    (Function::C_SignInit, |faulty| mac(&faulty.token, true, b"data")),
    (Function::C_Sign, |faulty| mac(&faulty.token, true, b"data")),
    (Function::C_UnwrapKey, |faulty| {
        let new = faulty.worker.generate(KeyType::HmacSha256, &MAC_USES);
        mac(&new, true, b"data")
    }),
    (Function::C_GenerateKeyPair, |_| generate_ec()),
    (Function::C_WrapKey, |_| generate_ec()),
];

#[track_caller]
fn failure_of(reply: ReplyBody) -> Failure {
    match reply {
        ReplyBody::Failure(failure) => failure,
        _ => panic!("it did not fail"),
    }
}

#[test]
fn a_code_that_stays_is_answered_by_its_class_after_as_many_calls_as_that_allows() {
    let mut faulty = FaultyWorker::start();
    for (function, deed) in DEEDS {
        for expected in &ROWS {
            let request = deed(&mut faulty);
            let before = faulty.module.counts();
            let rule = faulty.module.place(Rule::fail_before([function], expected.code));
            let failure = failure_of(faulty.worker.ask(request));
            faulty.module.remove(rule);
            let after = faulty.module.counts();
            let what = format!("{function:?}: {}", failure.message);
            assert_eq!(failure.kind(), expected.kind, "{what}");
            assert_eq!(failure.return_code, expected.code, "{what}");
            assert!(failure.message.contains(&format!("{function:?} returned")), "{what}");
            assert_eq!(after.calls(function) - before.calls(function), expected.calls, "{what}");
            let logins = after.calls(Function::C_Login) - before.calls(Function::C_Login);
            assert_eq!(logins, expected.logins, "{what}");
            // Whatever it was, it is over with its rule, and nothing of it is left in a session.
            faulty.tag(b"data");
        }
    }
}

#[test]
fn a_code_that_comes_once_is_repaired_where_its_class_says_so() {
    let mut faulty = FaultyWorker::start();
    let right = faulty.tag(b"data");
    for (function, deed) in DEEDS {
        for expected in ROWS.iter().filter(|row| is_repaired(row)) {
            let request = deed(&mut faulty);
            let before = faulty.module.counts();
            let rule = faulty
                .module
                .place(Rule::fail_before([function], expected.code).first(1));
            let reply = faulty.worker.ask(request);
            let what = format!("{function:?} {:#x}", expected.code);
            assert!(matches!(reply, ReplyBody::Bytes(_)), "{what}");
            assert_eq!(faulty.module.strikes(rule), 1, "{what}");
            faulty.module.remove(rule);
            let after = faulty.module.counts();
            // A key whose handle is lost is loaded again, and for that its token's tag is computed.
            let reloaded = expected.code == 0x60 && [Function::C_SignInit, Function::C_Sign].contains(&function);
            let calls = after.calls(function) - before.calls(function);
            assert_eq!(calls, 2 + u64::from(reloaded), "{what}");
            let logins = after.calls(Function::C_Login) - before.calls(Function::C_Login);
            assert_eq!(logins, expected.logins, "{what}");
            assert_eq!(faulty.tag(b"data"), right, "{what}");
        }
    }
}

#[test]
fn a_session_that_cannot_be_opened_again_is_answered_by_its_class() {
    let mut faulty = FaultyWorker::with_sessions(1);
    for expected in &ROWS {
        // The session is lost first; what opens the next one then fails.
        let lost = faulty
            .module
            .place(Rule::fail_before([Function::C_Sign], 0xb0).first(1));
        let before = faulty.module.calls(Function::C_OpenSession);
        let closed = faulty
            .module
            .place(Rule::fail_before([Function::C_OpenSession], expected.code));
        let failure = failure_of(faulty.mac(b"data"));
        assert_eq!(
            (failure.kind(), failure.return_code),
            (expected.kind, expected.code),
            "{}",
            failure.message
        );
        let opened = faulty.module.calls(Function::C_OpenSession) - before;
        // The first loss was the session's: one more is no longer repaired.
        let once_more = expected.calls == 2 && !matches!(expected.code, 0xb3 | 0x90);
        assert_eq!(opened, 1 + u64::from(once_more), "{:#x}", expected.code);
        assert_eq!(faulty.module.strikes(lost), 1);
        faulty.module.remove(closed);
        faulty.tag(b"data");
    }
}

#[test]
fn whatever_a_first_login_is_answered_with_the_pin_is_sent_once() {
    let cluster = TestCluster::new();
    let module = FaultyModule::install(&cluster, "a");
    let request = open_request(&cluster);
    let wrong_pins = [0xa0, 0xa1, 0xa2, 0xa3].map(|code| row(code, FailureKind::Fatal, 1, 1));
    for expected in ROWS.iter().chain(&wrong_pins) {
        let rule = module.place(Rule::fail_before([Function::C_Login], expected.code));
        let before = module.calls(Function::C_Login);
        let failure = failure_of(Worker::start(&cluster).ask(RequestBody::Open(request.clone())));
        assert_eq!(
            (failure.kind(), failure.return_code),
            (expected.kind, expected.code),
            "{}",
            failure.message
        );
        assert_eq!(module.calls(Function::C_Login) - before, 1, "{:#x}", expected.code);
        assert!(
            !failure.message.contains(&cluster.user_pin("a")),
            "the message shows the PIN"
        );
        module.remove(rule);
    }
    assert!(matches!(
        Worker::start(&cluster).ask(RequestBody::Open(request)),
        ReplyBody::Opened(_)
    ));
}

#[test]
fn a_pin_that_is_refused_when_the_login_was_lost_is_sent_once_for_all_that_wait() {
    let mut faulty = FaultyWorker::start();
    let before = faulty.module.calls(Function::C_Login);
    faulty.module.place(Rule::fail_before([Function::C_Login], 0xa0));
    faulty.module.place(Rule::lose_login([]));
    let mut waiting = BTreeSet::new();
    for _ in 0..20 {
        waiting.insert(faulty.worker.send(mac(&faulty.token, true, b"data"), 0));
        waiting.insert(faulty.worker.send(RequestBody::Probe(Empty {}), 0));
    }
    while !waiting.is_empty() {
        let reply = faulty.worker.receive();
        assert!(waiting.remove(&reply.id));
        let failure = failure_of(reply.body.expect("a body"));
        assert_eq!(
            (failure.kind(), failure.return_code),
            (FailureKind::Fatal, 0xa0),
            "{}",
            failure.message
        );
    }
    assert_eq!(faulty.module.calls(Function::C_Login) - before, 1);
}

#[test]
fn a_lost_login_is_noticed_by_all_and_made_up_for() {
    let mut faulty = FaultyWorker::start();
    let right = faulty.tag(b"data");
    let before = faulty.module.calls(Function::C_Login);
    let lost = faulty.module.place(Rule::lose_login([]));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(faulty.worker.send(mac(&faulty.token, true, b"data"), 0));
    }
    for _ in &ids {
        match faulty.worker.receive().body {
            Some(ReplyBody::Bytes(tag)) => assert_eq!(tag, right),
            Some(ReplyBody::Failure(failure)) => panic!("{}", failure.message),
            _ => panic!("an answer of another kind"),
        }
    }
    assert_eq!(faulty.module.strikes(lost), 1);
    // Two sessions may both have found it lost.
    let logins = faulty.module.calls(Function::C_Login) - before;
    assert!((1..=2).contains(&logins), "{logins} logins");
}

#[test]
fn lost_sessions_are_replaced_with_what_was_loaded_in_them() {
    let mut faulty = FaultyWorker::with_sessions(1);
    let right = faulty.tag(b"data");
    for round in 0..3 {
        let lost = faulty.module.place(Rule::lose_sessions([Function::C_Sign]));
        let before = faulty.module.counts();
        assert_eq!(faulty.tag(b"data"), right, "round {round}");
        assert_eq!(faulty.module.strikes(lost), 1);
        // The probe's session and the guard's are lost too.
        assert!(matches!(
            faulty.worker.ask(RequestBody::Probe(Empty {})),
            ReplyBody::Probed(_)
        ));
        let after = faulty.module.counts();
        // Nobody was logged out.
        assert_eq!(after.calls(Function::C_Login), before.calls(Function::C_Login));
        assert_eq!(
            after.calls(Function::C_UnwrapKey) - before.calls(Function::C_UnwrapKey),
            2,
            "round {round}"
        );
    }
    // The guard that was opened again can still log in.
    faulty.module.place(Rule::lose_login([]));
    assert_eq!(faulty.tag(b"data"), right);
}

#[test]
fn a_guard_that_was_lost_with_the_login_is_replaced_before_the_pin_is_sent_once() {
    let mut faulty = FaultyWorker::with_sessions(1);
    let right = faulty.tag(b"data");
    let before = faulty.module.calls(Function::C_Login);
    // Sessions first, then the login; no probe comes between them.
    faulty.module.place(Rule::lose_sessions([Function::C_SignInit]));
    faulty.module.place(Rule::lose_login([Function::C_SignInit]));
    assert_eq!(faulty.tag(b"data"), right);
    assert_eq!(faulty.module.calls(Function::C_Login) - before, 1);
}

#[test]
fn lost_handles_of_loaded_keys_are_loaded_again_and_those_of_the_domain_are_the_members_fault() {
    let mut faulty = FaultyWorker::start();
    faulty.module.place(Rule::lose_handles([Function::C_SignInit]));
    // The domain's keys are gone with the others, and no repair finds them again: that takes another worker.
    for request in [mac(&faulty.token, true, b"data"), RequestBody::Probe(Empty {})] {
        let failure = failure_of(faulty.worker.ask(request));
        assert_eq!(failure.kind(), FailureKind::MemberFault, "{}", failure.message);
    }
}

#[test]
fn a_wrong_tag_of_a_record_is_the_members_fault_if_it_contradicts_itself() {
    let mut faulty = FaultyWorker::start();
    let token = faulty.worker.generate(KeyType::HmacSha256, &MAC_USES);
    // The tag of the key token is computed wrong, once or for as long as it is asked: neither is a forgery.
    for rule in [
        Rule::flip_bit([Function::C_Sign], portcullis_softhsm_tests::Place::First).first(1),
        Rule::flip_bit([Function::C_Sign], portcullis_softhsm_tests::Place::First),
    ] {
        let rule = faulty.module.place(rule);
        let failure = failure_of(faulty.worker.ask(mac(&token, true, b"data")));
        assert_eq!(failure.kind(), FailureKind::MemberFault, "{}", failure.message);
        faulty.module.remove(rule);
    }
    assert!(matches!(
        faulty.worker.ask(mac(&token, true, b"data")),
        ReplyBody::Bytes(_)
    ));
}

#[test]
fn a_member_that_cannot_decrypt_does_not_call_a_right_ciphertext_wrong() {
    use portcullis_hsm::{
        key_token::token_digest,
        worker::protocol::{Decrypt, Encrypt, Key},
    };
    let mut faulty = FaultyWorker::start();
    let uses = [
        (Operation::Encrypt, Mechanism::AesGcm),
        (Operation::Decrypt, Mechanism::AesGcm),
    ];
    let token = faulty.worker.generate(KeyType::Aes256, &uses);
    let key = Key {
        digest: token_digest(&token).to_vec(),
        sealed: Some(token),
    };
    let encrypt = Encrypt {
        key: key.clone(),
        before_nonce: Vec::new(),
        after_nonce: Vec::new(),
        plaintext: b"plaintext".to_vec(),
    };
    let ReplyBody::Encrypted(encrypted) = faulty.worker.ask(RequestBody::Encrypt(encrypt)) else {
        panic!("it was not encrypted");
    };
    let decrypt = |ciphertext: &[u8]| {
        RequestBody::Decrypt(Decrypt {
            key: key.clone(),
            before_nonce: Vec::new(),
            after_nonce: Vec::new(),
            nonce: encrypted.nonce.clone(),
            ciphertext: ciphertext.to_vec(),
        })
    };
    // Once: it is tried again.
    let once = faulty
        .module
        .place(Rule::fail_before([Function::C_Decrypt], 0x30).first(1));
    assert!(matches!(
        faulty.worker.ask(decrypt(&encrypted.ciphertext)),
        ReplyBody::Secret(_)
    ));
    assert_eq!(faulty.module.strikes(once), 1);
    // For as long as it is asked, while everything else works: another member must be.
    for code in [0x5, 0x6, 0x30, 0x8000_0001] {
        let always = faulty.module.place(Rule::fail_before([Function::C_Decrypt], code));
        let failure = failure_of(faulty.worker.ask(decrypt(&encrypted.ciphertext)));
        assert_eq!(failure.kind(), FailureKind::MemberFault, "{}", failure.message);
        faulty.module.remove(always);
    }
    // And what is wrong is still called so, by a member that is well.
    let mut wrong = encrypted.ciphertext.clone();
    wrong[0] ^= 1;
    let failure = failure_of(faulty.worker.ask(decrypt(&wrong)));
    assert_eq!(failure.kind(), FailureKind::DecryptionFailed);
}

/// The sessions of a worker that is opened under a cap, and whether it works.
fn opened_under(most: u64, told: Option<u64>) -> (u32, u32) {
    let cluster = TestCluster::new();
    let module = FaultyModule::install(&cluster, "a");
    let cap = module.place(Rule::cap_sessions(most, told));
    let mut request = open_request(&cluster);
    (request.sessions, request.generation_sessions) = (8, 2);
    let mut worker = Worker::start(&cluster);
    let opened = match worker.ask(RequestBody::Open(request)) {
        ReplyBody::Opened(opened) => opened,
        ReplyBody::Failure(failure) => panic!("{}", failure.message),
        _ => panic!("an answer of another kind"),
    };
    let found = worker.ask(RequestBody::FindDomain(portcullis_hsm::worker::protocol::FindDomain {
        epoch: 1,
    }));
    assert!(matches!(found, ReplyBody::DomainFound(_)));
    let token = worker.generate(KeyType::HmacSha256, &MAC_USES);
    // More at once than there are sessions, with probes between them: all is served, nothing is turned away.
    let mut waiting = BTreeSet::new();
    for _ in 0..30 {
        waiting.insert(worker.send(mac(&token, true, b"data"), 0));
        waiting.insert(worker.send(generate_ec(), 0));
        waiting.insert(worker.send(RequestBody::Probe(Empty {}), 0));
    }
    while !waiting.is_empty() {
        let reply = worker.receive();
        assert!(waiting.remove(&reply.id));
        match reply.body {
            Some(ReplyBody::Bytes(_) | ReplyBody::Probed(Probed { .. })) => {}
            Some(ReplyBody::Failure(failure)) => panic!("{most} sessions: {}", failure.message),
            _ => panic!("an answer of another kind"),
        }
    }
    if told == Some(most) {
        assert_eq!(module.strikes(cap), 0, "it opened more sessions than the token said");
    }
    (opened.sessions, opened.generation_sessions)
}

#[test]
fn a_worker_keeps_to_the_sessions_that_the_token_has_whether_it_says_so_or_not() {
    // Three are the guard's, the keeper's and the probes'; one is left for changes.
    assert_eq!(opened_under(9, Some(9)), (3, 2));
    assert_eq!(opened_under(9, None), (3, 2));
    assert_eq!(opened_under(9, Some(500)), (3, 2));
    assert_eq!(opened_under(100, None), (8, 2));
    // The fewest with which a member can serve.
    assert_eq!(opened_under(5, None), (1, 1));
}

#[test]
fn a_token_that_is_absent_or_in_trouble_when_it_is_opened_is_no_reason_to_stop() {
    let cluster = TestCluster::new();
    let module = FaultyModule::install(&cluster, "a");
    let request = open_request(&cluster);
    for rule in [
        Rule::absent_token(),
        Rule::fail_before([Function::C_GetTokenInfo], 0x5),
        // A token in trouble must not be taken for one that can do less.
        Rule::fail_before([Function::C_GetMechanismInfo], 0x30)
            .after(20)
            .first(1),
        Rule::fail_before([Function::C_GetMechanismList], 0x30),
    ] {
        let placed = module.place(rule);
        let failure = failure_of(Worker::start(&cluster).ask(RequestBody::Open(request.clone())));
        assert_eq!(failure.kind(), FailureKind::MemberFault, "{}", failure.message);
        assert!(module.strikes(placed) > 0);
        module.remove(placed);
    }
    assert!(matches!(
        Worker::start(&cluster).ask(RequestBody::Open(request)),
        ReplyBody::Opened(_)
    ));
}

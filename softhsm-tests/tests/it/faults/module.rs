//! What the faulty module itself does: each fault is seen to happen, and nothing else.

use super::{FaultyWorker, open_request};
use crate::worker::{Worker, mac};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    key_token::token_digest,
    worker::protocol::{Empty, Encrypt, FailureKind, Key, ReplyBody, RequestBody},
};
use portcullis_softhsm_tests::{Crash, FaultyModule, Function, Place, Rule, SHORT, TestCluster, wait_until};
use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

const SIGN: [Function; 1] = [Function::C_Sign];
const GENERAL_ERROR: u64 = 0x5;
const HMAC_SHA256: u64 = 0x251;

#[test]
fn without_rules_it_is_the_module_behind_it() {
    let mut faulty = FaultyWorker::start();
    let tag = faulty.tag(b"data");
    let signed = faulty.module.calls(Function::C_Sign);
    assert_eq!(faulty.tag(b"data"), tag);
    assert_ne!(faulty.tag(b"other"), tag);
    let counts = faulty.module.counts();
    assert_eq!(counts.calls(Function::C_Sign), signed + 2);
    assert_eq!(counts.calls(Function::C_Login), 1);
    assert!(Function::ALL.iter().all(|one| counts.faults(*one) == 0));
}

#[test]
fn a_rule_strikes_the_calls_that_it_names_and_no_others() {
    let mut faulty = FaultyWorker::start();
    let before = faulty.module.counts();
    let second = faulty.module.place(
        Rule::fail_before(SIGN, GENERAL_ERROR)
            .with_mechanism(HMAC_SHA256)
            .every(2)
            .first(2),
    );
    let other = faulty
        .module
        .place(Rule::fail_before(SIGN, GENERAL_ERROR).with_mechanism(HMAC_SHA256 + 1));
    let worked: Vec<_> = (0..8)
        .map(|_| matches!(faulty.mac(b"data"), ReplyBody::Bytes(_)))
        .collect();
    assert_eq!(worked, [true, false, true, false, true, true, true, true]);
    assert_eq!((faulty.module.strikes(second), faulty.module.strikes(other)), (2, 0));
    let after = faulty.module.counts();
    assert_eq!(after.faults(Function::C_Sign) - before.faults(Function::C_Sign), 2);
    assert_eq!(after.calls(Function::C_Sign) - before.calls(Function::C_Sign), 8);
}

#[test]
fn a_fault_after_the_work_and_one_before_it_differ_in_what_was_done() {
    let mut faulty = FaultyWorker::start();
    // The session that saw an error is closed. One in which the work was not done could not begin another operation.
    for (rule, answered) in [
        (Rule::fail_after(SIGN, 0x70), false),
        (Rule::fail_before([Function::C_CloseSession], 0).first(1), true),
        // A lie: a tag of zeros, since nobody wrote one.
        (Rule::fail_before(SIGN, 0), true),
    ] {
        let placed = faulty.module.place(rule);
        assert_eq!(
            matches!(faulty.mac(b"data"), ReplyBody::Bytes(_)),
            answered,
            "{placed:?}"
        );
        faulty.module.clear();
    }
    faulty.tag(b"data");
}

#[test]
fn a_flipped_bit_is_one_bit_and_where_it_was_asked_for() {
    let mut faulty = FaultyWorker::start();
    let right = faulty.tag(b"data");
    for (place, at) in [(Place::First, 0), (Place::Last, right.len() - 1)] {
        let placed = faulty.module.place(Rule::flip_bit(SIGN, place).first(1));
        let mut wrong = faulty.tag(b"data");
        assert_eq!(faulty.module.strikes(placed), 1);
        wrong[at] ^= 1;
        assert_eq!(wrong, right, "not exactly that bit was wrong");
        assert_eq!(faulty.tag(b"data"), right);
    }
}

#[test]
fn a_flipped_bit_of_an_encryption_is_in_the_ciphertext_or_in_the_tag() {
    let mut faulty = FaultyWorker::start();
    let uses = [
        (Operation::Encrypt, Mechanism::AesGcm),
        (Operation::Decrypt, Mechanism::AesGcm),
    ];
    let token = faulty.worker.generate(KeyType::Aes256, &uses);
    let key = || Key {
        digest: token_digest(&token).to_vec(),
        sealed: Some(token.clone()),
    };
    for place in [Place::First, Place::Last] {
        let placed = faulty
            .module
            .place(Rule::flip_bit([Function::C_Encrypt], place).first(1));
        let encrypt = RequestBody::Encrypt(Encrypt {
            key: key(),
            before_nonce: b"before".to_vec(),
            after_nonce: b"after".to_vec(),
            plaintext: b"plaintext".to_vec(),
        });
        let ReplyBody::Encrypted(mut encrypted) = faulty.worker.ask(encrypt) else {
            panic!("it was not encrypted");
        };
        assert_eq!(faulty.module.strikes(placed), 1);
        let decrypt = |nonce: &[u8], ciphertext: &[u8]| {
            RequestBody::Decrypt(portcullis_hsm::worker::protocol::Decrypt {
                key: key(),
                before_nonce: b"before".to_vec(),
                after_nonce: b"after".to_vec(),
                nonce: nonce.to_vec(),
                ciphertext: ciphertext.to_vec(),
            })
        };
        let wrong = faulty.worker.failure(decrypt(&encrypted.nonce, &encrypted.ciphertext));
        assert_eq!(wrong.kind(), FailureKind::DecryptionFailed);
        let byte = match place {
            Place::First => encrypted.ciphertext.first_mut(),
            Place::Last => encrypted.ciphertext.last_mut(),
        };
        *byte.expect("a ciphertext") ^= 1;
        let right = faulty.worker.ask(decrypt(&encrypted.nonce, &encrypted.ciphertext));
        assert!(matches!(right, ReplyBody::Secret(_)), "another bit was wrong too");
    }
}

#[test]
fn a_delay_and_a_hang_hold_the_call_that_they_strike() {
    let mut faulty = FaultyWorker::start();
    let right = faulty.tag(b"data");
    let delay = Duration::from_millis(300);
    faulty.module.place(Rule::delay(SIGN, delay).first(1));
    let started = Instant::now();
    assert_eq!(faulty.tag(b"data"), right);
    assert!(started.elapsed() >= delay);

    let hang = faulty.module.place(Rule::hang(SIGN).first(1));
    let hanging = faulty.worker.send(mac(&faulty.token, true, b"data"), 0);
    faulty.module.wait_for_strikes(hang, 1);
    // The other session goes on.
    let other = faulty.worker.send(mac(&faulty.token, true, b"data"), 0);
    assert_eq!(faulty.worker.receive().id, other);
    faulty.module.remove(hang);
    let reply = faulty.worker.receive();
    assert!(reply.id == hanging && matches!(reply.body, Some(ReplyBody::Bytes(tag)) if tag == right));
}

#[test]
fn a_crash_ends_the_process_as_it_was_asked_to() {
    for (how, expected) in [
        (Crash::Abort, (None, Some(6))),
        (Crash::Segfault, (None, Some(11))),
        (Crash::Exit, (Some(0), None)),
    ] {
        let mut faulty = FaultyWorker::start();
        let placed = faulty.module.place(Rule::crash(SIGN, how));
        faulty.worker.send(mac(&faulty.token, true, b"data"), 0);
        let status = faulty.worker.wait();
        assert_eq!((status.code(), status.signal()), expected, "{how:?}");
        assert_eq!(faulty.module.strikes(placed), 1);
    }
}

#[test]
fn a_worker_can_load_it_only_with_a_control_file_that_can_be_read() {
    let cluster = TestCluster::new();
    let module = FaultyModule::install(&cluster, "a");
    let control = FaultyModule::directory(&cluster, "a").join("control.toml");
    let right = std::fs::read_to_string(&control).expect("the control file");
    let request = open_request(&cluster);
    let ask = |content: &str| {
        std::fs::write(&control, content).expect("another control file");
        Worker::start(&cluster).ask(RequestBody::Open(request.clone()))
    };
    for wrong in ["", "module = 5", "module = \"/nonexistent.so\"", "what = 1"] {
        assert!(matches!(ask(wrong), ReplyBody::Failure(_)), "{wrong:?} was accepted");
    }
    assert_eq!(module.calls(Function::C_Initialize), 0);
    assert!(matches!(ask(&right), ReplyBody::Opened(_)));
    assert_eq!(module.calls(Function::C_Initialize), 1);
}

#[test]
fn a_control_file_that_becomes_unreadable_fails_every_call() {
    let mut faulty = FaultyWorker::start();
    let control = FaultyModule::directory(&faulty.cluster, "a").join("control.toml");
    let right = std::fs::read_to_string(&control).expect("the control file");
    std::fs::write(&control, "rubbish").expect("another control file");
    let failure = faulty.worker.failure(RequestBody::Probe(Empty {}));
    assert_eq!(failure.return_code, GENERAL_ERROR);
    std::fs::write(&control, right).expect("the control file");
    wait_until("a probe that works again", SHORT, || {
        matches!(faulty.worker.ask(RequestBody::Probe(Empty {})), ReplyBody::Probed(_)).then_some(())
    });
}

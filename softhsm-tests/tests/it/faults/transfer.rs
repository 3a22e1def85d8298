//! Imports by a member that fails: key material is not called wrong for that.

use super::FaultyWorker;
use crate::transfer::by_worker::{clear, new_key};
use portcullis_hsm::{
    algorithm::KeyType,
    worker::protocol::{FailureKind, ReplyBody},
};
use portcullis_softhsm_tests::{Function, Rule};

#[test]
fn a_member_that_cannot_import_does_not_call_right_key_material_wrong() {
    let mut faulty = FaultyWorker::start();
    let import = || clear(new_key(KeyType::Aes256, false), &[7; 32], &[]);
    for function in [Function::C_CreateObject, Function::C_WrapKey, Function::C_UnwrapKey] {
        // Once: it is tried again.
        let once = faulty.module.place(Rule::fail_before([function], 0x30).first(1));
        let reply = faulty.worker.ask(import());
        assert!(matches!(reply, ReplyBody::Bytes(_)), "{function:?}");
        assert_eq!(faulty.module.strikes(once), 1);
        // For as long as it is asked, while everything else works: another member must be.
        for code in [0x5, 0x6, 0x30, 0x8000_0001] {
            let always = faulty.module.place(Rule::fail_before([function], code));
            let failure = faulty.worker.failure(import());
            assert_eq!(
                failure.kind(),
                FailureKind::MemberFault,
                "{function:?}: {}",
                failure.message
            );
            faulty.module.remove(always);
        }
    }
    // And what is wrong is still called so, by a member that is well.
    let short = clear(new_key(KeyType::Aes256, false), &[7; 31], &[]);
    assert_eq!(faulty.worker.failure(short).kind(), FailureKind::ImportRefused);
}

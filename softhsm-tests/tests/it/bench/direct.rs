//! The direct way does what it says, on a token, and leaves nothing behind.

use super::{MEMBER, Setting, measured, number};
use portcullis_softhsm_tests::{FAULTY_MODULE_DIRECTORY, FaultyModule, Function, Place, Rule, run};

#[tokio::test(flavor = "multi_thread")]
async fn it_signs_on_the_token_with_keys_that_go_again() {
    let setting = Setting::new();
    let before = setting.token_objects();
    let command = setting.command("p256 rsa-2048 --callers 2 --time 100ms --warm-up 20ms --repeats 1 --no-echo");
    let mut command = setting.directly(command, &setting.token.module());
    let report = measured(&mut command);
    assert!(
        report["direct_token"]
            .as_str()
            .is_some_and(|token| token.contains("SoftHSM"))
    );
    let direct = &report["closed_loop"][0]["direct"];
    assert!(number(&direct["runs"][0]["operations"]) > 0.0, "{direct}");
    assert_eq!(setting.token_objects(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_not_valid_ends_the_measurement() {
    let setting = Setting::new();
    let faulty = FaultyModule::install(&setting.token, MEMBER);
    faulty.place(Rule::flip_bit([Function::C_Sign], Place::Last));
    let before = setting.token_objects();
    let command = setting.command("p256 --callers 1 --time 50ms --warm-up 10ms --repeats 1 --no-echo");
    let mut command = setting.directly(command, &FaultyModule::library());
    command.env(FAULTY_MODULE_DIRECTORY, FaultyModule::directory(&setting.token, MEMBER));
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(70), "{output}");
    assert!(output.stderr.contains("a signature that is not valid"), "{output}");
    assert_eq!(setting.token_objects(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_module_that_fail_are_counted() {
    let setting = Setting::new();
    let faulty = FaultyModule::install(&setting.token, MEMBER);
    let command = setting.command("p256 --callers 1 --time 200ms --warm-up 10ms --repeats 1 --no-echo");
    let mut command = setting.directly(command, &FaultyModule::library());
    command.env(FAULTY_MODULE_DIRECTORY, FaultyModule::directory(&setting.token, MEMBER));
    // CKR_DEVICE_ERROR in place of every second signature; the first is the one that is checked.
    faulty.place(Rule::fail_before([Function::C_SignInit], 0x30).every(2));
    let report = measured(&mut command);
    let run = &report["closed_loop"][0]["direct"]["runs"][0];
    let failures = run["failures"].as_object().expect("failures by reason");
    let (reason, failed) = failures.iter().next().expect("a failure");
    assert!(
        failures.len() == 1 && reason.contains("C_SignInit returned CKR_DEVICE_ERROR"),
        "{run}"
    );
    let failed = number(failed);
    assert!(failed > 0.0 && number(&run["operations"]) > 0.0, "{run}");
    assert!((failed - number(&run["failed"])).abs() < 0.5, "{run}");
    assert!(number(&report["failed"]) >= failed);
}

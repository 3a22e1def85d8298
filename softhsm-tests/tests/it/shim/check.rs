//! `portcullis pkcs11 check`: what it says of the module, and how it ends.

use super::{RSA_TLS, ring, shim};
use portcullis_softhsm_tests::{Gateway, KeySpec, Output, Shim, TestCluster, run};
use std::fs;

#[track_caller]
fn check(shim: &Shim, arguments: &[&str]) -> Output {
    let mut command = shim.portcullis();
    command.args(["pkcs11", "check", "--module"]).arg(Shim::library());
    run(command.args(arguments))
}

#[test]
fn what_works_is_said() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let keys = [
        ("rsa", RSA_TLS),
        ("ec", KeySpec::EC_P256),
        ("ed", KeySpec::ED25519_RESIDENT),
        ("code", KeySpec::HMAC_SHA256),
    ];
    ring(&gateway, "checked", &keys);
    let shim = shim(&gateway, "checked");
    let checked = check(&shim, &["--sign"]).succeeded();
    let said = checked.text();
    for expected in [
        "it is initialised and shows 1 key ring",
        "works  key ring checked: 3 private keys, 3 public keys, 1 secret key",
        "works  key ring checked, key rsa: it made a signature of 256 bytes",
        "works  key ring checked, key ec: it made a signature of 64 bytes",
        "works  key ring checked, key ed: it made a signature of 64 bytes",
    ] {
        assert!(said.contains(expected), "{expected}: {checked}");
    }
    let document = check(&shim, &["--json"]).succeeded();
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).expect("JSON");
    assert_eq!(document["findings"].as_array().map(Vec::len), Some(2), "{document}");
    assert_eq!(document["findings"][1]["works"], true, "{document}");
}

#[test]
fn what_does_not_work_is_said_with_the_reason() {
    let away = Shim::at(
        "unix:/nowhere/portcullis.sock",
        "rings = [\"away\"]\ntimeout = \"200ms\"\n",
    );
    let checked = check(&away, &[]);
    assert_eq!(checked.status.code(), Some(6), "{checked}");
    assert!(
        checked
            .text()
            .contains("fails  key ring away: C_FindObjectsInit returned CKR_DEVICE_ERROR")
            && checked.text().contains("the gateway cannot be reached")
            && checked
                .stderr
                .contains("cannot connect to unix:/nowhere/portcullis.sock"),
        "{checked}"
    );

    let wrong = Shim::at("ftp:nowhere", "");
    let checked = check(&wrong, &[]);
    assert_eq!(checked.status.code(), Some(6), "{checked}");
    assert!(
        checked.text().contains("C_Initialize returned CKR_GENERAL_ERROR") && checked.stderr.contains("pkcs11.toml"),
        "{checked}"
    );

    let mut command = wrong.portcullis();
    let library = wrong.path().join("nothing.so");
    fs::write(&library, "no library").expect("a file");
    let checked = run(command.args(["pkcs11", "check", "--module"]).arg(&library));
    assert_eq!(checked.status.code(), Some(2), "{checked}");
    assert!(checked.text().contains("cannot load the PKCS#11 module"), "{checked}");

    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let missing = shim(&gateway, "missing");
    let checked = check(&missing, &[]);
    assert_eq!(checked.status.code(), Some(4), "{checked}");
    assert!(checked.text().contains("there is no such key ring"), "{checked}");
}

//! What the module shows of itself to the loader.

use portcullis_softhsm_tests::{Shim, find_tool, run};
use std::{collections::BTreeSet, process::Command};

#[test]
fn every_function_of_the_standard_is_exported_and_nothing_else() {
    let listed = run(Command::new(find_tool("nm", "binutils"))
        .args(["--dynamic", "--defined-only", "--format=just-symbols"])
        .arg(Shim::library()))
    .succeeded()
    .text();
    let exported: BTreeSet<_> = listed.lines().collect();
    // The standard's header says which there were in 2.40.
    let header = std::fs::read_to_string("/usr/include/p11-kit-1/p11-kit/pkcs11.h")
        .expect("the header; run: apt-get install libp11-kit-dev");
    let old = header
        .split(|one: char| !one.is_ascii_alphanumeric() && one != '_')
        .filter(|word| word.starts_with("C_") && word[2..].starts_with(|one: char| one.is_ascii_uppercase()));
    let declared: BTreeSet<_> = old.chain(SINCE_3_0.split_whitespace()).collect();
    assert_eq!(declared.len(), 92, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn the_library_is_never_unloaded_and_needs_no_library_for_cryptography() {
    let dynamic = run(Command::new(find_tool("readelf", "binutils"))
        .args(["--dynamic", "--wide"])
        .arg(Shim::library()))
    .succeeded()
    .text();
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for needed in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2"];
        assert!(known.iter().any(|library| needed.contains(library)), "{needed}");
    }
}

/// PKCS#11 3.0, section 5.3: what came to the function list.
const SINCE_3_0: &str = "C_GetInterfaceList C_GetInterface C_LoginUser C_SessionCancel \
    C_MessageEncryptInit C_EncryptMessage C_EncryptMessageBegin C_EncryptMessageNext C_MessageEncryptFinal \
    C_MessageDecryptInit C_DecryptMessage C_DecryptMessageBegin C_DecryptMessageNext C_MessageDecryptFinal \
    C_MessageSignInit C_SignMessage C_SignMessageBegin C_SignMessageNext C_MessageSignFinal \
    C_MessageVerifyInit C_VerifyMessage C_VerifyMessageBegin C_VerifyMessageNext C_MessageVerifyFinal";

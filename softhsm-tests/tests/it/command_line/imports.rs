//! Key files of each form that people have.

use super::CommandLine;
use portcullis_softhsm_tests::{Gateway, TestCluster, openssl, temporary_directory};
use std::{fs, path::Path};

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_imported_from_every_form_of_file() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::new(directory, &gateway);
    portcullis.run("ring create demo");
    fs::write(directory.join("document"), "a document").expect("a document");
    let make = |line: &str| {
        openssl(directory, line.split(' ')).succeeded();
    };
    make("genrsa -traditional -out pkcs1.pem 2048");
    make("rsa -in pkcs1.pem -traditional -outform DER -out pkcs1.der");
    make("ecparam -name secp384r1 -genkey -noout -out sec1.pem");
    make("ec -in sec1.pem -outform DER -out sec1.der");
    make("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out pkcs8.pem");
    make("pkcs8 -topk8 -nocrypt -in pkcs8.pem -outform DER -out pkcs8.der");
    for (key, key_type, pem, der, digest) in [
        (
            "rsa",
            "rsa-2048 --mechanism rsa-pkcs1-sha256",
            "pkcs1.pem",
            "pkcs1.der",
            "-sha256",
        ),
        ("p384", "ec-p384", "sec1.pem", "sec1.der", "-sha384"),
        ("p521", "ec-p521", "pkcs8.pem", "pkcs8.der", "-sha512"),
    ] {
        portcullis.run(&format!("key create demo/{key} --type {key_type} --import-only"));
        make(&format!("pkey -in {pem} -pubout -out {key}.pub"));
        for file in [pem, der] {
            portcullis.run(&format!("key import demo/{key} --in {file}"));
            portcullis.run(&format!("sign demo/{key} --in document --out {key}.sig"));
            let public = format!("{key}.pub");
            let signature = format!("{key}.sig");
            let verify = ["dgst", digest, "-verify", &public, "-signature", &signature, "document"];
            assert_eq!(
                openssl(directory, verify).succeeded().text().trim(),
                "Verified OK",
                "{file}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_keys_are_imported_as_they_are_written() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::new(directory, &gateway);
    portcullis.run("ring create demo");
    portcullis.run("key create demo/mac --type hmac-sha256 --import-only");
    fs::write(directory.join("document"), "a document").expect("a document");
    let place = |name: &str, content: &str| fs::write(directory.join(name), content).expect("a key file");
    place("raw", "0123456789abcdef0123456789abcdef");
    place(
        "hex",
        "3031323334353637383961626364656630313233343536373839616263646566\n",
    );
    place("base64", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    let mac = [
        "dgst",
        "-sha256",
        "-mac",
        "HMAC",
        "-macopt",
        "key:0123456789abcdef0123456789abcdef",
        "-binary",
        "document",
    ];
    let expected = openssl(directory, mac).succeeded().stdout;
    for form in ["raw", "hex", "base64"] {
        portcullis.run(&format!("key import demo/mac --in {form} --encoding {form}"));
        assert_eq!(
            portcullis.run("mac sign demo/mac --in document --out -").stdout,
            expected,
            "{form}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_such_key_is_refused_without_a_byte_of_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let directory = directory.path();
    let portcullis = CommandLine::new(directory, &gateway);
    portcullis.run("ring create demo");
    portcullis.run("key create demo/p256 --type ec-p256 --import-only");
    portcullis.run("key create demo/data --type aes-256 --import-only");
    let make = |line: &str| {
        openssl(directory, line.split(' ')).succeeded();
    };
    make("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out plain.pem");
    make("pkcs8 -topk8 -in plain.pem -passout pass:words -out encrypted.pem");
    make("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out other.pem");
    fs::write(directory.join("canary"), "canary-canary-canary").expect("a file");
    let pem = fs::read_to_string(directory.join("plain.pem")).expect("a key");
    fs::write(directory.join("cut.pem"), &pem[..pem.len() / 2]).expect("half a key");
    for (key, file, expected) in [
        ("p256", "encrypted.pem", "the key has a password"),
        ("p256", "other.pem", "no private key of type ec-p256"),
        ("p256", "cut.pem", "expected a private key"),
        ("p256", "canary", "expected a private key in PEM or DER"),
        ("data", "canary", "expected a key of 32 bytes, found 20"),
        ("data", "canary --encoding hex", "expected hexadecimal"),
        ("data", "canary --encoding base64", "expected base64"),
    ] {
        let said = portcullis.fails_with(2, &format!("key import demo/{key} --in {file}"));
        assert!(said.contains(expected), "{file}: {said}");
        assert!(
            !contains_any(&said, directory, "plain.pem") && !said.contains("canary-canary"),
            "{said}"
        );
    }
    // What was refused here never reached the gateway.
    assert_eq!(
        portcullis.ask("key show demo/p256")["primary"]["state"],
        "pending-import"
    );
}

/// Whether a line of a file is in a text.
fn contains_any(text: &str, directory: &Path, file: &str) -> bool {
    let content = fs::read_to_string(directory.join(file)).expect("a file");
    content
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .any(|line| text.contains(line))
}

//! Java with its provider SunPKCS11: keytool, jarsigner, and a program of its own.

use super::{ring, shim_with};
use portcullis_client::v1::{KeyOperation, KeyType, Mechanism};
use portcullis_softhsm_tests::{Gateway, KeySpec, Output, Shim, TestCluster, find_tool, openssl, run};
use std::{fs, path::Path};

/// A package that has all of Java's programs.
const PACKAGE: &str = "openjdk-17-jdk-headless";

/// As `docs/pkcs11.md` has it. A key that Java generates is a session's unless its configuration says otherwise, and what is to
/// have a name must be stored. Secrets stay sessions' own.
const CONFIGURATION: &str = "\
attributes(generate, CKO_PUBLIC_KEY, *) = {
  CKA_TOKEN = true
}
attributes(generate, CKO_PRIVATE_KEY, CKK_RSA) = {
  CKA_TOKEN = true
  CKA_SIGN = true
  CKA_DECRYPT = true
}
attributes(generate, CKO_PRIVATE_KEY, CKK_EC) = {
  CKA_TOKEN = true
  CKA_SIGN = true
  CKA_DERIVE = true
}
";

const CODING: KeySpec = KeySpec::wrapped(
    KeyType::HmacSha256,
    &[
        (KeyOperation::MacSign, Mechanism::HmacSha256),
        (KeyOperation::MacVerify, Mechanism::HmacSha256),
    ],
);

const COUNTING: KeySpec = KeySpec::wrapped(
    KeyType::Aes256,
    &[
        (KeyOperation::Encrypt, Mechanism::AesCtr),
        (KeyOperation::Decrypt, Mechanism::AesCtr),
    ],
);

const SEALING: KeySpec = KeySpec::wrapped(
    KeyType::Aes256,
    &[
        (KeyOperation::Encrypt, Mechanism::AesGcmCallerIv),
        (KeyOperation::Decrypt, Mechanism::AesGcmCallerIv),
        (KeyOperation::Encrypt, Mechanism::AesCbcPadCallerIv),
        (KeyOperation::Decrypt, Mechanism::AesCbcPadCallerIv),
    ],
);

fn prepared() -> (TestCluster, Gateway, Shim) {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let keys = [("coding", CODING), ("counting", COUNTING), ("sealing", SEALING)];
    ring(&gateway, "java", &keys);
    let shim = shim_with(&gateway, "java", "[new_keys]\nrsa_pkcs1_decryption = true\n");
    let library = Shim::library();
    let configuration = format!("name = Portcullis\nlibrary = {}\n{CONFIGURATION}", library.display());
    fs::write(shim.path().join("java.cfg"), configuration).expect("a configuration");
    (cluster, gateway, shim)
}

#[track_caller]
fn keytool(shim: &Shim, arguments: &str) -> Output {
    let mut command = shim.command(find_tool("keytool", PACKAGE));
    command.env("LC_ALL", "C").args(arguments.split_whitespace());
    run(command.args(STORE.split_whitespace()))
}

const STORE: &str = "-keystore NONE -storetype PKCS11 -storepass any -providerName SunPKCS11-Portcullis \
                     -addprovider SunPKCS11 -providerArg java.cfg";

/// A key pair by keytool, with a certificate by an authority of the test in place of the self-signed one.
fn certified(shim: &Shim, alias: &str, algorithm: &str) {
    keytool(
        shim,
        &format!("-genkeypair -alias {alias} {algorithm} -dname CN=localhost -validity 2"),
    )
    .succeeded();
    keytool(shim, &format!("-certreq -alias {alias} -file {alias}.csr")).succeeded();
    let issue = format!(
        "x509 -req -in {alias}.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -out {alias}.pem"
    );
    openssl(shim.path(), issue.split_whitespace()).succeeded();
    let chain = ["authority.pem", &format!("{alias}.pem")].map(|name| {
        let read = fs::read_to_string(shim.path().join(name));
        read.expect("a certificate")
    });
    fs::write(shim.path().join(format!("{alias}.chain")), chain.concat()).expect("a chain");
    let imported = keytool(
        shim,
        &format!("-importcert -noprompt -alias {alias} -file {alias}.chain"),
    )
    .succeeded();
    assert!(
        imported.stderr.contains("Certificate reply was installed in keystore"),
        "{imported}"
    );
}

#[test]
fn keys_are_made_certified_and_used_by_programs_in_java() {
    let (_cluster, _gateway, shim) = prepared();
    let authority = "req -new -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout authority.key \
                     -out authority.pem -days 2 -subj /CN=Authority";
    openssl(shim.path(), authority.split_whitespace()).succeeded();
    certified(&shim, "rsa", "-keyalg RSA -keysize 2048");
    certified(&shim, "ec", "-keyalg EC -groupname secp256r1");

    let listed = keytool(&shim, "-list -v").succeeded().text();
    for alias in ["rsa", "ec"] {
        let entry = listed
            .split("Alias name: ")
            .find(|entry| entry.lines().next() == Some(alias))
            .unwrap_or_else(|| panic!("{listed}"));
        assert!(
            entry.contains("Entry type: PrivateKeyEntry") && entry.contains("Certificate chain length: 2"),
            "{entry}"
        );
    }
    // What Java calls an alias is what other programs call an id.
    let objects = shim.pkcs11_tool("--list-objects --type privkey").succeeded().text();
    assert!(
        objects.contains(&hex::encode("rsa")) && objects.contains(&hex::encode("ec")),
        "{objects}"
    );

    for alias in ["rsa", "ec"] {
        signs_a_jar(&shim, alias);
    }

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shim/Uses.java");
    let mut java = shim.command(find_tool("java", PACKAGE));
    let used = run(java.arg(source).args(["java.cfg", "authority.pem"])).succeeded();
    assert_eq!(used.text(), "done\n", "{used}");

    keytool(&shim, "-delete -alias rsa").succeeded();
    let listed = keytool(&shim, "-list").succeeded().text();
    assert!(!listed.contains("rsa,") && listed.contains("ec,"), "{listed}");
}

fn signs_a_jar(shim: &Shim, alias: &str) {
    fs::write(shim.path().join("content"), "what is signed").expect("content");
    let mut jar = shim.command(find_tool("jar", PACKAGE));
    run(jar.args(["--create", "--file", "signed.jar", "content"])).succeeded();
    let mut sign = shim.command(find_tool("jarsigner", PACKAGE));
    sign.env("LC_ALL", "C").args(STORE.split_whitespace());
    run(sign.args(["signed.jar", alias])).succeeded();
    let mut check = shim.command(find_tool("jarsigner", PACKAGE));
    let checked = run(check.env("LC_ALL", "C").args(["-verify", "signed.jar"])).succeeded();
    assert!(checked.text().contains("jar verified."), "{checked}");
}

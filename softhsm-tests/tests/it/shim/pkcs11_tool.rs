//! OpenSC's `pkcs11-tool`.

use super::{ring, shim};
use portcullis_client::v1::{KeyOperation, KeyType, Mechanism};
use portcullis_softhsm_tests::{Gateway, KeySpec, Shim, TestCluster, openssl};
use std::fs;

#[test]
fn keys_are_generated_listed_used_renamed_and_destroyed() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "tools", &[]);
    let shim = shim(&gateway, "tools");

    let slots = shim.pkcs11_tool("--list-token-slots").succeeded().text();
    assert!(slots.contains("token label        : tools"), "{slots}");
    for (label, id, kind) in [("Web RSA", "0102", "rsa:2048"), ("web-ec", "f00d00ff", "EC:prime256v1")] {
        let mut command = shim.command("pkcs11-tool");
        command
            .arg("--module")
            .arg(Shim::library())
            .args(["--keypairgen", "--key-type", kind]);
        let made =
            portcullis_softhsm_tests::run(command.args(["--label", label, "--id", id, "--usage-sign"])).succeeded();
        assert!(made.text().contains("Key pair generated"), "{made}");
    }
    let objects = shim.pkcs11_tool("--list-objects").succeeded().text();
    for expected in [
        "Private Key Object; RSA",
        "label:      Web RSA",
        "ID:         0102",
        "ID:         f00d00ff",
        "Public Key Object; EC",
    ] {
        assert!(objects.contains(expected), "{expected} is not in:\n{objects}");
    }

    fs::write(shim.path().join("message"), b"what is signed").expect("a message");
    // The tool shows an elliptic-curve point only where it is as the standard says.
    for (id, mechanism, options, digest) in [
        ("0102", "SHA256-RSA-PKCS", "", "-sha256"),
        (
            "0102",
            "SHA384-RSA-PKCS-PSS",
            "",
            "-sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
        ),
        ("f00d00ff", "ECDSA-SHA256", "--signature-format openssl", "-sha256"),
        ("f00d00ff", "ECDSA-SHA1", "--signature-format openssl", "-sha1"),
        ("f00d00ff", "ECDSA-SHA512", "--signature-format openssl", "-sha512"),
    ] {
        shim.pkcs11_tool(&format!(
            "--read-object --type pubkey --id {id} --output-file public.der"
        ))
        .succeeded();
        let signed =
            format!("--sign --id {id} --mechanism {mechanism} {options} --input-file message --output-file signature");
        shim.pkcs11_tool(&signed).succeeded();
        let check = format!("dgst {digest} -keyform DER -verify public.der -signature signature message");
        let checked = openssl(shim.path(), check.split_whitespace()).succeeded().text();
        assert!(checked.contains("Verified OK"), "{mechanism}: {checked}");
        let checked = shim.pkcs11_tool(&format!(
            "--verify --id {id} --mechanism {mechanism} {options} --input-file message --signature-file signature"
        ));
        assert!(checked.succeeded().text().contains("Signature is valid"), "{mechanism}");
    }

    // Another process renames it, and this one finds it by its new name.
    shim.pkcs11_tool("--set-id cafe --id 0102 --type privkey").succeeded();
    let objects = shim.pkcs11_tool("--list-objects --id cafe").succeeded().text();
    assert!(
        objects.contains("Private Key Object; RSA") && objects.contains("Public Key Object; RSA"),
        "{objects}"
    );

    shim.pkcs11_tool("--delete-object --type privkey --id cafe").succeeded();
    let objects = shim.pkcs11_tool("--list-objects").succeeded().text();
    assert!(!objects.contains("cafe") && objects.contains("f00d00ff"), "{objects}");
}

#[test]
fn certificates_and_data_are_written_read_and_deleted() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "tools", &[("signing", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "tools");

    let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=somebody -keyout key.pem \
                       -outform DER -out certificate.der";
    openssl(shim.path(), certificate.split_whitespace()).succeeded();
    shim.pkcs11_tool("--write-object certificate.der --type cert --id 0a0b --label somebody")
        .succeeded();
    shim.pkcs11_tool("--read-object --type cert --id 0a0b --output-file again.der")
        .succeeded();
    let read = |name: &str| fs::read(shim.path().join(name)).expect(name);
    assert_eq!(read("certificate.der"), read("again.der"));
    let objects = shim.pkcs11_tool("--list-objects --type cert").succeeded().text();
    assert!(objects.contains("somebody") && objects.contains("0a0b"), "{objects}");
    shim.pkcs11_tool("--delete-object --type cert --id 0a0b").succeeded();

    fs::write(shim.path().join("data"), b"some data").expect("data");
    shim.pkcs11_tool("--write-object data --type data --label notes --application-label tests")
        .succeeded();
    shim.pkcs11_tool("--read-object --type data --label notes --output-file data.again")
        .succeeded();
    assert_eq!(read("data"), read("data.again"));
    shim.pkcs11_tool("--delete-object --type data --label notes")
        .succeeded();
    let objects = shim.pkcs11_tool("--list-objects").succeeded().text();
    assert!(!objects.contains("notes") && objects.contains("signing"), "{objects}");
}

#[test]
fn secrets_are_agreed_on_codes_made_and_ciphertexts_opened() {
    const DERIVES: KeySpec = KeySpec::wrapped(KeyType::EcP256, &[(KeyOperation::Derive, Mechanism::Ecdh)]);
    const OPENS: KeySpec = KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)]);
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(
        &gateway,
        "tools",
        &[
            ("agreeing", DERIVES),
            ("opening", OPENS),
            ("coding", KeySpec::HMAC_SHA256),
        ],
    );
    let shim = shim(&gateway, "tools");
    let openssl = |arguments: &str| openssl(shim.path(), arguments.split_whitespace()).succeeded();
    let read = |name: &str| fs::read(shim.path().join(name)).expect(name);

    openssl("ecparam -name prime256v1 -genkey -noout -out peer.pem");
    openssl("pkey -in peer.pem -pubout -outform DER -out peer.der");
    shim.pkcs11_tool("--derive --mechanism ECDH1-DERIVE --label agreeing --input-file peer.der --output-file secret")
        .succeeded();
    shim.pkcs11_tool("--read-object --type pubkey --label agreeing --output-file own.der")
        .succeeded();
    openssl("pkey -pubin -inform DER -in own.der -out own.pem");
    openssl("pkeyutl -derive -inkey peer.pem -peerkey own.pem -out expected");
    assert_eq!(read("secret"), read("expected"));

    fs::write(shim.path().join("plain"), b"to be opened").expect("a plaintext");
    shim.pkcs11_tool("--read-object --type pubkey --label opening --output-file public.der")
        .succeeded();
    openssl(
        "pkeyutl -encrypt -pubin -keyform DER -inkey public.der -pkeyopt rsa_padding_mode:oaep -in plain -out sealed",
    );
    // The tool finds keys that decrypt by their id alone.
    let listed = shim.pkcs11_tool("--list-objects --type privkey").succeeded().text();
    let id = listed
        .split("Private Key Object")
        .filter(|object| object.contains("opening"))
        .flat_map(str::lines)
        .find_map(|line| line.trim().strip_prefix("ID:"))
        .unwrap_or_else(|| panic!("{listed}"));
    let opened = format!(
        "--decrypt --mechanism RSA-PKCS-OAEP --hash-algorithm SHA-1 --id {} --input-file sealed --output-file opened",
        id.trim()
    );
    shim.pkcs11_tool(&opened).succeeded();
    assert_eq!(read("opened"), b"to be opened");

    shim.pkcs11_tool("--sign --mechanism SHA256-HMAC --label coding --input-file plain --output-file code")
        .succeeded();
    assert_eq!(read("code").len(), 32);
    shim.pkcs11_tool("--generate-random 100000 --output-file random")
        .succeeded();
    let random = read("random");
    assert_eq!(random.len(), 100_000);
    assert!(
        (0..=255).all(|byte| random.contains(&byte)),
        "100,000 random bytes lack a value"
    );
}

#[test]
fn keys_that_were_made_elsewhere_are_brought_in() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "tools", &[]);
    let shim = shim(&gateway, "tools");
    let openssl = |arguments: &str| openssl(shim.path(), arguments.split_whitespace()).succeeded();
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -outform DER -out ec.der");
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -outform DER -out rsa.der");
    fs::write(shim.path().join("message"), "what is said").expect("a message");
    for (name, id, mechanism) in [("ec", "0e", "ECDSA-SHA384"), ("rsa", "0a", "SHA384-RSA-PKCS")] {
        let brought =
            format!("--write-object {name}.der --type privkey --id {id} --label {name} --usage-sign --sensitive");
        shim.pkcs11_tool(&brought).succeeded();
        let format = if name == "ec" { "--signature-format openssl" } else { "" };
        shim.pkcs11_tool(&format!(
            "--sign --mechanism {mechanism} {format} --id {id} --input-file message --output-file signature"
        ))
        .succeeded();
        openssl(&format!("pkey -inform DER -in {name}.der -pubout -out {name}.pub"));
        let checked = openssl(&format!("dgst -sha384 -verify {name}.pub -signature signature message")).text();
        assert!(checked.contains("Verified OK"), "{name}: {checked}");
    }
}

#[test]
fn keys_leave_and_come_in_wrapped() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "tools", &[]);
    let shim = shim(&gateway, "tools");
    shim.pkcs11_tool("--keygen --key-type AES:32 --sensitive --label wrapping --id 01 --usage-wrap")
        .succeeded();
    shim.pkcs11_tool("--keygen --key-type GENERIC:32 --sensitive --label original --id 02 --usage-sign --extractable")
        .succeeded();
    shim.pkcs11_tool("--keygen --key-type GENERIC:32 --sensitive --label kept --id 03 --usage-sign")
        .succeeded();
    let wrap = "--wrap --mechanism 0x210A --id 01 --output-file wrapped";
    shim.pkcs11_tool(&format!("{wrap} --application-id 02")).succeeded();
    assert_eq!(fs::read(shim.path().join("wrapped")).expect("a wrapped key").len(), 40);
    let refused = shim.pkcs11_tool(&format!("{wrap} --application-id 03"));
    assert!(refused.stderr.contains("CKR_KEY_UNEXTRACTABLE"), "{refused}");

    let unwrap = "--unwrap --mechanism 0x210A --id 01 --key-type GENERIC:32 --sensitive --usage-sign \
                  --application-label returned --application-id 04";
    shim.pkcs11_tool(&format!("{unwrap} --input-file wrapped")).succeeded();
    fs::write(shim.path().join("message"), "what is said").expect("a message");
    let code = |id: &str| {
        let signed = format!("--sign --mechanism SHA256-HMAC --id {id} --input-file message --output-file code");
        shim.pkcs11_tool(&signed).succeeded();
        fs::read(shim.path().join("code")).expect("a code")
    };
    assert_eq!(code("02"), code("04"));
    assert_ne!(code("02"), code("03"));

    // Nothing comes of what is wrapped wrongly, and nothing is left of it.
    fs::write(shim.path().join("wrong"), [7; 40]).expect("no wrapped key");
    let refused = shim.pkcs11_tool(&format!("{unwrap} --input-file wrong"));
    assert!(refused.stderr.contains("CKR_WRAPPED_KEY_INVALID"), "{refused}");
    let objects = shim.pkcs11_tool("--list-objects --type secrkey").succeeded().text();
    assert_eq!(objects.matches("Secret Key Object").count(), 4, "{objects}");
}

#[test]
fn the_tools_own_tests_find_no_error() {
    // It signs a digest by SHA-1 without a mechanism that says so: that is what raw RSA is permitted for here.
    const SIGNS: KeySpec = KeySpec::wrapped(
        KeyType::Rsa2048,
        &[
            (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
            (KeyOperation::Sign, Mechanism::RsaRaw),
        ],
    );
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    ring(&gateway, "tools", &[("rsa", SIGNS), ("ec", KeySpec::EC_P256)]);
    let shim = shim(&gateway, "tools");
    let tested = shim.pkcs11_tool("--test --login --pin any").succeeded();
    assert!(tested.text().contains("No errors"), "{tested}");
    let tested = shim
        .pkcs11_tool("--test-ec --session-rw --id 77 --login --pin any --key-type EC:prime256v1")
        .succeeded();
    assert!(!tested.text().contains("ERR"), "{tested}");
    let tested = shim.pkcs11_tool("--test-fork").succeeded();
    assert!(!tested.text().contains("ERR"), "{tested}");
}

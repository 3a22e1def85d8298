//! What each command prints and writes, and how it ends.

use crate::program::Program;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

#[tokio::test]
async fn rings_are_created_and_listed_over_all_pages() {
    let program = Program::new();
    assert_eq!(program.run("ring create demo").await.text(), "created keyRings/demo\n");
    let created = program
        .run("--json ring create keyRings/demo --label team=ops")
        .await
        .json();
    assert_eq!(
        (&created["name"], &created["labels"]),
        (&json!("keyRings/demo"), &json!({ "team": "ops" }))
    );
    let listed = program.run("ring list").await;
    let rings: Vec<_> = listed.text().lines().map(|line| line.split(' ').next()).collect();
    assert_eq!(rings, [Some("RING"), Some("first"), Some("second")]);
    let listed = program.run("ring list --json").await.json();
    assert_eq!(listed["key_rings"][1]["name"], "keyRings/second");
}

#[tokio::test]
async fn a_key_is_created_with_what_was_asked_for() {
    let program = Program::new();
    let line = "key create demo/tls --type rsa-2048 --mechanism rsa-pss-sha256 --mechanism rsa-pkcs1-encryption";
    let created = program.run(&format!("{line} --json")).await.json();
    assert_eq!(created["name"], "keyRings/demo/keys/tls");
    assert_eq!(
        (&created["type"], &created["purpose"]),
        (&json!("rsa-2048"), &json!("custom"))
    );
    assert_eq!(
        created["permitted_uses"],
        json!([
            { "operation": "sign", "mechanism": "rsa-pss-sha256" },
            { "operation": "decrypt", "mechanism": "rsa-pkcs1-encryption" },
        ])
    );
    let checked = program.run(&format!("{line} --validate-only")).await;
    assert_eq!(checked.text(), "this can be done; nothing was\n");
}

#[tokio::test]
async fn a_key_on_one_member_is_noted() {
    let program = Program::new();
    let line = "key create demo/root --type ed25519 --protection resident --allow-single-replica --member a";
    let created = program.run(line).await;
    assert!(
        created
            .text()
            .starts_with("created keyRings/demo/keys/root (ed25519, resident"),
        "{}",
        created.text()
    );
    assert!(
        created.err.starts_with("note: this key lives on a alone"),
        "{}",
        created.err
    );
}

#[tokio::test]
async fn keys_are_listed_and_forged_records_are_noted() {
    let program = Program::new();
    let listed = program.run("key list demo").await;
    let rows: Vec<Vec<&str>> = listed
        .text()
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[1], ["tls", "ec-p256", "sign", "wrapped", "1", "active", "-"]);
    assert!(
        listed
            .err
            .contains("keyRings/demo/keys/forged failed its authentication"),
        "{}",
        listed.err
    );
    let listed = program.run("key list demo --json").await.json();
    assert_eq!(listed["unauthentic"], json!(["keyRings/demo/keys/forged"]));
}

#[tokio::test]
async fn a_key_and_a_version_are_shown() {
    let program = Program::new();
    let shown = program.run("key show demo/tls").await;
    assert!(shown.text().contains("sign: ecdsa-sha256"), "{}", shown.text());
    let shown = program.run("key show demo/tls/3 --json").await.json();
    assert_eq!(shown["name"], "keyRings/demo/keys/tls/versions/3");
    assert_eq!(
        (&shown["state"], &shown["state_reason"]),
        (&json!("disabled"), &json!("under review"))
    );
}

#[tokio::test]
async fn public_keys_come_in_each_format() {
    let program = Program::new();
    let pem = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n";
    assert_eq!(program.run("key public demo/tls").await.text(), pem);
    assert_eq!(
        program.run("key public demo/tls --json").await.json()["public_key"],
        pem
    );
    assert_eq!(program.run("key public demo/tls --format der").await.out, [0x30, 0x00]);
    assert_eq!(
        program.run("key public demo/tls --format der --json").await.json()["public_key"],
        "MAA="
    );
    program
        .run("key public demo/tls --format der --out tls.der")
        .await
        .text();
    assert_eq!(fs::read(program.path("tls.der")).expect("the file"), [0x30, 0x00]);
}

#[tokio::test]
async fn messages_and_digests_are_signed() {
    let program = Program::new();
    assert_eq!(
        program.run_with_input("sign demo/tls --in -", b"abc").await.out,
        b"Mabc"
    );
    assert_eq!(program.run("sign demo/tls --digest 00ff").await.out, b"D\x00\xff");
    assert_eq!(
        program
            .run_with_input("sign demo/tls --in - --raw-digest", b"\x00\xff")
            .await
            .out,
        b"D\x00\xff"
    );
    let signed = program
        .run("sign demo/tls --digest 00ff --mechanism ecdsa-sha256 --encoding p1363 --json")
        .await;
    let signed = signed.json();
    assert_eq!(
        (&signed["signature"], &signed["encoding"]),
        (&json!("RAD/"), &json!("p1363"))
    );
    assert_eq!(
        (&signed["name"], &signed["mechanism"]),
        (&json!("keyRings/demo/keys/tls/versions/1"), &json!("ecdsa-sha256"))
    );
    program.run("sign demo/tls --digest 00ff --out tls.sig").await.text();
    assert_eq!(fs::read(program.path("tls.sig")).expect("the file"), b"D\x00\xff");
}

#[tokio::test]
async fn a_large_message_is_hashed_here() {
    let program = Program::new();
    let whole = vec![b'a'; 1024 * 1024];
    assert_eq!(
        program.run_with_input("sign demo/tls --in -", &whole).await.out.len(),
        whole.len() + 1
    );

    let larger = vec![b'a'; 1024 * 1024 + 1];
    fs::write(program.path("large.bin"), &larger).expect("the file");
    // From sha256sum.
    let digest = "4a3f0c0c213adea174f9a3d4c13177315b588bdb2e9c1012d3d0bf0453ca0f6a";
    let expected = [b"D", &*hex::decode(digest).expect("hexadecimal")].concat();
    assert_eq!(program.run("sign demo/tls --in large.bin").await.out, expected);
    let signed = program.run("sign demo/tls --in large.bin --json").await.json();
    assert_eq!(signed["mechanism"], "ecdsa-sha256");

    let refused = program.run("sign demo/tls --in large.bin --mechanism ed25519").await;
    assert_eq!(refused.exit, Some(2));
    assert!(
        refused
            .error()
            .contains("larger than 1048576 bytes, the most that ed25519 signs"),
        "{}",
        refused.err
    );
}

#[tokio::test]
async fn a_signature_is_valid_or_not() {
    let program = Program::new();
    fs::write(program.path("good.sig"), b"Mabc").expect("the file");
    fs::write(program.path("bad.sig"), b"Mxyz").expect("the file");
    let good = program
        .run_with_input("verify demo/tls --in - --signature good.sig", b"abc")
        .await;
    assert_eq!(good.text(), "valid\n");
    assert!(good.err.contains("is compromised: look twice"), "{}", good.err);
    let bad = program
        .run_with_input("verify demo/tls --in - --signature bad.sig", b"abc")
        .await;
    assert_eq!((bad.exit, bad.out.as_slice()), (Some(1), &b"INVALID\n"[..]));
    let bad = program
        .run_with_input("verify demo/tls --in - --signature bad.sig --json", b"abc")
        .await;
    let document: Value = serde_json::from_slice(&bad.out).expect("JSON");
    assert_eq!((bad.exit, &document["valid"]), (Some(1), &json!(false)));
}

#[tokio::test]
async fn what_is_encrypted_is_decrypted_with_the_same_associated_data() {
    let program = Program::new();
    fs::write(program.path("aad.bin"), b"text").expect("the file");
    for (given, repeated, other) in [
        ("--aad text", "--aad-file aad.bin", "--aad other"),
        (
            "--encryption-context a=1 --encryption-context b=2",
            "--encryption-context b=2 --encryption-context a=1",
            "--encryption-context a=1",
        ),
    ] {
        fs::write(program.path("plain"), b"to be kept").expect("the file");
        program
            .run(&format!("encrypt demo/data --direct --in plain --out cipher {given}"))
            .await
            .text();
        let mode = fs::metadata(program.path("cipher"))
            .expect("the file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        program
            .run(&format!("decrypt demo/data --in cipher --out plain2 {repeated}"))
            .await
            .text();
        assert_eq!(fs::read(program.path("plain2")).expect("the file"), b"to be kept");
        let document = program
            .run(&format!("decrypt demo/data --in cipher --out - {given} --json"))
            .await
            .json();
        assert_eq!(document["plaintext"], "dG8gYmUga2VwdA==");

        let refused = program
            .run(&format!("decrypt demo/data --in cipher --out plain3 {other}"))
            .await;
        assert_eq!(refused.exit, Some(3));
        let expected = "error: the ciphertext does not decrypt (DECRYPTION_FAILED, request 0190)";
        assert_eq!(refused.error(), expected);
        assert!(!program.path("plain3").exists());
    }
}

#[tokio::test]
async fn too_much_to_encrypt_is_refused_with_the_limit() {
    let program = Program::new();
    fs::write(program.path("large.bin"), vec![0; 1024 * 1024 + 1]).expect("the file");
    let refused = program
        .run("encrypt demo/data --direct --in large.bin --out cipher")
        .await;
    assert_eq!(refused.exit, Some(2));
    assert!(
        refused
            .error()
            .starts_with("error: large.bin is larger than 1048576 bytes"),
        "{}",
        refused.err
    );
    assert!(!program.path("cipher").exists());
}

#[tokio::test]
async fn random_bytes_come_in_each_form() {
    let program = Program::new();
    assert_eq!(program.run("random 3").await.out, [0, 1, 2]);
    assert_eq!(program.run("random 3 --hex").await.text(), "000102\n");
    assert_eq!(program.run("random 3 --base64").await.text(), "AAEC\n");
    assert_eq!(
        program.run("random 3 --json").await.json(),
        json!({ "data": "AAEC", "length_bytes": 3 })
    );
    program.run("random 3 --out seed.bin").await.text();
    assert_eq!(fs::read(program.path("seed.bin")).expect("the file"), [0, 1, 2]);
}

#[tokio::test]
async fn the_cluster_has_a_table_and_a_document() {
    let program = Program::new();
    let status = program.run("cluster status").await;
    assert!(
        status
            .text()
            .starts_with("domain epoch 1, fingerprint 5f3a\n\nMEMBER  STATE"),
        "{}",
        status.text()
    );
    let status = program.run("cluster status --json").await.json();
    assert_eq!(
        (&status["members"][0]["state"], &status["domain_epoch"]),
        (&json!("ready"), &json!(1))
    );
}

#[tokio::test]
async fn failures_tell_reason_and_request_and_what_to_do() {
    let program = Program::new();
    let missing = program.run("key show demo/nope").await;
    assert_eq!(missing.exit, Some(4));
    assert_eq!(
        missing.error(),
        "error: keyRings/demo/keys/nope does not exist (KEY_NOT_FOUND, request 0190)"
    );
    let missing = program.run("key show demo/nope --json").await;
    let document: Value = serde_json::from_str(&missing.err).expect("JSON on standard error");
    assert_eq!(
        (missing.exit, &document["error"]["reason"]),
        (Some(4), &json!("KEY_NOT_FOUND"))
    );

    let taken = program.run("ring create taken").await;
    assert_eq!(
        (taken.exit, taken.error()),
        (
            Some(7),
            "error: keyRings/taken exists already (KEY_RING_EXISTS, request 0190)"
        )
    );

    let id = "01900000-0000-7000-8000-000000000000";
    let later = program
        .run(&format!("key create demo/later --type aes-256 --request-id {id}"))
        .await;
    assert_eq!(later.exit, Some(5));
    assert!(
        later.err.contains("help: try again after 2s") && later.err.contains(id),
        "{}",
        later.err
    );
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_two_and_no_connection_with_six() {
    let program = Program::new();
    for line in [
        "ring",
        "ring create UPPER",
        "key show demo",
        "random 0",
        "sign demo/tls",
        "sign demo/tls --in missing",
    ] {
        assert_eq!(program.run(line).await.exit, Some(2), "{line}");
    }
    let wrong = program.run("key show demo --json").await;
    let document: Value = serde_json::from_str(&wrong.err).expect("JSON on standard error");
    assert_eq!((wrong.exit, &document["error"]["kind"]), (Some(2), &json!("usage")));

    let unreachable = program.run("ring list --endpoint unix:other.sock").await;
    assert_eq!(unreachable.exit, Some(6));
    assert!(
        unreachable
            .error()
            .starts_with("error: there is no socket at other.sock"),
        "{}",
        unreachable.err
    );
    let unprepared = program.run("ring list --endpoint https://gateway.example:8443").await;
    assert_eq!(unprepared.exit, Some(6));
    assert!(unprepared.err.contains("PORTCULLIS_CERT"), "{}", unprepared.err);
}

#[tokio::test]
async fn help_and_version_end_well() {
    let program = Program::new();
    assert!(program.run("--help").await.text().contains("Exit codes:"));
    assert!(program.run("--version").await.text().starts_with("portcullis "));
}

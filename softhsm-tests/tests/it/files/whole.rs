//! What is encrypted and decrypted: whole, or not at all.

use super::{Desk, KEY, data};
use portcullis_client::{
    envelope::Envelopes,
    v1::{DecryptRequest, decrypt_request::Authenticated},
};
use portcullis_softhsm_tests::{LONG, PORTCULLIS, find_tool, run, wait_until, workspace_binary};
use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
};

const CHUNK: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_size_come_back_by_files_and_by_pipes() {
    let desk = Desk::new().await;
    for size in [0, 1, CHUNK, 2 * CHUNK + 1, 3 * MIB] {
        let plain = data(size);
        fs::write(desk.path("plain"), &plain).expect("the file");
        let said = desk
            .run("encrypt demo/files --in plain --out sealed --encryption-context a=1")
            .text();
        let length = fs::metadata(desk.path("sealed")).expect("the file").len();
        assert_eq!(
            said,
            format!("encrypted under {KEY}/versions/1, {length} bytes in sealed\n")
        );
        assert!(
            fs::read(desk.path("sealed"))
                .expect("the file")
                .starts_with(b"PORTCULLISSEALED")
        );
        let said = desk
            .run("decrypt demo/files --in sealed --out opened --encryption-context a=1")
            .text();
        assert_eq!(
            said,
            format!("decrypted under {KEY}/versions/1, {size} bytes in opened\n")
        );
        assert!(fs::read(desk.path("opened")).expect("the file") == plain);
        for file in ["sealed", "opened"] {
            let mode = fs::metadata(desk.path(file)).expect("the file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let sealed = desk
            .run_with_input("encrypt demo/files --in - --out - --aad x", &plain)
            .succeeded();
        let opened = desk
            .run_with_input("decrypt demo/files --in - --out - --aad x", &sealed.stdout)
            .succeeded();
        assert!(opened.stdout == plain);
        // What the library seals the command opens, and the other way round.
        let envelope = Envelopes::new(&desk.client).under(KEY).with_context([("a", "1")]);
        let sealed = fs::read(desk.path("sealed")).expect("the file");
        assert!(*envelope.decrypt_bytes(&sealed).await.expect("opened") == plain);
        fs::write(
            desk.path("by-library"),
            envelope.encrypt_bytes(&plain).await.expect("sealed"),
        )
        .expect("the file");
        desk.run("decrypt demo/files --in by-library --out opened --encryption-context a=1");
        assert!(fs::read(desk.path("opened")).expect("the file") == plain);
    }
    let document = desk.ask("encrypt demo/files --in plain --out sealed");
    assert_eq!(
        document,
        serde_json::json!({ "name": format!("{KEY}/versions/1"), "out": "sealed" })
    );
    desk.rotate().await;
    let document = desk.ask("decrypt demo/files --in sealed --out opened");
    assert_eq!(document["used_primary"], false);
    assert!(
        desk.run("decrypt demo/files --in sealed --out opened")
            .stderr
            .contains("portcullis reencrypt")
    );
    assert_eq!(desk.names("."), ["by-library", "opened", "plain", "sealed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_encrypts_itself_is_the_apis_and_is_told_apart() {
    let desk = Desk::new().await;
    fs::write(desk.path("plain"), data(1000)).expect("the file");
    desk.run("encrypt demo/files --direct --in plain --out direct --aad text");
    let ciphertext = fs::read(desk.path("direct")).expect("the file");
    let request = DecryptRequest {
        name: KEY.to_owned(),
        ciphertext: ciphertext.into(),
        authenticated: Some(Authenticated::AssociatedData("text".into())),
        ..Default::default()
    };
    assert!(desk.client.decrypt(request).await.expect("a plaintext").plaintext == data(1000));
    desk.run("decrypt demo/files --in direct --out opened --aad text");
    assert!(fs::read(desk.path("opened")).expect("the file") == data(1000));
    fs::write(desk.path("large"), data(MIB + 1)).expect("the file");
    let said = desk.fails_with(2, "encrypt demo/files --direct --in large --out none");
    assert!(said.contains("without --direct there is no limit"), "{said}");
    fs::write(desk.path("large"), data(3 * MIB)).expect("the file");
    let said = desk.fails_with(2, "decrypt demo/files --in large --out none");
    assert!(said.contains("nothing that `portcullis encrypt` made"), "{said}");
    desk.fails_with(3, "decrypt demo/files --in plain --out none");
    assert_eq!(desk.names("."), ["direct", "large", "opened", "plain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_larger_than_memory_goes_through_pipes() {
    let desk = Desk::new().await;
    // A pipeline of programs that may have 128 MiB of address space each, for 256 MiB of data.
    let script = r#"
        set -eu -o pipefail
        limited() { (ulimit -v 131072; exec "$@"); }
        head -c 268435456 /dev/zero | limited "$1" encrypt demo/files --in - --out - |
            limited "$1" decrypt demo/files --in - --out - | cmp -n 268435456 - /dev/zero
        head -c 268435456 /dev/zero | limited "$1" encrypt demo/files --in - --out sealed
        limited "$1" decrypt demo/files --in sealed --out - | wc -c
    "#;
    let output = tokio::task::block_in_place(|| {
        run(Command::new(find_tool("bash", "bash"))
            .args(["-c", script, "bash"])
            .arg(workspace_binary(PORTCULLIS))
            .env("PORTCULLIS_ENDPOINT", desk.gateway.unix_endpoint().to_string())
            .current_dir(desk.directory.path()))
    });
    assert!(output.succeeded().text().ends_with("268435456\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_or_cut_off_leaves_no_file_and_releases_only_what_is_authentic() {
    let desk = Desk::new().await;
    let plain = data(3 * CHUNK + 10);
    fs::write(desk.path("plain"), &plain).expect("the file");
    desk.run("encrypt demo/files --in plain --out sealed");
    let sealed = fs::read(desk.path("sealed")).expect("the file");
    let header = sealed.len() - plain.len() - 4 * 16;
    let mut flipped = sealed.clone();
    flipped[header + 2 * (CHUNK + 16) + 5] ^= 1;
    let mut other_commitment = sealed.clone();
    other_commitment[60] ^= 1;
    fs::write(desk.path("kept"), "what was there before").expect("the file");
    for (what, bytes, authentic, words) in [
        (
            "cut off at a chunk",
            &sealed[..header + 2 * (CHUNK + 16)],
            CHUNK,
            "its end is missing",
        ),
        (
            "cut off in a chunk",
            &sealed[..sealed.len() - 7],
            3 * CHUNK,
            "it was changed, or its end is missing",
        ),
        ("cut off in the header", &sealed[..100], 0, "cut off within its header"),
        ("a bit", &flipped[..], 2 * CHUNK, "it was changed"),
        ("the header", &other_commitment[..], 0, "its header was changed"),
        ("appended", &[&sealed[..], b"x"].concat(), 3 * CHUNK, "it was changed"),
    ] {
        fs::write(desk.path("damaged"), bytes).expect("the file");
        for out in ["none", "kept"] {
            let said = desk.fails_with(1, &format!("decrypt demo/files --in damaged --out {out}"));
            assert!(said.contains(words) && said.contains("damaged: "), "{what}: {said}");
        }
        let output = desk.try_run("decrypt demo/files --in damaged --out -");
        assert_eq!(output.status.code(), Some(1), "{what}: {output}");
        assert!(
            output.stdout == plain[..authentic],
            "{what}: {} bytes",
            output.stdout.len()
        );
        let output = desk.try_run("--json decrypt demo/files --in damaged --out -");
        assert!(
            output.stdout.is_empty() && output.stderr.contains(r#""exit_code": 1"#),
            "{output}"
        );
    }
    let said = desk.fails_with(3, "decrypt demo/files --in sealed --out none --encryption-context a=1");
    assert!(said.contains("DECRYPTION_FAILED"), "{said}");
    desk.run("key create demo/other --type aes-256");
    let said = desk.fails_with(2, "decrypt demo/other --in sealed --out none");
    assert!(said.contains(KEY) && said.contains("help: give"), "{said}");
    assert_eq!(
        fs::read_to_string(desk.path("kept")).expect("the file"),
        "what was there before"
    );
    assert_eq!(desk.names("."), ["damaged", "kept", "plain", "sealed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_leaves_nothing_behind() {
    let desk = Desk::new().await;
    fs::write(desk.path("sealed"), "what was there before").expect("the file");
    let mut child = desk
        .command("encrypt demo/files --in - --out sealed")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    // More than the pipe holds: the command is in the middle of it.
    input.write_all(&data(8 * MIB)).expect("it reads");
    assert_eq!(desk.names("."), ["sealed"], "nothing is seen of what is not complete");
    child.kill().expect("killed");
    child.wait().expect("its end");
    drop(input);
    assert_eq!(desk.names("."), ["sealed"]);
    assert_eq!(
        fs::read_to_string(desk.path("sealed")).expect("the file"),
        "what was there before"
    );

    // A source that fails is no end.
    let said = desk.fails_with(2, "encrypt demo/files --in . --out sealed");
    assert!(said.contains("cannot read"), "{said}");
    assert_eq!(
        fs::read_to_string(desk.path("sealed")).expect("the file"),
        "what was there before"
    );
    symlink("target", desk.path("link")).expect("a link");
    fs::write(desk.path("target"), "before").expect("the file");
    fs::write(desk.path("plain"), "plain").expect("the file");
    desk.run("encrypt demo/files --in plain --out link");
    assert!(fs::symlink_metadata(desk.path("link")).expect("the link").is_symlink());
    assert!(
        fs::read(desk.path("target"))
            .expect("the file")
            .starts_with(b"PORTCULLISSEALED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_ends_the_command_with_a_failure() {
    let desk = Desk::new().await;
    fs::write(desk.path("plain"), data(8 * MIB)).expect("the file");
    let mut child = desk
        .command("encrypt demo/files --in plain --out -")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let status = tokio::task::block_in_place(|| wait_until("its end", LONG, || child.try_wait().expect("its status")));
    assert_eq!(status.code(), Some(70));
}

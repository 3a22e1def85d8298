//! `portcullis reencrypt` on trees of files.

use super::{Desk, KEY, data};
use portcullis_client::envelope::{Envelopes, Header, Parsed};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

fn version_of(path: &Path) -> u32 {
    match Header::parse(&fs::read(path).expect("the file")).expect("a header") {
        Parsed::Whole(header, _) => header.version().number(),
        Parsed::More(_) => panic!("{} is cut off", path.display()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_re_encrypted_and_what_is_none_of_it_is_told() {
    let desk = Desk::new().await;
    desk.run("key create demo/other --type aes-256");
    for directory in ["tree/deep/er", "outside"] {
        fs::create_dir_all(desk.path(directory)).expect("directories");
    }
    fs::write(desk.path("plain"), data(100_000)).expect("the file");
    for (file, arguments) in [
        ("tree/a", "demo/files"),
        ("tree/deep/b", "demo/files"),
        ("tree/deep/er/c", "demo/files"),
        ("tree/of-other-key", "demo/other"),
        ("tree/other-context", "demo/files --encryption-context a=1"),
        ("tree/linked", "demo/files"),
        ("tree/direct", "demo/files --direct"),
        ("outside/target", "demo/files"),
    ] {
        desk.run(&format!("encrypt {arguments} --in plain --out {file}"));
    }
    fs::write(desk.path("tree/text"), "a text").expect("the file");
    fs::hard_link(desk.path("tree/linked"), desk.path("outside/linked")).expect("a link");
    symlink("../../outside/target", desk.path("tree/deep/link")).expect("a link");
    symlink("../outside", desk.path("tree/out")).expect("a link");
    fs::write(desk.path("tree/.portcullis-0011"), "half of something").expect("the file");
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 42);
    fs::set_permissions(desk.path("tree/a"), fs::Permissions::from_mode(0o440)).expect("its mode");
    fs::File::open(desk.path("tree/a"))
        .and_then(|file| file.set_modified(then))
        .expect("its time");

    desk.rotate().await;
    let payload = |file: &str| fs::read(desk.path(file)).expect("the file")[250..].to_vec();
    let before = payload("tree/a");
    let output = desk.try_run("--json reencrypt demo/files tree");
    assert_eq!(output.status.code(), Some(3), "the gateway refused one: {output}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(
        (&document["version"], &document["reencrypted"], &document["already"]),
        (&json!(format!("{KEY}/versions/2")), &json!(4), &json!(0))
    );
    let told = |list: &str| -> BTreeSet<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("null").to_owned();
        let list = document[list].as_array().expect("a list");
        list.iter()
            .map(|one| (text(&one["path"]), text(&one["reason"])))
            .collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> BTreeSet<_> {
        pairs
            .iter()
            .map(|(path, why)| ((*path).to_owned(), (*why).to_owned()))
            .collect()
    };
    assert_eq!(
        told("skipped"),
        pairs(&[
            ("tree/.portcullis-0011", "LEFT_OVER"),
            ("tree/deep/link", "NOT_A_FILE"),
            ("tree/of-other-key", "OTHER_KEY"),
            ("tree/out", "NOT_A_FILE"),
            ("tree/text", "NOT_ENCRYPTED"),
        ])
    );
    assert_eq!(
        told("failed"),
        pairs(&[("tree/linked", "null"), ("tree/other-context", "DECRYPTION_FAILED")])
    );
    assert_eq!(document["remaining"], json!([{ "version": 1, "files": 2 }]));
    assert_eq!(document["all_under_primary"], false);
    assert_eq!(document["older_versions"][0]["state"], "active");

    // The data key moved, the data did not.
    assert_eq!(payload("tree/a"), before);
    let found = fs::metadata(desk.path("tree/a")).expect("the file");
    assert_eq!(
        (found.mode() & 0o7777, found.modified().expect("its time")),
        (0o440, then)
    );
    for file in ["tree/a", "tree/deep/b", "tree/deep/er/c"] {
        assert_eq!(version_of(&desk.path(file)), 2, "{file}");
    }
    for file in ["outside/target", "outside/linked", "tree/linked"] {
        assert_eq!(version_of(&desk.path(file)), 1, "{file}");
    }
    for file in [
        "tree/a",
        "tree/deep/b",
        "tree/deep/er/c",
        "tree/direct",
        "tree/linked",
        "outside/target",
    ] {
        let opened = desk.run(&format!("decrypt demo/files --in {file} --out -"));
        assert!(opened.stdout == data(100_000), "{file}");
    }

    // What was refused is done with its context; then everything is.
    desk.run("reencrypt demo/files tree/other-context --encryption-context a=1");
    fs::remove_file(desk.path("outside/linked")).expect("removed");
    let document = desk.ask("reencrypt demo/files tree outside/target tree/a");
    assert_eq!(
        (
            &document["reencrypted"],
            &document["already"],
            &document["all_under_primary"]
        ),
        (&json!(2), &json!(6), &json!(true))
    );
    let said = desk.run("reencrypt demo/files tree");
    assert!(said.text().contains("re-encrypted 0 files"), "{said}");
    assert!(
        said.text().contains("nothing that was given is under an older version"),
        "{said}"
    );
    assert!(
        said.stderr
            .contains("note: skipped tree/text: it is not encrypted under"),
        "{said}"
    );
    let disabled = portcullis_client::v1::ChangeKeyVersionStateRequest {
        name: format!("{KEY}/versions/1"),
        ..Default::default()
    };
    desk.client.disable_key_version(disabled).await.expect("disabled");
    for file in ["tree/a", "tree/direct", "tree/linked", "outside/target"] {
        desk.run(&format!("decrypt demo/files --in {file} --out -"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_tells_what_else_used_the_old_version() {
    let desk = Desk::new().await;
    fs::write(desk.path("plain"), "a text").expect("the file");
    fs::create_dir(desk.path("tree")).expect("a directory");
    for file in 0..5 {
        desk.run(&format!("encrypt demo/files --in plain --out tree/{file}"));
    }
    desk.run("encrypt demo/files --in plain --out elsewhere");
    desk.rotate().await;
    let said = desk.run("reencrypt demo/files tree").text();
    assert!(
        said.contains("version 1 is active, used 11 times so far, by nobody else while this ran"),
        "{said}"
    );
    desk.run("decrypt demo/files --in elsewhere --out -");
    let document = desk.ask("reencrypt demo/files tree");
    let older = &document["older_versions"];
    assert_eq!(
        (
            &older[0]["name"],
            &older[0]["use_count"],
            &older[0]["uses_by_others_meanwhile"]
        ),
        (&json!(format!("{KEY}/versions/1")), &json!(12), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_is_encrypted_anew_when_that_is_asked_for() {
    let desk = Desk::new().await;
    fs::write(desk.path("plain"), data(300_000)).expect("the file");
    desk.run("encrypt demo/files --in plain --out sealed --encryption-context a=1");
    let before = fs::read(desk.path("sealed")).expect("the file");
    desk.rotate().await;
    desk.run("reencrypt demo/files sealed --data --encryption-context a=1");
    let after = fs::read(desk.path("sealed")).expect("the file");
    let same = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .filter(|(one, two)| one == two)
        .count();
    assert!(same < 10_000, "{same} bytes are the same");
    let envelope = Envelopes::new(&desk.client).under(KEY).with_context([("a", "1")]);
    assert!(*envelope.decrypt_bytes(&after).await.expect("opened") == data(300_000));
    assert_eq!(version_of(&desk.path("sealed")), 2);

    // What is damaged is found, and stays as it is.
    let mut damaged = before.clone();
    damaged[200_000] ^= 1;
    fs::write(desk.path("damaged"), &damaged).expect("the file");
    let said = desk.fails_with(1, "reencrypt demo/files damaged --data --encryption-context a=1");
    assert!(said.contains("it was changed"), "{said}");
    assert!(fs::read(desk.path("damaged")).expect("the file") == damaged);
    assert_eq!(desk.names("."), ["damaged", "plain", "sealed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_cannot_be_kept_keeps_the_file() {
    assert!(
        rustix::process::getuid().is_root(),
        "this test runs a command as another user, which only root can"
    );
    let desk = Desk::new().await;
    fs::write(desk.path("plain"), "a text").expect("the file");
    fs::create_dir(desk.path("tree")).expect("a directory");
    for file in ["own", "roots"] {
        desk.run(&format!("encrypt demo/files --in plain --out tree/{file}"));
        fs::set_permissions(desk.path(&format!("tree/{file}")), fs::Permissions::from_mode(0o644)).expect("its mode");
    }
    desk.rotate().await;
    let nobody = 65_534;
    for path in ["tree", "tree/own"] {
        std::os::unix::fs::chown(desk.path(path), Some(nobody), Some(nobody)).expect("its owner");
    }
    // Root keeps any owner.
    desk.run("encrypt demo/files --in plain --out tree/third");
    std::os::unix::fs::chown(desk.path("tree/third"), Some(7), Some(8)).expect("its owner");
    desk.rotate().await;
    desk.run("reencrypt demo/files tree/third");
    let found = fs::metadata(desk.path("tree/third")).expect("the file");
    assert_eq!(
        (found.uid(), found.gid(), version_of(&desk.path("tree/third"))),
        (7, 8, 3)
    );
    fs::remove_file(desk.path("tree/third")).expect("removed");

    let output = as_nobody(&desk, "--json reencrypt demo/files tree");
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(
        (document["reencrypted"].as_u64(), output.status.code()),
        (Some(1), Some(2)),
        "{output}"
    );
    assert!(output.stdout.windows(9).any(|bytes| bytes == b"its owner"), "{output}");
    assert_eq!(
        (version_of(&desk.path("tree/own")), version_of(&desk.path("tree/roots"))),
        (3, 1)
    );
}

/// Runs the command as a user who owns nothing but what it was given, over mTLS.
fn as_nobody(desk: &Desk, line: &str) -> portcullis_softhsm_tests::Output {
    let files = desk.path("files");
    fs::create_dir(&files).expect("a directory");
    let program = files.join("portcullis");
    fs::copy(portcullis_softhsm_tests::workspace_binary("portcullis"), &program).expect("a copy");
    for file in ["developer.pem", "developer.key", "ca.pem"] {
        fs::copy(desk.cluster.pki(file), files.join(file)).expect("a copy");
        fs::set_permissions(files.join(file), fs::Permissions::from_mode(0o644)).expect("its mode");
    }
    for directory in [desk.directory.path(), &files] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let mut command = Command::new(portcullis_softhsm_tests::find_tool("setpriv", "util-linux"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program)
        .args(["--endpoint", &desk.gateway.tls_endpoint().to_string()])
        .args([
            "--cert",
            "files/developer.pem",
            "--key-file",
            "files/developer.key",
            "--ca",
            "files/ca.pem",
        ])
        .args(line.split(' '))
        .current_dir(desk.directory.path());
    tokio::task::block_in_place(|| portcullis_softhsm_tests::run(&mut command))
}

//! `portcullis reencrypt` that is killed, and a gateway that goes away under it.

use super::{Desk, KEY, data};
use portcullis_client::envelope::{Envelopes, Header};
use portcullis_softhsm_tests::{Gateway, LONG, wait_until};
use serde_json::json;
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::Stdio,
};

const FILES: usize = 400;

/// Many files under version 1, and a version 2.
async fn desk() -> Desk {
    let desk = Desk::new().await;
    let envelope = Envelopes::new(&desk.client).under(KEY);
    for directory in 0..4 {
        fs::create_dir_all(desk.path(&format!("tree/{directory}"))).expect("directories");
    }
    for (file, path) in paths(&desk).iter().enumerate() {
        let sealed = envelope.encrypt_bytes(&data(10_000 + file)).await.expect("sealed");
        fs::write(path, sealed).expect("the file");
    }
    desk.rotate().await;
    desk
}

fn paths(desk: &Desk) -> Vec<PathBuf> {
    (0..FILES)
        .map(|file| desk.path(&format!("tree/{}/file-{file:03}", file % 4)))
        .collect()
}

/// How many files are under version 2. Each must have a whole header.
fn done(desk: &Desk) -> usize {
    let version = |path: &PathBuf| {
        let mut file = File::open(path).expect("the file");
        Header::read(&mut file).expect("a header").version().number()
    };
    paths(desk).iter().filter(|path| version(path) == 2).count()
}

async fn all_open(desk: &Desk) {
    let envelope = Envelopes::new(&desk.client).under(KEY);
    for (file, path) in paths(desk).iter().enumerate() {
        let sealed = fs::read(path).expect("the file");
        let opened = envelope.decrypt_bytes(&sealed).await;
        let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(*opened == data(10_000 + file), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_leaves_every_file_whole_and_is_taken_up_again() {
    let desk = desk().await;
    let modes: Vec<_> = paths(&desk)
        .iter()
        .map(|path| fs::metadata(path).expect("the file").mtime_nsec())
        .collect();
    let mut kills = 0;
    for round in 1.. {
        let before = done(&desk);
        if before > FILES - 60 || round > 20 {
            break;
        }
        let mut child = desk
            .command("reencrypt demo/files tree")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        // In the middle of it, at another place each time.
        tokio::task::block_in_place(|| {
            wait_until("some files", LONG, || {
                let ended = child.try_wait().expect("its status").is_some();
                (ended || done(&desk) >= before + 10 * round).then_some(())
            });
        });
        if child.try_wait().expect("its status").is_none() {
            kills += 1;
        }
        child.kill().expect("killed, or ended");
        child.wait().expect("its end");
        all_open(&desk).await;
    }
    assert!(kills >= 2, "killed {kills} times");
    let already = done(&desk);
    let document = desk.ask("reencrypt demo/files tree");
    assert_eq!(document["already"], already, "what was done is found done");
    assert_eq!(document["reencrypted"], FILES - already);
    assert_eq!(document["all_under_primary"], true);
    assert_eq!(done(&desk), FILES);
    all_open(&desk).await;
    for ((path, mtime), file) in paths(&desk).iter().zip(modes).zip(0..) {
        assert_eq!(fs::metadata(path).expect("the file").mtime_nsec(), mtime, "file {file}");
    }
    for directory in 0..4 {
        let left: Vec<_> = desk.names(&format!("tree/{directory}"));
        assert!(left.iter().all(|name| name.starts_with("file-")), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_goes_away_ends_the_run_and_the_next_one_goes_on() {
    let desk = desk().await;
    let child = desk
        .command("--json --timeout 1s reencrypt demo/files tree")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    tokio::task::block_in_place(|| wait_until("some files", LONG, || (done(&desk) >= 20).then_some(())));
    let Desk {
        cluster,
        gateway,
        directory,
        ..
    } = desk;
    let (gateway, output) = tokio::task::block_in_place(|| {
        gateway.kill9();
        let output = child.wait_with_output().expect("its end");
        (Gateway::start(&cluster), output)
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(5 | 6)), "{}: {said}", output.status);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert!(document["not_looked_at"].as_u64() > Some(0), "{document}");
    assert_eq!(document["all_under_primary"], json!(false));

    let desk = Desk {
        client: gateway.unix_client().await,
        cluster,
        gateway,
        directory,
    };
    all_open(&desk).await;
    let document = desk.ask("reencrypt demo/files tree");
    assert_eq!(document["all_under_primary"], json!(true));
    assert_eq!(done(&desk), FILES);
    all_open(&desk).await;
}

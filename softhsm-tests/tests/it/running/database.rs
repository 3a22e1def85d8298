//! Databases that are damaged, locked, full, not to be written, or somebody else's: said clearly, and nothing confirmed is lost.

use portcullis_client::{
    Code,
    v1::{GetKeyRequest, Key, UpdateKeyRequest},
};
use portcullis_softhsm_tests::{
    Begun, Gateway, Http2, KeySpec, LONG, Launch, Refusal, TestCluster, create_key, create_ring, framed, key_request,
    refusal, sign, temporary_directory,
};
use prost::Message;
use rusqlite::Connection;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_the_same_state_directory_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let socket = gateway.unix().to_owned();
    cluster.edit_config(|config| {
        config["audit"]["file"] = "another.jsonl".into();
        config["listen"]["unix"]["path"] = "another.sock".into();
    });
    let ended = tokio::task::block_in_place(|| Launch::new(&cluster).start_in_vain());
    assert!(!ended.status.success());
    let expected = format!("in use by another portcullisd (process {})", gateway.pid());
    assert!(ended.log.contains(&expected), "{}", ended.log);
    assert!(socket.exists(), "the first gateway lost its socket");
    create_ring(&gateway.unix_client().await, "ring").await;
    // Also one that was killed leaves the directory to the next.
    tokio::task::block_in_place(|| gateway.kill9());
    Gateway::start(&cluster).stop();
}

/// A cluster whose stopped gateway has made some keys.
async fn cluster_with_keys() -> TestCluster {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for number in 0..20 {
        create_key(&client, "ring", &format!("key-{number}"), KeySpec::EC_P256).await;
    }
    gateway.stop();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_whole_keeps_the_gateway_from_starting_and_the_reason_is_said() {
    let cluster = cluster_with_keys().await;
    let file = cluster.database_file();
    let good = fs::read(&file).expect("the database");
    assert!(good.len() > 8 * PAGE);
    let flipped = |from: usize, to: usize| -> Vec<u8> {
        let mut bytes = good.clone();
        bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x55);
        bytes
    };
    let newer = || {
        fs::write(&file, &good).expect("the database");
        let connection = Connection::open(&file).expect("the database");
        connection.pragma_update(None, "user_version", 99).expect("a version");
        drop(connection);
        fs::read(&file).expect("the database")
    };
    // A page of a table, from its header on; several; the end cut off; the first page; nothing at all.
    let cases = [
        ("a damaged page", flipped(3 * PAGE, 3 * PAGE + 64), "damaged"),
        ("damaged pages", flipped(2 * PAGE, good.len()), "damaged"),
        ("cut short", good[..5 * PAGE].to_vec(), "damaged"),
        ("cut within a page", good[..6 * PAGE + 100].to_vec(), "damaged"),
        ("a damaged first page", flipped(0, 100), "expected a SQLite database"),
        (
            "another file",
            b"not a database, but some text\n".repeat(1000),
            "expected a SQLite database",
        ),
        ("emptied", Vec::new(), "it is empty"),
        ("newer", newer(), "version 99; this program knows up to"),
    ];
    for (what, bytes, expected) in cases {
        fs::write(&file, &bytes).expect("a changed database");
        let ended = tokio::task::block_in_place(|| Launch::new(&cluster).start_in_vain());
        assert!(!ended.status.success(), "{what}");
        assert!(
            ended.log.contains(expected) && ended.log.contains("portcullis.sqlite"),
            "{what}: {}",
            ended.log
        );
        assert!(
            fs::read(&file).expect("the database") == bytes,
            "{what}: the file was changed"
        );
    }
    // Removed under its write-ahead log.
    fs::remove_file(&file).expect("removed");
    fs::write(file.with_file_name("portcullis.sqlite-wal"), "what was not merged yet").expect("a write-ahead log");
    let ended = tokio::task::block_in_place(|| Launch::new(&cluster).start_in_vain());
    assert!(ended.log.contains("the database was removed"), "{}", ended.log);
    fs::remove_file(file.with_file_name("portcullis.sqlite-wal")).expect("removed");

    fs::write(&file, &good).expect("the database as it was");
    let gateway = Gateway::start(&cluster);
    sign(&gateway.unix_client().await, "keyRings/ring/keys/key-7", b"a message")
        .await
        .expect("a signature");
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_process_has_locked_is_named_when_the_gateway_starts() {
    let cluster = cluster_with_keys().await;
    let holder = Connection::open(cluster.database_file()).expect("the database");
    holder
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .expect("the lock");
    let ended = tokio::task::block_in_place(|| Launch::new(&cluster).start_in_vain());
    assert!(!ended.status.success());
    assert!(ended.log.contains("another process has locked it"), "{}", ended.log);
    drop(holder);
    Gateway::start(&cluster).stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_locked_under_the_gateway_is_answered_for_within_the_callers_deadline() {
    let cluster = cluster_with_keys().await;
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    let known = "keyRings/ring/keys/key-0";
    sign(&client, known, b"a message").await.expect("a signature");

    let holder = Connection::open(cluster.database_file()).expect("the database");
    holder.execute_batch("BEGIN IMMEDIATE").expect("the writers' lock");
    // Without a client that has a clock of its own.
    let connection = Http2::over_socket(gateway.unix()).await;
    let answers = hurried_creates(&connection, 8).await;
    // The database had not said anything yet: their deadlines ended these.
    for answer in answers {
        answer.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    // Whoever waits longer is answered when SQLite has given up.
    let patient = client.clone().with_deadline(LONG);
    let request = key_request("ring", "patient", KeySpec::EC_P256);
    let answer = refusal(patient.keys().create_key(request).await).is(Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(answer.retry_after.is_some());
    // So it is for whoever waits for another's change of the same key: it has a deadline of its own, and another cause.
    let relabel = UpdateKeyRequest {
        key: Some(Key {
            name: "keyRings/ring/keys/key-2".to_owned(),
            labels: [("colour".to_owned(), "blue".to_owned())].into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        ..Default::default()
    };
    let first = tokio::spawn({
        let (patient, relabel) = (patient.clone(), relabel.clone());
        async move { refusal(patient.keys().update_key(relabel).await) }
    });
    let waiter = hurried(&connection, "UpdateKey", &relabel).await;
    waiter.is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    first.await.expect("a task").is(Code::Unavailable, "STORE_UNAVAILABLE");
    // What is in memory, and what is only read, goes on.
    sign(&client, known, b"a message").await.expect("a signature");
    sign(&client, "keyRings/ring/keys/key-1", b"a message")
        .await
        .expect("a signature");

    holder.execute_batch("ROLLBACK").expect("unlocked");
    create_key(&client, "ring", "afterwards", KeySpec::EC_P256).await;
    // What was refused did not happen after all.
    for name in (0..8)
        .map(|number| format!("keyRings/ring/keys/hurried-{number}"))
        .chain(["keyRings/ring/keys/patient".to_owned()])
    {
        let found = client.keys().get_key(GetKeyRequest { name }).await;
        refusal(found).is(Code::NotFound, "KEY_NOT_FOUND");
    }
    gateway.stop();
}

/// The refusals of creates at once.
async fn hurried_creates(connection: &Http2, number: usize) -> Vec<Refusal> {
    let requests: Vec<_> = (0..number)
        .map(|number| key_request("ring", &format!("hurried-{number}"), KeySpec::EC_P256))
        .collect();
    let mut calls = Vec::new();
    for request in &requests {
        let mut call = begin_hurried(connection, "CreateKey").await;
        call.send(&framed(&request.encode_to_vec()), true);
        calls.push(call);
    }
    let mut refusals = Vec::new();
    for call in calls {
        refusals.push(refusal(Err::<(), _>(call.status().await.expect("a status"))));
    }
    refusals
}

/// The refusal of a call that is answered when its deadline has passed.
async fn hurried(connection: &Http2, method: &str, request: &impl Message) -> Refusal {
    let begun = Instant::now();
    let mut call = begin_hurried(connection, method).await;
    call.send(&framed(&request.encode_to_vec()), true);
    let refused = refusal(Err::<(), _>(call.status().await.expect("a status")));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "answered after {:?}",
        begun.elapsed()
    );
    refused
}

async fn begin_hurried(connection: &Http2, method: &str) -> Begun {
    let method = format!("portcullis.v1.KeyService/{method}");
    connection.begin(&method, Some("800m")).await.expect("a call")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_confirmed_is_lost_and_work_with_known_keys_goes_on() {
    let cluster = TestCluster::new();
    let state = cluster
        .database_file()
        .parent()
        .expect("the state directory")
        .to_owned();
    fs::create_dir_all(&state).expect("the state directory");
    let gateway = Launch::new(&cluster).with_small_disk_at(&state, "512k").start();
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let mut confirmed = vec![create_key(&client, "ring", "first", KeySpec::EC_P256).await];
    let ballast = gateway.inside(&state.join("ballast"));
    assert!(
        fs::write(&ballast, vec![0; 1 << 20]).is_err(),
        "the disk is larger than it should be"
    );
    let started = Instant::now();
    let refused = loop {
        let request = key_request("ring", &format!("key-{}", confirmed.len()), KeySpec::EC_P256);
        match client.keys().create_key(request).await {
            Ok(key) => confirmed.push(key.into_inner()),
            Err(status) => break refusal::<()>(Err(status)),
        }
        assert!(started.elapsed() < LONG, "keys are created on a full disk");
    };
    refused.is(Code::Unavailable, "STORE_UNAVAILABLE");
    for key in &confirmed {
        sign(&client, &key.name, b"a message").await.expect("a signature");
    }
    fs::remove_file(&ballast).expect("room again");
    let after = create_key(&client, "ring", "after", KeySpec::EC_P256).await;
    let refused = format!("keyRings/ring/keys/key-{}", confirmed.len());
    confirmed.push(after);
    // As a crash would leave it. SQLite looks through the link into the namespace, so it gets copies.
    let copies = temporary_directory();
    for file in ["portcullis.sqlite", "portcullis.sqlite-wal"] {
        let inside = gateway.inside(&state.join(file));
        fs::copy(inside, copies.path().join(file)).expect("a copy");
    }
    let stored = stored_keys(&copies.path().join("portcullis.sqlite"));
    for Key { name, .. } in &confirmed {
        assert!(stored.contains(name), "{name}");
    }
    assert!(!stored.contains(&refused), "{refused}");
    gateway.stop();
}

fn stored_keys(database: &Path) -> Vec<String> {
    let connection = Connection::open(database).expect("the database");
    let mut statement = connection
        .prepare("SELECT ring_id, key_id FROM keys")
        .expect("the table of keys");
    let names = statement.query_map([], |row| {
        Ok(format!(
            "keyRings/{}/keys/{}",
            row.get::<_, String>(0)?,
            row.get::<_, String>(1)?
        ))
    });
    names.expect("rows").map(|name| name.expect("a name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_written_keeps_the_gateway_from_starting() {
    let cluster = cluster_with_keys().await;
    let state = cluster
        .database_file()
        .parent()
        .expect("the state directory")
        .to_owned();
    let ended = tokio::task::block_in_place(|| Launch::new(&cluster).with_read_only(&state).start_in_vain());
    assert!(!ended.status.success());
    assert!(
        ended.log.contains(state.to_str().expect("UTF-8")) && ended.log.contains("Read-only file system"),
        "{}",
        ended.log
    );
}

const PAGE: usize = 4096;

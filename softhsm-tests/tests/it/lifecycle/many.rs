//! Ten thousand keys.

use portcullis_client::{
    Client,
    v1::{CreateKeyRequest, KeyVersionState, ListKeysRequest, RotateKeyRequest, ScheduleKeyVersionDestructionRequest},
};
use portcullis_softhsm_tests::{Database, Gateway, KeySpec, TestCluster, create_ring, decrypt, encrypt, key_request};
use prost_types::Duration;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};
use uuid::Uuid;

const KEYS: u32 = 10_000;
const CALLERS: usize = 64;

/// Does something for each number up to [`KEYS`], by many callers.
async fn for_each<F>(client: &Client, work: impl Fn(Client, u32) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send,
{
    let (next, work) = (Arc::new(AtomicU32::new(0)), Arc::new(work));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, next, work) = (client.clone(), Arc::clone(&next), Arc::clone(&work));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= KEYS {
                        return;
                    }
                    work(client.clone(), number).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
}

fn name(number: u32) -> String {
    format!("keyRings/ring/keys/key-{number:05}")
}

async fn listed(client: &Client, filter: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            parent: "keyRings/ring".to_owned(),
            page_size: 1000,
            page_token,
            filter: filter.to_owned(),
            with_versions: false,
        };
        let page = client.keys().list_keys(request).await.expect("a page").into_inner();
        assert!(page.unauthentic.is_empty(), "{:?}", page.unauthentic);
        found.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keys_are_created_listed_rotated_and_destroyed() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for_each(&client, |client, number| async move {
        let request = CreateKeyRequest {
            request_id: Uuid::now_v7().to_string(),
            ..key_request("ring", &format!("key-{number:05}"), KeySpec::AES_256)
        };
        // Some replies are lost and asked for again: the key is there once.
        let made = client
            .keys()
            .create_key(request.clone())
            .await
            .expect("a key")
            .into_inner();
        if number % 100 == 0 {
            let again = client.keys().create_key(request).await.expect("the same").into_inner();
            assert_eq!(again.uid, made.uid);
        }
    })
    .await;
    let all: Vec<_> = (0..KEYS).map(name).collect();
    assert_eq!(listed(&client, "").await, all);
    let sealed = encrypt(&client, &name(77), b"plaintext", b"")
        .await
        .expect("encrypted")
        .ciphertext;
    for_each(&client, |client, number| async move {
        let request = RotateKeyRequest {
            name: name(number),
            ..Default::default()
        };
        let rotated = client.keys().rotate_key(request).await.expect("rotated").into_inner();
        assert_eq!(rotated.primary_version, 2);
    })
    .await;
    drop(client);
    gateway.stop();
    // Read again from the database, every row checked.
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    assert_eq!(listed(&client, "state=ACTIVE").await, all);
    let opened = decrypt(&client, &name(77), &sealed, b"").await.expect("decrypted");
    assert_eq!(
        (opened.plaintext.as_ref(), opened.used_primary),
        (b"plaintext".as_slice(), false)
    );
    for_each(&client, |client, number| async move {
        for version in [1, 2] {
            let request = ScheduleKeyVersionDestructionRequest {
                name: format!("{}/versions/{version}", name(number)),
                window: Some(Duration { seconds: 1, nanos: 0 }),
                ..Default::default()
            };
            let scheduled = client.keys().schedule_key_version_destruction(request).await;
            scheduled.expect("scheduled");
        }
    })
    .await;
    let end = Instant::now() + std::time::Duration::from_secs(300);
    let left =
        || Database::of(&cluster).number("SELECT count(*) FROM key_versions WHERE state <> 8 OR length(token) > 0");
    while left() > 0 {
        assert!(Instant::now() < end, "{} versions are still there", left());
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(listed(&client, "state=DESTROYED").await, all);
    let state = super::version(&client, &format!("{}/versions/1", name(9999)))
        .await
        .state();
    assert_eq!(state, KeyVersionState::Destroyed);
}

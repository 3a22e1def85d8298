//! AES-GCM stops for ephemeral keys as for others: one count for each key, over its tokens, renewals, restarts and evictions.

use portcullis_client::{
    Client, Code, Status,
    v1::{DecryptRequest, EncryptRequest, EncryptResponse, RenewEphemeralKeyRequest},
};
use portcullis_softhsm_tests::{
    Adversary, Database, Gateway, KeySpec, LONG, TestCluster, create_ephemeral_key, create_key, create_ring, encrypt,
    refusal, wait_until,
};
use rusqlite::params;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

const MOST: u64 = 1 << 32;

async fn encrypt_ephemeral(client: &Client, token: &[u8]) -> Result<EncryptResponse, Status> {
    let request = EncryptRequest {
        key_token: token.to_vec().into(),
        plaintext: b"plaintext"[..].into(),
        ..Default::default()
    };
    Ok(client.crypto().encrypt(request).await?.into_inner())
}

async fn renew(client: &Client, token: &[u8], seconds: i64) -> Vec<u8> {
    let request = RenewEphemeralKeyRequest {
        token: token.to_vec().into(),
        lifetime: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let renewed = client.keys().renew_ephemeral_key(request).await.expect("renewed");
    renewed.into_inner().token.to_vec()
}

/// An ephemeral AES key: its identity and a token.
async fn create_aes(client: &Client) -> (Uuid, Vec<u8>) {
    let key = create_ephemeral_key(client, "ring", KeySpec::AES_256, 3600)
        .await
        .expect("an ephemeral key");
    (Uuid::parse_str(&key.uid).expect("a uid"), key.token.to_vec())
}

async fn require_stopped(client: &Client, tokens: &[&Vec<u8>]) {
    for token in tokens {
        let refused = refusal(encrypt_ephemeral(client, token).await);
        refused.is(Code::ResourceExhausted, "KEY_USAGE_LIMIT");
    }
}

/// Says that a key has made so many encryptions.
fn pretend(cluster: &TestCluster, uid: Uuid, encryptions: u64) {
    let canonical = [
        &(b"use_count/1".len() as u32).to_be_bytes()[..],
        b"use_count/1",
        uid.as_bytes(),
        &1u32.to_be_bytes(),
        &0u64.to_be_bytes(),
        &encryptions.to_be_bytes(),
    ]
    .concat();
    let tag = Adversary::at(cluster, "a").authenticate_row(&canonical);
    let changed = Database::of(cluster).execute(
        "INSERT OR REPLACE INTO use_counts (key_uid, number, uses, encryptions, tag) VALUES (?1, 1, 0, ?2, ?3)",
        params![uid.as_bytes(), encryptions as i64, tag],
    );
    assert_eq!(changed, 1);
}

fn stored(cluster: &TestCluster, uid: Uuid) -> i64 {
    let uid = uid.simple();
    Database::of(cluster).number(&format!(
        "SELECT coalesce(max(encryptions), 0) FROM use_counts WHERE key_uid = x'{uid}'"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_key_stops_encrypting_whatever_tokens_there_are_of_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let (uid, first) = create_aes(&client).await;
    gateway.stop();
    pretend(&cluster, uid, MOST - 10);

    // Two tokens that are good at the same time, and used in turn.
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let second = renew(&client, &first, 7200).await;
    for token in [&first, &second, &first, &second] {
        encrypt_ephemeral(&client, token).await.expect("one of the last ten");
    }
    // An orderly end gives back what was reserved and not made.
    gateway.stop();
    assert_eq!(stored(&cluster, uid), (MOST - 6) as i64);

    // A renewal after each encryption, and a restart in between.
    let mut newest = second.clone();
    let mut made = 4;
    for lifetime in [5000, 6000] {
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        for more in 0..3 {
            newest = renew(&client, &newest, lifetime + more).await;
            encrypt_ephemeral(&client, &newest).await.expect("one of the last ten");
            made += 1;
        }
        if made == 10 {
            newest = renew(&client, &newest, 8000).await;
            require_stopped(&client, &[&first, &second, &newest]).await;
        }
        gateway.stop();
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    require_stopped(&client, &[&first, &second, &newest]).await;
    assert_eq!(stored(&cluster, uid), MOST as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_counts_encryptions_of_ephemeral_keys_too_many_and_never_too_few() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let (uid, token) = create_aes(&client).await;
    let sealed = encrypt_ephemeral(&client, &token).await.expect("encrypted").ciphertext;
    gateway.kill9();
    let before = stored(&cluster, uid);
    assert!(before > 0, "reserved before it was made");
    // All that was reserved before the crash counts as made.
    pretend(&cluster, uid, MOST - 1);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    encrypt_ephemeral(&client, &token).await.expect("the last one");
    gateway.kill9();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let renewed = renew(&client, &token, 1000).await;
    require_stopped(&client, &[&token, &renewed]).await;
    let request = DecryptRequest {
        key_token: renewed.into(),
        ciphertext: sealed,
        ..Default::default()
    };
    let opened = client.crypto().decrypt(request).await.expect("it still decrypts");
    assert_eq!(opened.into_inner().plaintext, &b"plaintext"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_key_that_encrypts_nothing_leaves_nothing_and_old_counts_go() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let (_, silent) = create_aes(&client).await;
    renew(&client, &silent, 1000).await;
    let key = create_key(&client, "ring", "stored", KeySpec::AES_256).await;
    encrypt(&client, &key.name, b"plaintext", b"").await.expect("encrypted");
    let (recent, token) = create_aes(&client).await;
    encrypt_ephemeral(&client, &token).await.expect("encrypted");
    gateway.stop();
    assert_eq!(Database::of(&cluster).count("use_counts"), 2);

    // The counts of keys that were made 30 and 32 days ago: 30 days is the longest life.
    let made = |days: u64| {
        let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        let time = time.duration_since(UNIX_EPOCH).expect("after 1970");
        let time = uuid::Timestamp::from_unix(uuid::NoContext, time.as_secs(), 0);
        Uuid::new_v7(time)
    };
    let (living, over) = (made(30), made(32));
    for uid in [living, over] {
        pretend(&cluster, uid, 5);
    }
    let uid = Database::of(&cluster).key_uid("ring", "stored");
    let gateway = Gateway::start(&cluster);
    tokio::task::block_in_place(|| {
        wait_until("the old count is gone", LONG, || {
            (stored(&cluster, over) == 0).then_some(())
        });
    });
    gateway.stop();
    assert_eq!(stored(&cluster, living), 5);
    assert!(stored(&cluster, recent) > 0);
    assert!(stored(&cluster, Uuid::from_slice(&uid).expect("a uid")) > 0);
}

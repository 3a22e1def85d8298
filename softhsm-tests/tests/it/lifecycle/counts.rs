//! How often versions are used, and where AES-GCM stops.

use super::version;
use portcullis_client::{
    Client, Code,
    v1::{EncryptRequest, KeyOperation, KeyType, Mechanism, RotateKeyRequest},
};
use portcullis_softhsm_tests::{
    Adversary, Database, Gateway, KeySpec, TestCluster, create_key, create_ring, decrypt, encrypt, refusal, sign,
};

async fn uses(client: &Client, name: &str) -> u64 {
    version(client, name).await.use_count.expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_are_counted_over_restarts() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let signer = create_key(&client, "ring", "signer", KeySpec::EC_P256).await;
    let cipher = create_key(&client, "ring", "cipher", KeySpec::AES_256).await;
    let (first_signer, first_cipher) = (
        format!("{}/versions/1", signer.name),
        format!("{}/versions/1", cipher.name),
    );
    assert_eq!(uses(&client, &first_signer).await, 0);
    for _ in 0..5 {
        sign(&client, &signer.name, b"message").await.expect("signed");
    }
    let sealed = encrypt(&client, &cipher.name, b"plaintext", b"")
        .await
        .expect("encrypted")
        .ciphertext;
    for _ in 0..2 {
        decrypt(&client, &cipher.name, &sealed, b"").await.expect("decrypted");
    }
    assert_eq!(
        (uses(&client, &first_signer).await, uses(&client, &first_cipher).await),
        (5, 3)
    );
    drop(client);
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    assert_eq!(
        (uses(&client, &first_signer).await, uses(&client, &first_cipher).await),
        (5, 3)
    );
    sign(&client, &signer.name, b"message").await.expect("signed");
    assert_eq!(uses(&client, &first_signer).await, 6);
}

/// Says that a key's first version has made so many encryptions.
fn pretend(cluster: &TestCluster, key: &str, encryptions: u64) {
    let database = Database::of(cluster);
    let uid = database.key_uid("ring", key);
    let canonical = [
        &(b"use_count/1".len() as u32).to_be_bytes()[..],
        b"use_count/1",
        &uid,
        &1u32.to_be_bytes(),
        &0u64.to_be_bytes(),
        &encryptions.to_be_bytes(),
    ]
    .concat();
    let tag = Adversary::at(cluster, "a").authenticate_row(&canonical);
    let changed = database.execute(
        "INSERT OR REPLACE INTO use_counts (key_uid, number, uses, encryptions, tag) VALUES (?1, 1, 0, ?2, ?3)",
        rusqlite::params![uid, encryptions as i64, tag],
    );
    assert_eq!(changed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_stops_encrypting_under_its_callers_nonces_too() {
    const CALLERS: KeySpec = KeySpec::wrapped(KeyType::Aes256, &[(KeyOperation::Encrypt, Mechanism::AesGcmCallerIv)]);
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", CALLERS).await.name;
    drop(client);
    gateway.stop();
    pretend(&cluster, "key", (1 << 32) - 1);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let request = |nonce: u8| EncryptRequest {
        name: name.clone(),
        plaintext: b"plaintext".as_slice().into(),
        initialization_vector: vec![nonce; 12].into(),
        ..Default::default()
    };
    client.crypto().encrypt(request(1)).await.expect("the last one");
    refusal(client.crypto().encrypt(request(2)).await).is(Code::ResourceExhausted, "KEY_USAGE_LIMIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_stops_encrypting_before_its_nonces_repeat_and_still_decrypts() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::AES_256).await;
    let sealed = encrypt(&client, &key.name, b"plaintext", b"")
        .await
        .expect("encrypted")
        .ciphertext;
    drop(client);
    gateway.stop();
    pretend(&cluster, "key", (1 << 32) - 3);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for _ in 0..3 {
        encrypt(&client, &key.name, b"plaintext", b"")
            .await
            .expect("one of the last three");
    }
    let refused = refusal(encrypt(&client, &key.name, b"plaintext", b"").await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "KEY_USAGE_LIMIT")
    );
    assert!(refused.message.contains("rotate"), "{}", refused.message);
    assert!(decrypt(&client, &key.name, &sealed, b"").await.is_ok());
    let request = RotateKeyRequest {
        name: key.name.clone(),
        ..Default::default()
    };
    client.keys().rotate_key(request).await.expect("rotated");
    let fresh = encrypt(&client, &key.name, b"plaintext", b"")
        .await
        .expect("by the new version");
    assert_eq!(fresh.name, format!("{}/versions/2", key.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_counts_encryptions_too_many_and_never_too_few() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::AES_256).await;
    for _ in 0..10 {
        encrypt(&client, &key.name, b"plaintext", b"").await.expect("encrypted");
    }
    drop(client);
    gateway.kill9();
    let stored = |cluster: &TestCluster| Database::of(cluster).number("SELECT encryptions FROM use_counts");
    assert!(stored(&cluster) >= 10, "{}", stored(&cluster));
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    encrypt(&client, &key.name, b"plaintext", b"").await.expect("encrypted");
    drop(client);
    let before = stored(&cluster);
    gateway.stop();
    // An orderly end gives back what was reserved and not made.
    assert!(stored(&cluster) < before, "{} of {before}", stored(&cluster));
    assert!(stored(&cluster) >= 11, "{}", stored(&cluster));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_somebody_lowered_stops_encryption() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::AES_256).await;
    encrypt(&client, &key.name, b"plaintext", b"").await.expect("encrypted");
    drop(client);
    gateway.stop();
    assert_eq!(
        Database::of(&cluster).execute("UPDATE use_counts SET encryptions = 0", []),
        1
    );
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let refused = refusal(encrypt(&client, &key.name, b"plaintext", b"").await);
    assert_eq!(refused.reason, "RECORD_NOT_AUTHENTIC");
}

//! Resident keys through the death of workers and of the gateway, under many callers, through rotation and destruction.

use super::{is_unharmed, resident, started};
use portcullis_client::{
    Client, Code,
    v1::{
        GetKeyVersionRequest, KeyDestruction, KeyType, KeyVersionState, Mechanism, PublicKeyFormat, RotateKeyRequest,
        ScheduleKeyVersionDestructionRequest,
    },
};
use portcullis_softhsm_tests::{
    Adversary, Gateway, LONG, create_key, decrypt, encrypt, public_key, refusal, sign, verifies,
};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const MESSAGE: &[u8] = b"a message, signed where its key was born";

#[tokio::test(flavor = "multi_thread")]
async fn keys_outlive_their_worker_and_the_gateway() {
    let (cluster, gateway, client) = started().await;
    let signer = create_key(&client, "ring", "signer", resident(KeyType::EcP256, &[]))
        .await
        .name;
    let cipher = create_key(&client, "ring", "cipher", resident(KeyType::Aes256, &[]))
        .await
        .name;
    let der = public_key(&client, &signer, PublicKeyFormat::Der).await.public_key;
    let sealed = encrypt(&client, &cipher, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext;
    let still_works = async |client: &Client| {
        let signature = sign(client, &signer, MESSAGE).await.expect("a signature").signature;
        assert!(verifies(&der, Mechanism::EcdsaSha256, MESSAGE, &signature));
        let opened = decrypt(client, &cipher, &sealed, b"").await.expect("the plaintext");
        assert_eq!(opened.plaintext, &b"a plaintext"[..]);
    };
    still_works(&client).await;

    // Idle, and while it makes a key.
    for (round, id) in [(2, "during-1"), (3, "during-2")] {
        let making = (round == 3).then(|| {
            let client = client.clone();
            tokio::spawn(async move { create_key(&client, "ring", id, resident(KeyType::EcP384, &[])).await })
        });
        tokio::task::block_in_place(|| gateway.kill_worker("a"));
        gateway.wait_for_worker("a", round).await;
        still_works(&client).await;
        if let Some(making) = making {
            // The only member came back within its caller's deadline, or the caller was told: both are right.
            let _ = making.await;
        }
    }

    let gateway = {
        tokio::task::block_in_place(|| gateway.kill9());
        Gateway::start(&cluster)
    };
    still_works(&gateway.unix_client().await).await;
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    still_works(&gateway.unix_client().await).await;
    is_unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_are_all_served() {
    let (_cluster, gateway, client) = started().await;
    let signer = create_key(&client, "ring", "signer", resident(KeyType::EcP256, &[]))
        .await
        .name;
    let cipher = create_key(&client, "ring", "cipher", resident(KeyType::Aes256, &[]))
        .await
        .name;
    let der = public_key(&client, &signer, PublicKeyFormat::Der).await.public_key;
    let mut callers = JoinSet::new();
    for caller in 0..32 {
        let (client, signer, cipher, der) = (client.clone(), signer.clone(), cipher.clone(), der.clone());
        callers.spawn(async move {
            for round in 0..10 {
                let message = format!("{caller} {round}").into_bytes();
                let signature = sign(&client, &signer, &message).await.expect("a signature").signature;
                assert!(verifies(&der, Mechanism::EcdsaSha256, &message, &signature));
                let sealed = encrypt(&client, &cipher, &message, b"")
                    .await
                    .expect("a ciphertext")
                    .ciphertext;
                let opened = decrypt(&client, &cipher, &sealed, b"").await.expect("the plaintext");
                assert_eq!(opened.plaintext, message);
            }
            // Changes of token objects beside the use of others.
            let id = format!("made-by-{caller}");
            create_key(&client, "ring", &id, resident(KeyType::Aes128, &[])).await;
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
    is_unharmed(&gateway).await;
}

fn object_id(uid: &str, version: u32) -> String {
    format!("{}{version:08x}", uid.replace('-', ""))
}

async fn wait_until_destroyed(client: &Client, name: &str) -> KeyDestruction {
    let end = Instant::now() + LONG;
    loop {
        let request = GetKeyVersionRequest { name: name.to_owned() };
        let version = client
            .keys()
            .get_key_version(request)
            .await
            .expect("the version")
            .into_inner();
        if version.state() == KeyVersionState::Destroyed {
            return version.destruction();
        }
        assert!(Instant::now() < end, "{name} is still {:?}", version.state());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_and_its_old_version_destroyed_on_the_token() {
    let (cluster, gateway, client) = started().await;
    let key = create_key(&client, "ring", "key", resident(KeyType::EcP256, &[])).await;
    let (first, second) = (format!("{}/versions/1", key.name), format!("{}/versions/2", key.name));
    let rotation = RotateKeyRequest {
        name: key.name.clone(),
        allow_single_replica: true,
        ..Default::default()
    };
    client.keys().rotate_key(rotation).await.expect("a second version");
    assert_eq!(
        sign(&client, &key.name, MESSAGE).await.expect("a signature").name,
        second
    );
    assert_eq!(sign(&client, &first, MESSAGE).await.expect("a signature").name, first);
    let on_token = || tokio::task::block_in_place(|| Adversary::at(&cluster, "a").resident_keys());
    let both = [object_id(&key.uid, 1), object_id(&key.uid, 2)];
    assert_eq!(on_token(), both.clone().into());

    let schedule = ScheduleKeyVersionDestructionRequest {
        name: first.clone(),
        reason: "no longer needed".to_owned(),
        window: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    client
        .keys()
        .schedule_key_version_destruction(schedule)
        .await
        .expect("scheduled");
    assert_eq!(wait_until_destroyed(&client, &first).await, KeyDestruction::HsmObject);
    assert_eq!(on_token(), [both[1].clone()].into());
    refusal(sign(&client, &first, MESSAGE).await).is(Code::FailedPrecondition, "KEY_STATE_FORBIDS_OPERATION");
    assert_eq!(
        sign(&client, &key.name, MESSAGE).await.expect("a signature").name,
        second
    );
    is_unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_destroyed_behind_the_gateway_is_missing_and_its_member_serves_on() {
    let (cluster, gateway, client) = started().await;
    let living = create_key(&client, "ring", "living", resident(KeyType::EcP256, &[]))
        .await
        .name;
    let lost = create_key(&client, "ring", "lost", resident(KeyType::EcP256, &[])).await;
    gateway.stop();
    let id = object_id(&lost.uid, 1);
    let destroyed = tokio::task::block_in_place(|| Adversary::at(&cluster, "a").destroy_resident_key(&id));
    assert_eq!(destroyed, 2, "a private and a public object");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    for _ in 0..12 {
        refusal(sign(&client, &lost.name, MESSAGE).await).is(Code::DataLoss, "RESIDENT_KEY_MISSING");
    }
    sign(&client, &living, MESSAGE)
        .await
        .expect("a neighbour is not concerned");
    is_unharmed(&gateway).await;
}

//! The stream that all uses of keys share.

use super::signing;
use portcullis_client::{
    Code, Error, PIPELINED_OPERATIONS, Retry,
    v1::{
        DecryptRequest, EncryptRequest, EncryptionContext, GenerateDataKeyRequest, GenerateRandomRequest,
        MacSignRequest, MacVerifyRequest, ReEncryptRequest, SignRequest, VerifyRequest, encrypt_request,
        sign_request::Input, verify_request,
    },
};
use portcullis_softhsm_tests::{AuditLog, Gateway, KeySpec, LONG, TestCluster, create_key, create_ring};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};

const CALLERS: usize = 4 * PIPELINED_OPERATIONS;

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_stream_and_each_gets_its_own_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (_, client) in gateway.clients().await {
        let ring = format!(
            "ring-{}",
            client
                .list_key_rings(Default::default())
                .await
                .expect("rings")
                .key_rings
                .len()
        );
        create_ring(&client, &ring).await;
        let key = create_key(&client, &ring, "key", KeySpec::EC_P256).await.name;
        let mac = create_key(&client, &ring, "mac", KeySpec::HMAC_SHA256).await.name;
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (client, key, mac) = (client.clone(), key.clone(), mac.clone());
            callers.spawn(async move {
                let message = format!("the message of caller {caller}");
                let signed = client.sign(signing(&key, &message)).await.expect("a signature");
                let verify = VerifyRequest {
                    name: signed.name,
                    input: Some(verify_request::Input::Message(message.clone().into())),
                    signature: signed.signature,
                    ..Default::default()
                };
                assert!(client.verify(verify).await.expect("an answer").valid, "{message}");
                let sign = MacSignRequest {
                    name: mac,
                    data: message.clone().into(),
                    ..Default::default()
                };
                let made = client.mac_sign(sign).await.expect("a code");
                let verify = MacVerifyRequest {
                    name: made.name,
                    data: message.into(),
                    mac: made.mac,
                    ..Default::default()
                };
                assert!(client.mac_verify(verify).await.expect("an answer").valid);
            });
        }
        callers.join_all().await;
    }
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let signed: Vec<_> = log.outcomes().filter(|entry| entry["action"] == "sign").collect();
    let streams: BTreeSet<_> = signed.iter().filter_map(|entry| entry["batch"].as_str()).collect();
    assert_eq!(
        (signed.len(), streams.len()),
        (2 * CALLERS, 2),
        "one stream for each client"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_use_of_a_key_goes_both_ways_with_its_checksums() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "data", KeySpec::AES_256).await.name;
    let context = EncryptionContext {
        values: BTreeMap::from([("purpose".to_owned(), "test".to_owned())]),
    };
    // A large one goes by itself, and is the same to the caller.
    for length in [0, 1000, 1_000_000] {
        let plaintext = vec![7; length];
        let request = EncryptRequest {
            name: key.clone(),
            plaintext: plaintext.clone().into(),
            authenticated: Some(encrypt_request::Authenticated::AssociatedData("beside it".into())),
            ..Default::default()
        };
        let encrypted = client.encrypt(request).await.expect("a ciphertext");
        assert!(encrypted.verified_plaintext_crc32c && encrypted.verified_associated_data_crc32c);
        let request = ReEncryptRequest {
            source_name: key.clone(),
            destination_name: key.clone(),
            ciphertext: encrypted.ciphertext,
            source_authenticated: Some(
                portcullis_client::v1::re_encrypt_request::SourceAuthenticated::SourceAssociatedData(
                    "beside it".into(),
                ),
            ),
            destination_authenticated: Some(
                portcullis_client::v1::re_encrypt_request::DestinationAuthenticated::DestinationEncryptionContext(
                    context.clone(),
                ),
            ),
            ..Default::default()
        };
        let moved = client.re_encrypt(request).await.expect("a ciphertext");
        let request = DecryptRequest {
            name: key.clone(),
            ciphertext: moved.ciphertext,
            authenticated: Some(
                portcullis_client::v1::decrypt_request::Authenticated::EncryptionContext(context.clone()),
            ),
            ..Default::default()
        };
        let decrypted = client.decrypt(request).await.expect("a plaintext");
        assert!(decrypted.plaintext == plaintext && decrypted.verified_ciphertext_crc32c);
    }
    let request = GenerateDataKeyRequest {
        name: key.clone(),
        length_bytes: 32,
        ..Default::default()
    };
    let data_key = client.generate_data_key(request.clone()).await.expect("a data key");
    assert_eq!(data_key.plaintext.len(), 32);
    let checked = client
        .generate_data_key(GenerateDataKeyRequest {
            dry_run: true,
            ..request
        })
        .await
        .expect("it could be done");
    assert!(checked.plaintext.is_empty());
    let random = client
        .generate_random(GenerateRandomRequest { length_bytes: 100 })
        .await;
    assert_eq!(random.expect("random bytes").data.len(), 100);

    let wrong = SignRequest {
        input_crc32c: Some(1),
        ..signing(&key, "a message")
    };
    let error = client.sign(wrong).await.err().expect("a wrong checksum");
    assert!(error.fault().is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_refused_leaves_the_others_alone() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    let mut callers = JoinSet::new();
    for caller in 0..200 {
        let (client, key) = (client.clone(), key.clone());
        callers.spawn(async move {
            let good = signing(&key, "a message");
            let fault = |error: Option<Error>| {
                let error = error.expect("it is refused");
                let fault = error.fault().unwrap_or_else(|| panic!("{error}")).clone();
                assert!(fault.request_id().is_some());
                (fault.code(), fault.reason().unwrap_or_default().to_owned())
            };
            match caller % 5 {
                0 => {
                    let error = client.sign(signing(&format!("{key}-absent"), "")).await.err();
                    assert_eq!(fault(error), (Code::NotFound, "KEY_NOT_FOUND".to_owned()));
                }
                1 => {
                    let short = SignRequest {
                        input: Some(Input::Digest("short".into())),
                        ..good
                    };
                    let error = client.sign(short).await.err();
                    assert_eq!(
                        fault(error),
                        (Code::InvalidArgument, "DIGEST_LENGTH_MISMATCH".to_owned())
                    );
                }
                // Larger than any message that the gateway reads: on the stream it would have ended it for all.
                2 if caller < 20 => {
                    let error = client.sign(signing(&key, &"x".repeat(5 << 20))).await.err();
                    assert_eq!(fault(error).0, Code::OutOfRange);
                }
                _ => {
                    client.sign(good).await.expect("a signature");
                }
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_leaves_the_place_to_others() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    client
        .sign(signing(&key, "the first opens the stream"))
        .await
        .expect("a signature");
    for round in 0..20 {
        let mut callers = JoinSet::new();
        for _ in 0..PIPELINED_OPERATIONS {
            let (client, key) = (client.clone(), key.clone());
            callers.spawn(async move {
                // Some are gone before they are on the stream, some while they wait, some have their answer.
                drop(timeout(Duration::from_millis(round), client.sign(signing(&key, "a message"))).await);
            });
        }
        callers.join_all().await;
    }
    let mut callers = JoinSet::new();
    for _ in 0..2 * PIPELINED_OPERATIONS {
        let (client, key) = (client.clone(), key.clone());
        callers.spawn(async move { client.sign(signing(&key, "a message")).await.map(drop) });
    }
    for answer in callers.join_all().await {
        answer.expect("a signature");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_call_that_nobody_can_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.freeze_worker(member);
    }
    let short = client
        .clone()
        .with_deadline(Duration::from_millis(300))
        .with_retry(Retry::off());
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let (client, key) = (short.clone(), key.clone());
        callers.spawn(async move { client.sign(signing(&key, "a message")).await.err() });
    }
    let errors = timeout(LONG, callers.join_all()).await.expect("each call ends");
    for error in errors {
        // The gateway may say that it has nobody, or too few, before the time is over.
        let error = error.expect("nobody can sign");
        assert!(matches!(error, Error::TimedOut(_) | Error::Unavailable(_)), "{error:?}");
    }
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.thaw_worker(member);
    }
    let patient = client.with_deadline(LONG).with_retry(Retry::attempts(1000));
    patient.sign(signing(&key, "a message")).await.expect("a signature");
}

//! Signing and verifying.

use portcullis_client::{
    Client, Code,
    v1::{
        KeyOperation, KeyType, Mechanism, PublicKeyFormat, SignRequest, SignatureEncoding, VerifyRequest, sign_request,
        verify_request::Input,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, TestCluster, crc32c, create_key, create_ring, digest_request, message_request,
    openssl_accepts, public_key, refusal, verifies,
};
use sha2::{Digest, Sha256};

/// A name for each kind of key that signs, the kind, and how it signs.
const SIGNERS: [(&str, KeySpec, Mechanism); 4] = [
    ("ec-p256", KeySpec::EC_P256, Mechanism::EcdsaSha256),
    ("rsa-pkcs1", KeySpec::RSA_PKCS1, Mechanism::RsaPkcs1Sha256),
    ("rsa-pss", KeySpec::RSA_PSS, Mechanism::RsaPssSha256),
    ("ed25519", KeySpec::ED25519_RESIDENT, Mechanism::Ed25519),
];

const MESSAGE: &[u8] = b"a message of some length, signed where its key was born";

async fn verify(client: &Client, name: &str, input: Input, signature: &[u8]) -> bool {
    let request = VerifyRequest {
        name: name.to_owned(),
        input: Some(input),
        signature: signature.to_vec().into(),
        ..Default::default()
    };
    client
        .crypto()
        .verify(request)
        .await
        .expect("an answer to Verify")
        .into_inner()
        .valid
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_valid_to_rust_crates_to_openssl_and_to_the_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        for (id, spec, mechanism) in SIGNERS {
            let name = create_key(&client, transport, id, spec).await.name;
            let pem = public_key(&client, &name, PublicKeyFormat::Pem).await.public_key;
            let der = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
            let mut requests = vec![message_request(&name, MESSAGE)];
            if mechanism != Mechanism::Ed25519 {
                requests.push(digest_request(&name, &Sha256::digest(MESSAGE)));
                requests.push(digest_request(&format!("{name}/versions/1"), &Sha256::digest(MESSAGE)));
            }
            for request in requests {
                let answer = client.crypto().sign(request).await.expect("a signature").into_inner();
                assert_eq!(answer.name, format!("{name}/versions/1"));
                assert!(answer.mechanism() == mechanism, "{id}");
                assert_eq!(answer.signature_crc32c, crc32c(&answer.signature));
                assert!(!answer.verified_input_crc32c);
                assert!(verifies(&der, mechanism, MESSAGE, &answer.signature), "{id}");
                assert!(
                    !verifies(&der, mechanism, b"another message", &answer.signature),
                    "{id}"
                );
                assert!(openssl_accepts(&pem, mechanism, MESSAGE, &answer.signature), "{id}");
                let input = Input::Message(MESSAGE.into());
                assert!(verify(&client, &name, input, &answer.signature).await, "{id}");
                let input = Input::Message(b"another message"[..].into());
                assert!(!verify(&client, &name, input, &answer.signature).await, "{id}");
                if mechanism != Mechanism::Ed25519 {
                    let input = Input::Digest(Sha256::digest(MESSAGE).to_vec().into());
                    assert!(verify(&client, &name, input, &answer.signature).await, "{id}");
                }
            }
        }
    }
}

const RSA: [(KeyOperation, Mechanism); 6] = [
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha384),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha512),
    (KeyOperation::Sign, Mechanism::RsaPssSha256),
    (KeyOperation::Sign, Mechanism::RsaPssSha384),
    (KeyOperation::Sign, Mechanism::RsaPssSha512),
];
const ECDSA: [(KeyOperation, Mechanism); 3] = [
    (KeyOperation::Sign, Mechanism::EcdsaSha256),
    (KeyOperation::Sign, Mechanism::EcdsaSha384),
    (KeyOperation::Sign, Mechanism::EcdsaSha512),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_hash_goes_with_each_rsa_length_and_each_curve() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    // RSA keys of 4096 bits take their time.
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    for (id, key_type, uses) in [
        ("rsa-2048", KeyType::Rsa2048, &RSA[..]),
        ("rsa-3072", KeyType::Rsa3072, &RSA),
        ("rsa-4096", KeyType::Rsa4096, &RSA),
        ("p256", KeyType::EcP256, &ECDSA),
        ("p384", KeyType::EcP384, &ECDSA),
        ("p521", KeyType::EcP521, &ECDSA),
    ] {
        let name = create_key(&client, "ring", id, KeySpec::wrapped(key_type, uses))
            .await
            .name;
        let der = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
        for (_, mechanism) in uses {
            let what = format!("{id} with {}", mechanism.as_str_name());
            let request = SignRequest {
                mechanism: *mechanism as i32,
                ..message_request(&name, MESSAGE)
            };
            let answer = client.crypto().sign(request).await;
            let signature = answer
                .unwrap_or_else(|status| panic!("{what}: {status}"))
                .into_inner()
                .signature;
            assert!(verifies(&der, *mechanism, MESSAGE, &signature), "{what}");
            assert!(!verifies(&der, *mechanism, b"another message", &signature), "{what}");
            for (message, valid) in [(MESSAGE, true), (b"another message", false)] {
                let request = VerifyRequest {
                    name: name.clone(),
                    input: Some(Input::Message(message.into())),
                    signature: signature.clone(),
                    mechanism: *mechanism as i32,
                    ..Default::default()
                };
                let answer = client.crypto().verify(request).await;
                let answer = answer.unwrap_or_else(|status| panic!("{what}: {status}"));
                assert_eq!(answer.into_inner().valid, valid, "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_an_answer_and_not_an_error() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for (id, spec, _) in SIGNERS {
        let name = create_key(&client, "ring", id, spec).await.name;
        let signature = client
            .crypto()
            .sign(message_request(&name, MESSAGE))
            .await
            .expect("a signature")
            .into_inner();
        let good = signature.signature.to_vec();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            assert!(
                !verify(&client, &name, Input::Message(MESSAGE.into()), &wrong).await,
                "{id}, byte {at}"
            );
        }
        for wrong in [&[][..], &good[1..], &[&good[..], &[0]].concat(), &[0; 8], &[0xff; 1024]] {
            assert!(
                !verify(&client, &name, Input::Message(MESSAGE.into()), wrong).await,
                "{id}, {wrong:02x?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ecdsa_signature_comes_in_both_encodings() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let der_key = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
    // Often enough that r or s begins with a zero byte or a high bit.
    for number in 0..64u8 {
        let message = [number; 32];
        let request = SignRequest {
            encoding: SignatureEncoding::P1363 as i32,
            ..message_request(&name, &message)
        };
        let answer = client.crypto().sign(request).await.expect("a signature").into_inner();
        assert!(answer.encoding() == SignatureEncoding::P1363);
        let signature = p256_signature(&answer.signature);
        assert!(verifies(&der_key, Mechanism::EcdsaSha256, &message, &signature));
        for (encoding, valid) in [(SignatureEncoding::P1363, true), (SignatureEncoding::Der, false)] {
            let request = VerifyRequest {
                name: name.clone(),
                input: Some(Input::Message(message.to_vec().into())),
                signature: answer.signature.clone(),
                encoding: encoding as i32,
                ..Default::default()
            };
            assert_eq!(
                client
                    .crypto()
                    .verify(request)
                    .await
                    .expect("an answer")
                    .into_inner()
                    .valid,
                valid
            );
        }
    }
}

fn p256_signature(fixed: &[u8]) -> Vec<u8> {
    assert_eq!(fixed.len(), 64);
    p256::ecdsa::Signature::from_slice(fixed)
        .expect("r and s")
        .to_der()
        .as_bytes()
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_does_not_fit_the_key_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let digest = Sha256::digest(MESSAGE);
    for (id, spec, mechanism) in SIGNERS {
        let name = create_key(&client, "ring", id, spec).await.name;
        let sign = async |request| client.crypto().sign(request).await;
        if mechanism == Mechanism::Ed25519 {
            let refused = refusal(sign(digest_request(&name, &digest)).await);
            assert_eq!(refused.code, Code::InvalidArgument, "{refused:?}");
        } else {
            for length in [0, 20, 31, 33, 48, 64] {
                refusal(sign(digest_request(&name, &vec![0; length])).await)
                    .is(Code::InvalidArgument, "DIGEST_LENGTH_MISMATCH")
                    .with("expected_length", 32)
                    .with("actual_length", length);
            }
        }
        let other = if mechanism == Mechanism::EcdsaSha256 {
            Mechanism::RsaPssSha256
        } else {
            Mechanism::EcdsaSha256
        };
        let request = SignRequest {
            mechanism: other as i32,
            ..message_request(&name, MESSAGE)
        };
        refusal(sign(request).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
        let request = SignRequest {
            input: None,
            ..message_request(&name, MESSAGE)
        };
        refusal(sign(request).await).is(Code::InvalidArgument, "FIELD_INVALID");
        let request = SignRequest {
            input_crc32c: Some(crc32c(MESSAGE) ^ 1),
            ..message_request(&name, MESSAGE)
        };
        refusal(sign(request).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
        let request = SignRequest {
            input_crc32c: Some(crc32c(MESSAGE)),
            ..message_request(&name, MESSAGE)
        };
        assert!(
            sign(request)
                .await
                .expect("a signature")
                .into_inner()
                .verified_input_crc32c
        );
    }
    for (id, spec) in [("aes", KeySpec::AES_256), ("hmac", KeySpec::HMAC_SHA256)] {
        let name = create_key(&client, "ring", id, spec).await.name;
        let answer = client.crypto().sign(message_request(&name, MESSAGE)).await;
        refusal(answer).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_signature_would_say_and_makes_none() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let request = SignRequest {
        dry_run: true,
        ..message_request(&name, MESSAGE)
    };
    let answer = client
        .crypto()
        .sign(request.clone())
        .await
        .expect("a dry run")
        .into_inner();
    assert!(answer.signature.is_empty());
    let request = SignRequest {
        input: Some(sign_request::Input::Digest(vec![0; 20].into())),
        ..request
    };
    refusal(client.crypto().sign(request).await).is(Code::InvalidArgument, "DIGEST_LENGTH_MISMATCH");
}

//! AES modes without authentication over the API. That they are right is shown by `known_answers`.

use portcullis_client::{
    Client, Code,
    v1::{
        DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptionContext, KeyOperation, KeyType,
        Mechanism, decrypt_request, encrypt_request::Authenticated,
    },
};
use portcullis_softhsm_tests::{Gateway, KeySpec, TestCluster, crc32c, create_key, create_ring, refusal};
use tonic::Status;

const ALL: [(KeyOperation, Mechanism); 10] = [
    (KeyOperation::Encrypt, Mechanism::AesGcm),
    (KeyOperation::Decrypt, Mechanism::AesGcm),
    (KeyOperation::Encrypt, Mechanism::AesCbc),
    (KeyOperation::Decrypt, Mechanism::AesCbc),
    (KeyOperation::Encrypt, Mechanism::AesCbcPad),
    (KeyOperation::Decrypt, Mechanism::AesCbcPad),
    (KeyOperation::Encrypt, Mechanism::AesCtr),
    (KeyOperation::Decrypt, Mechanism::AesCtr),
    (KeyOperation::Encrypt, Mechanism::AesEcb),
    (KeyOperation::Decrypt, Mechanism::AesEcb),
];

const CALLERS: [(KeyOperation, Mechanism); 6] = [
    (KeyOperation::Encrypt, Mechanism::AesGcmCallerIv),
    (KeyOperation::Decrypt, Mechanism::AesGcmCallerIv),
    (KeyOperation::Encrypt, Mechanism::AesCbcCallerIv),
    (KeyOperation::Decrypt, Mechanism::AesCbcCallerIv),
    (KeyOperation::Encrypt, Mechanism::AesCbcPadCallerIv),
    (KeyOperation::Decrypt, Mechanism::AesCbcPadCallerIv),
];

fn encryption(name: &str, mechanism: Mechanism, plaintext: &[u8]) -> EncryptRequest {
    EncryptRequest {
        name: name.to_owned(),
        plaintext: plaintext.to_vec().into(),
        mechanism: mechanism as i32,
        ..Default::default()
    }
}

fn decryption(name: &str, mechanism: Mechanism, iv: &[u8], ciphertext: &[u8]) -> DecryptRequest {
    DecryptRequest {
        name: name.to_owned(),
        ciphertext: ciphertext.to_vec().into(),
        initialization_vector: iv.to_vec().into(),
        mechanism: mechanism as i32,
        ..Default::default()
    }
}

async fn encrypt(client: &Client, request: EncryptRequest) -> Result<EncryptResponse, Status> {
    Ok(client.crypto().encrypt(request).await?.into_inner())
}

async fn decrypt(client: &Client, request: DecryptRequest) -> Result<DecryptResponse, Status> {
    Ok(client.crypto().decrypt(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_gives_back_what_it_took_under_a_fresh_vector() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let name = create_key(&client, transport, "aes", KeySpec::wrapped(KeyType::Aes256, &ALL))
            .await
            .name;
        for (mechanism, lengths) in [
            (Mechanism::AesCbc, &[0usize, 16, 4096][..]),
            (Mechanism::AesCbcPad, &[0, 1, 16, 70_000]),
            (Mechanism::AesCtr, &[0, 1, 16, 70_000]),
            (Mechanism::AesEcb, &[0, 16, 4096]),
        ] {
            for length in lengths {
                let plaintext = vec![0x5a; *length];
                let request = EncryptRequest {
                    plaintext_crc32c: Some(crc32c(&plaintext)),
                    ..encryption(&name, mechanism, &plaintext)
                };
                let what = format!("{}, {length} bytes", mechanism.as_str_name());
                let first = encrypt(&client, request.clone()).await;
                let first = first.unwrap_or_else(|status| panic!("{what}: {status}"));
                assert!(
                    first.mechanism() == mechanism && first.verified_plaintext_crc32c,
                    "{what}"
                );
                assert_eq!(first.ciphertext_crc32c, crc32c(&first.ciphertext), "{what}");
                assert_eq!(first.name, format!("{name}/versions/1"));
                let longer = if mechanism == Mechanism::AesCbcPad {
                    16 - length % 16
                } else {
                    0
                };
                assert_eq!(first.ciphertext.len(), length + longer, "{what}");
                let again = encrypt(&client, request).await.expect("a ciphertext");
                if mechanism == Mechanism::AesEcb {
                    assert!(first.initialization_vector.is_empty(), "{what}");
                    assert_eq!(again.ciphertext, first.ciphertext, "{what}");
                } else {
                    assert_eq!(first.initialization_vector.len(), 16, "{what}");
                    assert_ne!(again.initialization_vector, first.initialization_vector, "{what}");
                }
                // The key's primary version and the version by name.
                for named in [name.clone(), format!("{name}/versions/1")] {
                    let request = DecryptRequest {
                        ciphertext_crc32c: Some(first.ciphertext_crc32c),
                        ..decryption(&named, mechanism, &first.initialization_vector, &first.ciphertext)
                    };
                    let answer = decrypt(&client, request).await;
                    let answer = answer.unwrap_or_else(|status| panic!("{what}: {status}"));
                    assert_eq!(answer.plaintext, plaintext, "{what}");
                    assert_eq!(answer.plaintext_crc32c, crc32c(&plaintext));
                    assert!(
                        answer.used_primary && answer.verified_ciphertext_crc32c && answer.mechanism() == mechanism
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_several_modes_wants_one_named_and_a_key_without_them_refuses() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let all = create_key(&client, "ring", "all", KeySpec::wrapped(KeyType::Aes256, &ALL))
        .await
        .name;
    refusal(encrypt(&client, encryption(&all, Mechanism::Unspecified, b"text")).await)
        .is(Code::InvalidArgument, "ALGORITHM_MISMATCH")
        .naming("name one");
    let gcm = encrypt(&client, encryption(&all, Mechanism::AesGcm, b"text"))
        .await
        .expect("a ciphertext");
    assert!(gcm.mechanism() == Mechanism::AesGcm && gcm.initialization_vector.is_empty());
    let answer = decrypt(&client, decryption(&all, Mechanism::AesGcm, &[], &gcm.ciphertext)).await;
    assert_eq!(answer.expect("the plaintext").plaintext, &b"text"[..]);

    let usual = create_key(&client, "ring", "usual", KeySpec::AES_256).await.name;
    for mechanism in [
        Mechanism::AesCbc,
        Mechanism::AesCbcPad,
        Mechanism::AesCtr,
        Mechanism::AesEcb,
    ] {
        refusal(encrypt(&client, encryption(&usual, mechanism, &[0; 16])).await)
            .is(Code::InvalidArgument, "ALGORITHM_MISMATCH")
            .with("permitted", "AES_GCM");
        refusal(decrypt(&client, decryption(&usual, mechanism, &[0; 16], &[0; 16])).await)
            .is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    }
    // RSA keys decrypt too, and not here.
    const OAEP: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)];
    let rsa = create_key(&client, "ring", "rsa", KeySpec::wrapped(KeyType::Rsa2048, &OAEP))
        .await
        .name;
    refusal(decrypt(&client, decryption(&rsa, Mechanism::Unspecified, &[], &[0; 256])).await)
        .is(Code::InvalidArgument, "ALGORITHM_MISMATCH")
        .naming("AsymmetricDecrypt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_chooses_the_vector_where_the_key_permits_that_by_name() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let callers = [
        (Mechanism::AesGcmCallerIv, 12, 16),
        (Mechanism::AesCbcCallerIv, 16, 0),
        (Mechanism::AesCbcPadCallerIv, 16, 16),
    ];
    let name = create_key(&client, "ring", "aes", KeySpec::wrapped(KeyType::Aes256, &CALLERS))
        .await
        .name;
    let all = create_key(&client, "ring", "all", KeySpec::wrapped(KeyType::Aes256, &ALL))
        .await
        .name;
    let plaintext = [0x5a; 32];
    for (mechanism, length, longer) in callers {
        let what = mechanism.as_str_name();
        let with_vector = |name: &str, vector: &[u8]| EncryptRequest {
            initialization_vector: vector.to_vec().into(),
            ..encryption(name, mechanism, &plaintext)
        };
        let vector = vec![7; length];
        let made = encrypt(&client, with_vector(&name, &vector)).await.expect(what);
        assert_eq!(made.initialization_vector, vector, "{what}");
        assert_eq!(made.ciphertext.len(), plaintext.len() + longer, "{what}");
        let again = encrypt(&client, with_vector(&name, &vector)).await.expect(what);
        assert_eq!(again.ciphertext, made.ciphertext, "{what}");
        let other = encrypt(&client, with_vector(&name, &vec![8; length]))
            .await
            .expect(what);
        assert_ne!(other.ciphertext, made.ciphertext, "{what}");
        let opened = decrypt(&client, decryption(&name, mechanism, &vector, &made.ciphertext)).await;
        assert_eq!(opened.expect(what).plaintext, &plaintext[..], "{what}");
        for wrong in [0, length - 1, length + 1] {
            refusal(encrypt(&client, with_vector(&name, &vec![7; wrong])).await)
                .is(Code::InvalidArgument, "FIELD_INVALID")
                .with("field", "initialization_vector");
        }
        // A key that has modes by name has them with vectors that the HSM draws.
        refusal(encrypt(&client, with_vector(&all, &vector)).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    }
    for (mechanism, length) in [
        (Mechanism::AesGcm, 12),
        (Mechanism::AesCbc, 16),
        (Mechanism::AesCtr, 16),
    ] {
        let request = EncryptRequest {
            initialization_vector: vec![7; length].into(),
            ..encryption(&all, mechanism, &plaintext)
        };
        refusal(encrypt(&client, request).await)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .with("field", "initialization_vector");
    }
    let gcm = EncryptRequest {
        initialization_vector: vec![9; 12].into(),
        authenticated: Some(Authenticated::AssociatedData(vec![1, 2].into())),
        ..encryption(&name, Mechanism::AesGcmCallerIv, b"text")
    };
    let made = encrypt(&client, gcm.clone()).await.expect("a ciphertext");
    for (data, is_right) in [(&[1, 2][..], true), (&[1], false), (&[], false)] {
        let request = DecryptRequest {
            authenticated: Some(decrypt_request::Authenticated::AssociatedData(data.to_vec().into())),
            ..decryption(&name, Mechanism::AesGcmCallerIv, &[9; 12], &made.ciphertext)
        };
        match (decrypt(&client, request).await, is_right) {
            (Ok(opened), true) => assert_eq!(opened.plaintext, &b"text"[..]),
            (refused, _) => drop(refusal(refused).is(Code::InvalidArgument, "DECRYPTION_FAILED")),
        }
    }
    let request = EncryptRequest {
        authenticated: Some(Authenticated::EncryptionContext(EncryptionContext::default())),
        ..gcm
    };
    refusal(encrypt(&client, request).await)
        .is(Code::InvalidArgument, "FIELD_INVALID")
        .with("field", "encryption_context");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_mode_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::wrapped(KeyType::Aes256, &ALL))
        .await
        .name;
    for mechanism in [Mechanism::AesCbc, Mechanism::AesEcb] {
        refusal(encrypt(&client, encryption(&name, mechanism, &[0; 17])).await)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .with("field", "plaintext");
    }
    for mechanism in [
        Mechanism::AesCbc,
        Mechanism::AesCbcPad,
        Mechanism::AesCtr,
        Mechanism::AesEcb,
    ] {
        // Nothing would authenticate it.
        let context = EncryptionContext::default();
        for authenticated in [
            Authenticated::AssociatedData(vec![1].into()),
            Authenticated::EncryptionContext(context.clone()),
        ] {
            let request = EncryptRequest {
                authenticated: Some(authenticated),
                ..encryption(&name, mechanism, &[0; 16])
            };
            refusal(encrypt(&client, request).await)
                .is(Code::InvalidArgument, "FIELD_INVALID")
                .with("field", "associated_data");
        }
        let request = DecryptRequest {
            authenticated: Some(decrypt_request::Authenticated::EncryptionContext(context)),
            ..decryption(&name, mechanism, &[0; 16], &[0; 16])
        };
        refusal(decrypt(&client, request).await).is(Code::InvalidArgument, "FIELD_INVALID");
        let wrong_iv: &[u8] = if mechanism == Mechanism::AesEcb {
            &[0; 16]
        } else {
            &[0; 15]
        };
        refusal(decrypt(&client, decryption(&name, mechanism, wrong_iv, &[0; 16])).await)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .with("field", "initialization_vector");
    }
    refusal(decrypt(&client, decryption(&name, Mechanism::AesGcm, &[0; 12], &[0; 50])).await)
        .is(Code::InvalidArgument, "FIELD_INVALID")
        .with("field", "initialization_vector");

    let padded = encrypt(&client, encryption(&name, Mechanism::AesCbcPad, b"a plaintext"))
        .await
        .expect("a ciphertext");
    let mut messages = std::collections::BTreeSet::new();
    let (iv, good) = (&padded.initialization_vector, &padded.ciphertext);
    for wrong in [
        &good[..15],
        &[],
        &[&good[..], &[0]].concat(),
        &[&good[..], &[0; 16]].concat(),
    ] {
        let refused = refusal(decrypt(&client, decryption(&name, Mechanism::AesCbcPad, iv, wrong)).await)
            .is(Code::InvalidArgument, "DECRYPTION_FAILED");
        messages.insert(refused.message);
    }
    for mechanism in [Mechanism::AesCbc, Mechanism::AesEcb] {
        let iv: &[u8] = if mechanism == Mechanism::AesCbc { iv } else { &[] };
        let refused = refusal(decrypt(&client, decryption(&name, mechanism, iv, &[0; 17])).await)
            .is(Code::InvalidArgument, "DECRYPTION_FAILED");
        messages.insert(refused.message);
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    for member in gateway.cluster_status().await.members {
        assert_eq!(member.worker_starts, 1, "{}", member.name);
    }
    let dry = EncryptRequest {
        dry_run: true,
        ..encryption(&name, Mechanism::AesCtr, b"text")
    };
    let answer = encrypt(&client, dry).await.expect("a dry run");
    assert!(answer.ciphertext.is_empty() && answer.initialization_vector.is_empty());
}

//! Taking a ciphertext off one key and putting it under another.

use portcullis_client::{
    Client, Code,
    v1::{
        DecryptRequest, EncryptionContext, KeyOperation, KeyProtection, KeyType, Mechanism, ReEncryptRequest,
        ReEncryptResponse, decrypt_request, encrypt_request,
        re_encrypt_request::{DestinationAuthenticated, SourceAuthenticated},
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, TestCluster, Wish, crc32c, create_key, create_ring, decrypt, encrypt,
    encrypt_request as encryption, refusal,
};
use tonic::Status;

fn request(from: &str, ciphertext: &[u8], to: &str) -> ReEncryptRequest {
    ReEncryptRequest {
        source_name: from.to_owned(),
        ciphertext: ciphertext.to_vec().into(),
        destination_name: to.to_owned(),
        ..Default::default()
    }
}

async fn re_encrypt(client: &Client, request: ReEncryptRequest) -> Result<ReEncryptResponse, Status> {
    Ok(client.crypto().re_encrypt(request).await?.into_inner())
}

fn context(value: &str) -> EncryptionContext {
    EncryptionContext {
        values: [("tenant".to_owned(), value.to_owned())].into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_moves_between_keys_and_contexts() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let spec = KeySpec::wrapped(KeyType::Aes128, &[]);
        let old = create_key(&client, transport, "old", spec).await.name;
        let new = create_key(&client, transport, "new", KeySpec::AES_256).await.name;
        for (from, to) in [(&old, &new), (&new, &old), (&new, &new)] {
            for plaintext in [&b""[..], b"a plaintext", &[0x77; 70_000]] {
                let given = encryption(from, plaintext, b"");
                let given = portcullis_client::v1::EncryptRequest {
                    authenticated: Some(encrypt_request::Authenticated::EncryptionContext(context("one"))),
                    ..given
                };
                let before = client
                    .crypto()
                    .encrypt(given)
                    .await
                    .expect("a ciphertext")
                    .into_inner()
                    .ciphertext;
                let data = b"other data".to_vec();
                let asked = ReEncryptRequest {
                    source_authenticated: Some(SourceAuthenticated::SourceEncryptionContext(context("one"))),
                    destination_authenticated: Some(DestinationAuthenticated::DestinationAssociatedData(
                        data.clone().into(),
                    )),
                    ciphertext_crc32c: Some(crc32c(&before)),
                    destination_associated_data_crc32c: Some(crc32c(&data)),
                    ..request(from, &before, to)
                };
                let after = re_encrypt(&client, asked.clone()).await.expect("a ciphertext");
                assert_eq!(after.source_name, format!("{from}/versions/1"));
                assert_eq!(after.destination_name, format!("{to}/versions/1"));
                assert_eq!(after.ciphertext_crc32c, crc32c(&after.ciphertext));
                assert!(after.verified_ciphertext_crc32c && after.verified_destination_associated_data_crc32c);
                assert_ne!(after.ciphertext, before);
                let decrypted = decrypt(&client, to, &after.ciphertext, &data)
                    .await
                    .expect("the plaintext");
                assert_eq!(decrypted.plaintext, plaintext);
                refusal(decrypt(&client, to, &after.ciphertext, b"").await)
                    .is(Code::InvalidArgument, "DECRYPTION_FAILED");

                // And back under the context.
                let back = ReEncryptRequest {
                    source_authenticated: Some(SourceAuthenticated::SourceAssociatedData(data.into())),
                    destination_authenticated: Some(DestinationAuthenticated::DestinationEncryptionContext(context(
                        "one",
                    ))),
                    ..request(to, &after.ciphertext, from)
                };
                let back = re_encrypt(&client, back).await.expect("a ciphertext");
                let asked = DecryptRequest {
                    name: from.clone(),
                    ciphertext: back.ciphertext,
                    authenticated: Some(decrypt_request::Authenticated::EncryptionContext(context("one"))),
                    ..Default::default()
                };
                let decrypted = client
                    .crypto()
                    .decrypt(asked)
                    .await
                    .expect("the plaintext")
                    .into_inner();
                assert_eq!(decrypted.plaintext, plaintext);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_source_has_one_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let (one, two) = (
        create_key(&client, "ring", "one", KeySpec::AES_256).await.name,
        create_key(&client, "ring", "two", KeySpec::AES_256).await.name,
    );
    let good = encrypt(&client, &one, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext
        .to_vec();
    let stranger = encrypt(&client, &two, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext
        .to_vec();
    let mut messages = std::collections::BTreeSet::new();
    let mut wrong = vec![Vec::new(), good[..40].to_vec(), stranger];
    for at in [0, 5, 20, 21, 25, 40, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        wrong.push(changed);
    }
    for wrong in wrong {
        let refused = refusal(re_encrypt(&client, request(&one, &wrong, &two)).await)
            .is(Code::InvalidArgument, "DECRYPTION_FAILED");
        messages.insert(refused.message);
    }
    let other_data = ReEncryptRequest {
        source_authenticated: Some(SourceAuthenticated::SourceAssociatedData(vec![1].into())),
        ..request(&one, &good, &two)
    };
    messages.insert(
        refusal(re_encrypt(&client, other_data).await)
            .is(Code::InvalidArgument, "DECRYPTION_FAILED")
            .message,
    );
    assert_eq!(messages.len(), 1, "{messages:?}");

    let garbled = ReEncryptRequest {
        ciphertext_crc32c: Some(0),
        ..request(&one, &good, &two)
    };
    refusal(re_encrypt(&client, garbled).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let dry = ReEncryptRequest {
        dry_run: true,
        ..request(&one, &good, &two)
    };
    assert!(re_encrypt(&client, dry).await.expect("a dry run").ciphertext.is_empty());
    refusal(re_encrypt(&client, request(&one, &good, "keyRings/ring/keys/nobody")).await)
        .is(Code::NotFound, "KEY_NOT_FOUND");
    let signer = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    for (from, to) in [(&one, &signer), (&signer, &one)] {
        refusal(re_encrypt(&client, request(from, &good, to)).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_permissions_stand_in_the_audit_log_and_each_may_be_missing() {
    let cluster = TestCluster::new();
    cluster.add_policies(
        r#"@id("takes")
permit (principal == Principal::"spiffe://portcullis.dev/taker", action == Action::"reencrypt.from", resource);
@id("gives")
permit (principal == Principal::"spiffe://portcullis.dev/giver", action == Action::"reencrypt.to", resource);
"#,
    );
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    for ring in ["from", "to"] {
        create_ring(&client, ring).await;
        create_key(&client, ring, "aes", KeySpec::AES_256).await;
    }
    let (from, to) = ("keyRings/from/keys/aes", "keyRings/to/keys/aes");
    let ciphertext = encrypt(&client, from, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext;
    let moved = ReEncryptRequest {
        destination_authenticated: Some(DestinationAuthenticated::DestinationEncryptionContext(context("new"))),
        ..request(from, &ciphertext, to)
    };
    re_encrypt(&client, moved.clone()).await.expect("a ciphertext");
    for (who, missing) in [("taker", "reencrypt.to"), ("giver", "reencrypt.from")] {
        let uri = format!("spiffe://portcullis.dev/{who}");
        let identity = cluster.authority().client(Wish::of(&uri), &cluster.pki("ca.pem"));
        let client = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
        refusal(re_encrypt(&client, moved.clone()).await)
            .is(Code::PermissionDenied, "ACCESS_DENIED")
            .with("action", missing);
    }
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let entries: Vec<_> = log
        .outcomes()
        .filter(|entry| entry["action"] == "reencrypt.from")
        .collect();
    let [done, half, none] = entries[..] else {
        panic!("{} entries", entries.len())
    };
    assert_eq!(done["outcome"], "OK");
    assert_eq!(done["resource"], format!("{from}/versions/1"));
    let also = &done["also"][0];
    assert_eq!(
        (&also["action"], &also["allowed"]),
        (&"reencrypt.to".into(), &true.into())
    );
    assert_eq!(also["resource"], format!("{to}/versions/1"));
    assert_eq!(also["context"]["tenant"], "new");
    assert_eq!(
        (&half["outcome"], &half["rule"]),
        (&"ACCESS_DENIED".into(), &"takes".into())
    );
    assert_eq!(none["outcome"], "ACCESS_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_on_two_members_have_no_step_in_common() {
    const GCM: [(KeyOperation, Mechanism); 2] = [
        (KeyOperation::Encrypt, Mechanism::AesGcm),
        (KeyOperation::Decrypt, Mechanism::AesGcm),
    ];
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let resident = KeySpec {
        protection: KeyProtection::Resident,
        allow_single_replica: true,
        ..KeySpec::wrapped(KeyType::Aes256, &GCM)
    };
    // A dozen keys on three members: some share one, some do not.
    let mut keys = Vec::new();
    for number in 0..12 {
        let key = create_key(&client, "ring", &format!("resident-{number}"), resident).await;
        let home = key.primary.expect("a version").members;
        keys.push((key.name, home));
    }
    let (first, home) = &keys[0];
    let ciphertext = encrypt(&client, first, b"a plaintext", b"")
        .await
        .expect("a ciphertext")
        .ciphertext;
    let elsewhere = keys
        .iter()
        .find(|(_, other)| other != home)
        .expect("a key on another member");
    refusal(re_encrypt(&client, request(first, &ciphertext, &elsewhere.0)).await)
        .is(Code::Unimplemented, "MECHANISM_UNSUPPORTED")
        .naming("no member holds together");
    let beside = keys[1..]
        .iter()
        .find(|(_, other)| other == home)
        .expect("another key on that member");
    let wrapped = create_key(&client, "ring", "wrapped", KeySpec::AES_256).await.name;
    for to in [&beside.0, &wrapped] {
        let moved = re_encrypt(&client, request(first, &ciphertext, to))
            .await
            .expect("a ciphertext");
        let decrypted = decrypt(&client, to, &moved.ciphertext, b"")
            .await
            .expect("the plaintext");
        assert_eq!(decrypted.plaintext, &b"a plaintext"[..]);
    }
}

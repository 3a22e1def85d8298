//! Requests that are wrong.

use portcullis_client::{
    Code,
    v1::{
        DecryptRequest, GetKeyRequest, GetKeyRingRequest, GetMemberRequest, Key, MemberState, SignRequest,
        UpdateKeyRequest, VerifyRequest, verify_request,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, MEMBERS, TestCluster, create_key, create_ring, encrypt_request, message_request, refusal, sign,
};
use prost::Message;

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_over_the_limit_is_refused_with_the_limit_and_one_at_the_limit_is_not() {
    let cluster = TestCluster::new();
    let limit = 1 << 20;
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let signer = create_key(&client, transport, "ec", KeySpec::EC_P256).await.name;
        let data = create_key(&client, transport, "aes", KeySpec::AES_256).await.name;
        let too_large = |refused: portcullis_softhsm_tests::Refusal| {
            refused
                .is(Code::InvalidArgument, "PAYLOAD_TOO_LARGE")
                .with("limit", limit)
                .with("actual", limit + 1);
        };
        let send = async |length| client.crypto().sign(message_request(&signer, &vec![7; length])).await;
        send(limit).await.expect("a signature of the largest message");
        too_large(refusal(send(limit + 1).await));

        let send = async |length| {
            client
                .crypto()
                .encrypt(encrypt_request(&data, &vec![7; length], b""))
                .await
        };
        let ciphertext = send(limit)
            .await
            .expect("the largest plaintext")
            .into_inner()
            .ciphertext;
        let plaintext = portcullis_softhsm_tests::decrypt(&client, &data, &ciphertext, b"")
            .await
            .expect("decrypted");
        assert_eq!(plaintext.plaintext.len(), limit);
        too_large(refusal(send(limit + 1).await));

        let send = async |length| {
            client
                .crypto()
                .encrypt(encrypt_request(&data, b"", &vec![7; length]))
                .await
        };
        send(limit).await.expect("the largest associated data");
        too_large(refusal(send(limit + 1).await));

        let request = VerifyRequest {
            name: signer.clone(),
            input: Some(verify_request::Input::Message(vec![7; limit + 1].into())),
            signature: vec![0; 64].into(),
            ..Default::default()
        };
        too_large(refusal(client.crypto().verify(request).await));
    }
    all_ready(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_four_mebibytes_is_refused_before_it_is_read() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let name = create_key(&client, transport, "ec", KeySpec::EC_P256).await.name;
        let answer = client
            .crypto()
            .sign(message_request(&name, &vec![7; (4 << 20) + 1]))
            .await;
        refusal(answer).is(Code::OutOfRange, "REQUEST_TOO_LARGE");
        sign(&client, &name, b"a message")
            .await
            .expect("the connection goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let wire = gateway.wire().await;
    let methods = [
        "KeyService/CreateKeyRing",
        "KeyService/CreateKey",
        "KeyService/GetKey",
        "KeyService/ListKeys",
        "KeyService/GetPublicKey",
        "CryptoService/Sign",
        "CryptoService/Verify",
        "CryptoService/Encrypt",
        "CryptoService/Decrypt",
        "CryptoService/GenerateRandom",
        "ClusterService/ListMembers",
    ];
    let truncated = message_request("keyRings/ring/keys/key", b"a message").encode_to_vec();
    let not_utf8: &[u8] = &[0x0a, 0x02, 0xff, 0xfe];
    let rubbish: [&[u8]; 5] = [
        &[0xff; 64],
        &[0x0a, 0xff],
        &[0x07],
        &truncated[..truncated.len() - 1],
        not_utf8,
    ];
    for method in methods {
        for bytes in rubbish {
            // ListMembers has no fields, and what a message does not know it skips.
            if method == "ClusterService/ListMembers" && bytes == not_utf8 {
                continue;
            }
            let answer = wire.call(&format!("portcullis.v1.{method}"), bytes.to_vec()).await;
            assert!(answer.is_err(), "{method} took {bytes:02x?}");
            refusal(answer).is(Code::InvalidArgument, "REQUEST_MALFORMED");
        }
    }
    all_ready(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    create_key(&client, "ring", "ec", KeySpec::EC_P256).await;
    let get = async |name: &str| client.keys().get_key(GetKeyRequest { name: name.to_owned() }).await;
    refusal(get("keyRings/ring/keys/absent").await).is(Code::NotFound, "KEY_NOT_FOUND");
    let get = async |name: &str| {
        client
            .keys()
            .get_key_ring(GetKeyRingRequest { name: name.to_owned() })
            .await
    };
    refusal(get("keyRings/absent").await).is(Code::NotFound, "KEY_RING_NOT_FOUND");
    for (name, reason) in [
        ("keyRings/ring/keys/absent", "KEY_NOT_FOUND"),
        ("keyRings/absent/keys/ec", "KEY_NOT_FOUND"),
        ("keyRings/ring/keys/absent/versions/1", "KEY_NOT_FOUND"),
        ("keyRings/ring/keys/ec/versions/2", "KEY_VERSION_NOT_FOUND"),
    ] {
        let refused = refusal(sign(&client, name, b"a message").await);
        assert_eq!(refused.code, Code::NotFound, "{refused:?}");
        let known = refused.reason == reason || refused.reason == "KEY_RING_NOT_FOUND" && name.contains("Rings/absent");
        assert!(known, "{name}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_numbers_are_refused_and_unknown_fields_are_not() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let request = SignRequest {
        mechanism: 9999,
        ..message_request(&name, b"a message")
    };
    let refused = refusal(client.crypto().sign(request).await);
    assert_eq!(refused.code, Code::InvalidArgument, "{refused:?}");
    let mut request = portcullis_softhsm_tests::key_request("ring", "new", KeySpec::EC_P256);
    for number in [-1, 0, 9999] {
        request.key.as_mut().expect("the key").r#type = number;
        refusal(client.keys().create_key(request.clone()).await).is(Code::InvalidArgument, "FIELD_INVALID");
    }
    // Field 1000 as a newer client might send it.
    let mut bytes = GetKeyRequest { name }.encode_to_vec();
    bytes.extend([0xc2, 0x3e, 0x01, 0x00]);
    gateway
        .wire()
        .await
        .call("portcullis.v1.KeyService/GetKey", bytes)
        .await
        .expect("the key");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_was_expected_what_was_found_and_what_to_do() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let says = |refused: portcullis_softhsm_tests::Refusal, words: &[&str]| {
        for word in words {
            assert!(refused.message.contains(word), "\"{}\" without {word}", refused.message);
        }
    };
    let mut odd = portcullis_softhsm_tests::key_request("ring", "new", KeySpec::EC_P256);
    odd.request_id = "seven".to_owned();
    says(
        refusal(client.keys().create_key(odd).await),
        &["request_id", "expected a UUID", "found \"seven\""],
    );
    let request = UpdateKeyRequest {
        key: Some(Key {
            name: name.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    says(
        refusal(client.keys().update_key(request).await),
        &["update_mask", "expected the fields", "found none"],
    );
    let stale = UpdateKeyRequest {
        key: Some(Key {
            name: name.clone(),
            etag: "W/abc".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        ..Default::default()
    };
    says(
        refusal(client.keys().update_key(stale).await),
        &["etag", "expected", "found \"W/abc\""],
    );
    says(
        refusal(client.keys().update_key(UpdateKeyRequest::default()).await),
        &["key", "expected a value", "found none"],
    );
    let request = DecryptRequest {
        name: name.clone(),
        ciphertext: vec![7; 80].into(),
        initialization_vector: vec![7; 12].into(),
        ..Default::default()
    };
    says(
        refusal(client.crypto().decrypt(request).await),
        &[
            "initialization_vector",
            "AES_GCM has it in the ciphertext",
            "leave it out",
        ],
    );
    let request = GetMemberRequest { name: "a".to_owned() };
    says(
        refusal(client.cluster().get_member(request).await),
        &["members/{member}", "found \"a\""],
    );
    let request = GetMemberRequest {
        name: "members/zebra".to_owned(),
    };
    says(
        refusal(client.cluster().get_member(request).await),
        &["no member", "ListMembers"],
    );
}

async fn all_ready(gateway: &Gateway) {
    for member in MEMBERS {
        let member = gateway.member(member).await;
        assert!(
            member.state() == MemberState::Ready && member.worker_starts == 1,
            "{}: {}",
            member.name,
            member.reason
        );
    }
}

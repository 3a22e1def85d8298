//! Who is not named is denied, and a grant ends where it ends.

use portcullis_client::{
    Code,
    v1::{
        CreateKeyRingRequest, EncryptRequest, GenerateRandomRequest, GetKeyRequest, ListKeyRingsRequest,
        ListMembersRequest,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, TestCluster, Wish, create_key, create_ring, key_request, refusal, sign,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_rule_is_denied_and_learns_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "ec", KeySpec::EC_P256).await;
    create_key(&developer, "ring", "aes", KeySpec::AES_256).await;

    let stranger = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/developer2"), &cluster.pki("ca.pem"));
    let unnamed = Wish {
        uri: None,
        ..Wish::DEVELOPER
    };
    let unnamed = cluster.authority().client(unnamed, &cluster.pki("ca.pem"));
    for identity in [stranger, unnamed] {
        let client = gateway
            .tls_client_as(&identity.credentials())
            .await
            .expect("a connection");
        let mut answers = Vec::new();
        for name in [
            "keyRings/ring/keys/ec",
            "keyRings/ring/keys/absent",
            "keyRings/absent/keys/ec",
        ] {
            let answer = client.keys().get_key(GetKeyRequest { name: name.to_owned() }).await;
            answers.push(refusal(answer).is(Code::PermissionDenied, "ACCESS_DENIED"));
            let answer = sign(&client, name, b"a message").await;
            answers.push(refusal(answer).is(Code::PermissionDenied, "ACCESS_DENIED"));
        }
        let request = EncryptRequest {
            name: "keyRings/ring/keys/aes".to_owned(),
            ..Default::default()
        };
        answers.push(refusal(client.crypto().encrypt(request).await).is(Code::PermissionDenied, "ACCESS_DENIED"));
        let ring = CreateKeyRingRequest {
            key_ring_id: "theirs".to_owned(),
            ..Default::default()
        };
        answers.push(refusal(client.keys().create_key_ring(ring).await).is(Code::PermissionDenied, "ACCESS_DENIED"));
        let random = portcullis_client::v1::GenerateRandomRequest { length_bytes: 16 };
        answers
            .push(refusal(client.crypto().generate_random(random).await).is(Code::PermissionDenied, "ACCESS_DENIED"));
        for answer in &answers {
            assert!(answer.retry_after.is_none(), "{answer:?}");
        }
        // A key that exists and one that does not are refused alike.
        assert_eq!(
            answers[0].message.replace("/keys/ec", "/keys/absent"),
            answers[2].message
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_allows_its_role_in_its_rings_to_its_principals() {
    let cluster = TestCluster::new();
    cluster.grant(
        r#"
        name = "payments"
        role = "signer"
        principals = ["spiffe://portcullis.dev/payments/*"]
        rings = ["payments"]
        "#,
    );
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    for ring in ["payments", "other"] {
        create_ring(&developer, ring).await;
        create_key(&developer, ring, "ec", KeySpec::EC_P256).await;
        create_key(&developer, ring, "aes", KeySpec::AES_256).await;
    }
    let identity = |uri: &str| cluster.authority().client(Wish::of(uri), &cluster.pki("ca.pem"));
    let teller = identity("spiffe://portcullis.dev/payments/teller");
    let client = gateway
        .tls_client_as(&teller.credentials())
        .await
        .expect("a connection");
    sign(&client, "keyRings/payments/keys/ec", b"a message")
        .await
        .expect("a signature");
    let read = GetKeyRequest {
        name: "keyRings/payments/keys/aes".to_owned(),
    };
    client.keys().get_key(read).await.expect("a key to read");
    let rings = client
        .keys()
        .list_key_rings(ListKeyRingsRequest::default())
        .await
        .expect("rings")
        .into_inner();
    assert_eq!(
        rings.key_rings.into_iter().map(|ring| ring.name).collect::<Vec<_>>(),
        ["keyRings/payments"]
    );

    let denied = |refused: portcullis_softhsm_tests::Refusal| drop(refused.is(Code::PermissionDenied, "ACCESS_DENIED"));
    denied(refusal(sign(&client, "keyRings/other/keys/ec", b"a message").await));
    let encrypt = EncryptRequest {
        name: "keyRings/payments/keys/aes".to_owned(),
        ..Default::default()
    };
    denied(refusal(client.crypto().encrypt(encrypt).await));
    let create = key_request("payments", "new", KeySpec::EC_P256);
    denied(refusal(client.keys().create_key(create).await));
    denied(refusal(
        client
            .crypto()
            .generate_random(GenerateRandomRequest { length_bytes: 1 })
            .await,
    ));
    denied(refusal(client.cluster().list_members(ListMembersRequest {}).await));
    // A pattern's prefix ends where it ends.
    for uri in [
        "spiffe://portcullis.dev/payments",
        "spiffe://portcullis.dev/paymentsx/teller",
        "spiffe://portcullis.dev/PAYMENTS/teller",
    ] {
        let other = identity(uri);
        let client = gateway.tls_client_as(&other.credentials()).await.expect("a connection");
        denied(refusal(sign(&client, "keyRings/payments/keys/ec", b"a message").await));
    }
}

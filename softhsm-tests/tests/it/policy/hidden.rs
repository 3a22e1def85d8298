//! A key that must not be seen: whether it exists is told to nobody who may not know.

use super::client_of;
use portcullis_client::{
    Client, Code,
    v1::{GetKeyRequest, GetPublicKeyRequest, ListKeysRequest},
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, Refusal, TestCluster, create_key, create_ring, key_request, refusal, sign,
};

const POLICIES: &str = r#"
@id("open keys")
permit (
    principal == Principal::"spiffe://portcullis.dev/guest",
    action in [Action::"sign", Action::"key.read"],
    resource is Key in KeyRing::"ring"
)
when { resource.hasTag("open") };

@id("the list")
permit (principal == Principal::"spiffe://portcullis.dev/lister", action == Action::"key.read", resource in KeyRing::"ring");

@id("but not the closed ones")
forbid (principal == Principal::"spiffe://portcullis.dev/lister", action, resource is Key)
unless { resource.hasTag("open") };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_must_not_be_seen_is_refused_like_one_that_does_not_exist() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    cluster.grant(
        r#"
        name = "readers"
        role = "reader"
        principals = ["spiffe://portcullis.dev/reader"]
        rings = ["ring"]
        "#,
    );
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "closed", KeySpec::EC_P256).await;
    let mut open = key_request("ring", "open", KeySpec::EC_P256);
    open.key
        .as_mut()
        .expect("a key")
        .labels
        .insert("open".to_owned(), String::new());
    developer.keys().create_key(open).await.expect("a key");

    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    sign(&guest, "keyRings/ring/keys/open", b"m")
        .await
        .expect("a signature");
    let closed = answers(&guest, "keyRings/ring/keys/closed").await;
    let absent = answers(&guest, "keyRings/ring/keys/absent").await;
    for (closed, absent) in closed.iter().zip(&absent) {
        let same = |refusal: &Refusal, key: &str| {
            let metadata: Vec<_> = refusal
                .metadata
                .iter()
                .filter(|(name, _)| *name != "request_id")
                .collect();
            (
                refusal.code,
                refusal.reason.clone(),
                refusal.message.replace(key, "?"),
                format!("{metadata:?}"),
                refusal.retry_after,
            )
        };
        assert_eq!(closed.reason, "ACCESS_DENIED");
        assert_eq!(same(closed, "closed"), same(absent, "absent"));
    }
    // Nor is a ring that does not exist told apart.
    for answer in answers(&guest, "keyRings/nowhere/keys/closed").await {
        answer.is(Code::PermissionDenied, "ACCESS_DENIED");
    }

    // Who may read the ring's keys is told.
    let reader = client_of(&cluster, &gateway, "spiffe://portcullis.dev/reader").await;
    let missing = GetKeyRequest {
        name: "keyRings/ring/keys/absent".to_owned(),
    };
    refusal(reader.keys().get_key(missing).await).is(Code::NotFound, "KEY_NOT_FOUND");
    refusal(sign(&reader, "keyRings/ring/keys/absent", b"m").await).is(Code::PermissionDenied, "ACCESS_DENIED");

    // A list shows what its reader may see.
    let lister = client_of(&cluster, &gateway, "spiffe://portcullis.dev/lister").await;
    assert_eq!(listed(&lister).await, ["keyRings/ring/keys/open"]);
    assert_eq!(
        listed(&reader).await,
        ["keyRings/ring/keys/closed", "keyRings/ring/keys/open"]
    );
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    refusal(guest.keys().list_keys(request).await).is(Code::PermissionDenied, "ACCESS_DENIED");

    // Nor does a record that was tampered with tell that there is one.
    gateway.stop();
    Database::of(&cluster).disturb("keys", "purpose", "ring", "closed");
    let gateway = Gateway::start(&cluster);
    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    let tampered = refusal(sign(&guest, "keyRings/ring/keys/closed", b"m").await);
    assert_eq!(
        (tampered.reason.as_str(), &tampered.message),
        ("ACCESS_DENIED", &closed[0].message)
    );
    let developer = gateway.tls_client().await;
    refusal(sign(&developer, "keyRings/ring/keys/closed", b"m").await).is(Code::DataLoss, "RECORD_NOT_AUTHENTIC");
    // Whether such a key is open cannot be known, so that only those see its name whose policies do not ask.
    let lister = client_of(&cluster, &gateway, "spiffe://portcullis.dev/lister").await;
    let reader = client_of(&cluster, &gateway, "spiffe://portcullis.dev/reader").await;
    assert_eq!(unauthentic(&lister).await, [""; 0]);
    for client in [&reader, &developer] {
        assert_eq!(unauthentic(client).await, ["keyRings/ring/keys/closed"]);
    }
}

async fn answers(client: &Client, key: &str) -> Vec<Refusal> {
    let name = || key.to_owned();
    vec![
        refusal(sign(client, key, b"m").await),
        refusal(client.keys().get_key(GetKeyRequest { name: name() }).await),
        refusal(
            client
                .keys()
                .get_public_key(GetPublicKeyRequest {
                    name: name(),
                    ..Default::default()
                })
                .await,
        ),
    ]
}

async fn unauthentic(client: &Client) -> Vec<String> {
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let page = client.keys().list_keys(request).await.expect("keys").into_inner();
    page.unauthentic
}

async fn listed(client: &Client) -> Vec<String> {
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let keys = client.keys().list_keys(request).await.expect("keys").into_inner().keys;
    keys.into_iter().map(|key| key.name).collect()
}

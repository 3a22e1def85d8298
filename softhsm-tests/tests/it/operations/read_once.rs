//! What was read and checked once is neither read nor checked again: a caller of lists holds up nobody else.

use portcullis_client::{
    Client, Code,
    v1::{
        Alias, CreateAliasRequest, GetJsonWebKeySetRequest, GetKeyRequest, GetKeyRingRequest, KeyRing,
        ListAliasesRequest, ListKeysRequest, UpdateKeyRingRequest,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, Scrape, TestCluster, Wish, create_key, create_ring, refusal, sign,
};
use prost_types::FieldMask;
use std::{collections::BTreeSet, path::Path, time::Instant};
use tokio::task::JoinSet;

async fn ring(client: &Client) -> KeyRing {
    let request = GetKeyRingRequest {
        name: "keyRings/ring".to_owned(),
    };
    client
        .keys()
        .get_key_ring(request)
        .await
        .expect("the ring")
        .into_inner()
}

/// The key ids of a ring's set.
async fn key_set(client: &Client) -> BTreeSet<String> {
    let request = GetJsonWebKeySetRequest {
        parent: "keyRings/ring".to_owned(),
    };
    let set = client
        .keys()
        .get_json_web_key_set(request)
        .await
        .expect("a set")
        .into_inner();
    let set: serde_json::Value = serde_json::from_str(&set.json).expect("JSON");
    let keys = set["keys"].as_array().expect("keys");
    keys.iter()
        .map(|key| key["kid"].as_str().expect("a kid").to_owned())
        .collect()
}

async fn aliases(client: &Client) -> usize {
    let request = ListAliasesRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let page = client.keys().list_aliases(request).await.expect("a page").into_inner();
    page.aliases.len()
}

/// How many questions the database answered.
fn queries(socket: &Path) -> f64 {
    let count = Scrape::of(socket).sum("portcullis_store_query_duration_seconds_count", &[]);
    count.expect("the count of questions")
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_and_key_sets_are_read_once_and_again_after_a_change() {
    let cluster = TestCluster::new();
    let socket = cluster.serve_metrics();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    for number in 0..20 {
        create_key(&client, "ring", &format!("hmac-{number}"), KeySpec::HMAC_SHA256).await;
    }
    let first = create_key(&client, "ring", "first", KeySpec::EC_P256).await;
    let request = CreateAliasRequest {
        parent: "keyRings/ring".to_owned(),
        alias_id: "alias".to_owned(),
        alias: Some(Alias {
            target: first.name.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.keys().create_alias(request).await.expect("an alias");
    drop(client);
    gateway.stop();

    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    let before = ring(&client).await;
    assert_eq!((key_set(&client).await.len(), aliases(&client).await), (1, 1));
    // The housekeeping asks now and then: 100 calls of each kind make the difference plain.
    let asked = queries(&socket);
    for _ in 0..100 {
        assert!(ring(&client).await == before);
        assert_eq!(key_set(&client).await.len(), 1);
    }
    let more = queries(&socket) - asked;
    assert!(more < 20.0, "200 calls asked the database {more} times");

    // Changes show at once.
    let second = create_key(&client, "ring", "second", KeySpec::EC_P256).await;
    let both = BTreeSet::from([format!("{}/1", first.uid), format!("{}/1", second.uid)]);
    assert_eq!(key_set(&client).await, both);
    let request = UpdateKeyRingRequest {
        key_ring: Some(KeyRing {
            labels: [("stage".to_owned(), "test".to_owned())].into(),
            ..before.clone()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        ..Default::default()
    };
    let updated = client
        .keys()
        .update_key_ring(request.clone())
        .await
        .expect("updated")
        .into_inner();
    assert!(ring(&client).await == updated);
    assert_eq!(updated.labels["stage"], "test");
    // The etag from before is stale.
    refusal(client.keys().update_key_ring(request).await.map(drop)).is(Code::Aborted, "ETAG_MISMATCH");

    // No HSM is asked again either, also not for lists: all three hang.
    for member in portcullis_softhsm_tests::MEMBERS {
        gateway.freeze_worker(member);
    }
    assert!(ring(&client).await == updated);
    assert_eq!((key_set(&client).await, aliases(&client).await), (both, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_count_by_what_they_read_and_hold_up_nobody_else() {
    let cluster = TestCluster::new();
    cluster.grant(
        "name = \"readers\"\nrole = \"reader\"\nprincipals = [\"spiffe://portcullis.dev/lister\"]\nrings = [\"ring\"]",
    );
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    for number in 0..120 {
        create_key(&client, "ring", &format!("key-{number:03}"), KeySpec::HMAC_SHA256).await;
    }
    let signer = create_key(&client, "ring", "signer", KeySpec::EC_P256).await.name;
    drop(client);
    gateway.stop();
    cluster.edit_config(|config| {
        let limits = config
            .entry("limits")
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        limits
            .as_table_mut()
            .expect("[limits]")
            .insert("principal_rate".to_owned(), 100.into());
    });
    let gateway = Gateway::start(&cluster);
    let identity = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/lister"), &cluster.pki("ca.pem"));
    let lister = gateway.tls_client_as(&identity.credentials()).await.expect("a client");
    let list = || {
        let lister = lister.clone();
        async move {
            let request = ListKeysRequest {
                parent: "keyRings/ring".to_owned(),
                page_size: 1000,
                ..Default::default()
            };
            let page = lister.keys().list_keys(request).await?.into_inner();
            assert_eq!(page.keys.len(), 121);
            Ok::<_, portcullis_client::Status>(())
        }
    };
    // A page of 121 keys costs 13 operations: one after another, 100 operations are used up by fewer than 20 of them.
    let mut listed = 0;
    let refused = loop {
        match list().await {
            Ok(()) => listed += 1,
            Err(status) => break refusal::<()>(Err(status)),
        }
        assert!(listed < 200, "lists cost nothing");
    };
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );

    // However many lists come at once, others are served meanwhile.
    let client = gateway.tls_client().await;
    let mut lists = JoinSet::new();
    for _ in 0..200 {
        lists.spawn(list());
    }
    let begun = Instant::now();
    for _ in 0..20 {
        ring(&client).await;
        sign(&client, &signer, b"a message").await.expect("a signature");
    }
    assert!(begun.elapsed() < LONG);
    let request = GetKeyRequest { name: signer };
    client.keys().get_key(request).await.expect("the key");
    lists.join_all().await;
}

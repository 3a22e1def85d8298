//! Labels, masks, etags, filters, and public keys as JSON web keys.

use super::{Verb, apply, key_in};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::pkcs8::DecodePublicKey;
use portcullis_client::{
    Client, Code,
    v1::{
        GetJsonWebKeySetRequest, Key, KeyRing, KeyType, KeyVersionState, ListKeysRequest, PublicKeyFormat,
        RotateKeyRequest, UpdateKeyRequest, UpdateKeyRingRequest,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, TestCluster, create_key, create_ring, key_request, public_key, refusal,
};
use prost_types::FieldMask;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

fn update(key: &Key, pairs: &[(&str, &str)], paths: &[&str]) -> UpdateKeyRequest {
    UpdateKeyRequest {
        key: Some(Key {
            labels: labels(pairs),
            ..key.clone()
        }),
        update_mask: mask(paths),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let made = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let request = update(&made, &[("team", "a"), ("env", "prod")], &["labels"]);
    let labelled = client.keys().update_key(request).await.expect("updated").into_inner();
    assert_eq!(labelled.labels, labels(&[("team", "a"), ("env", "prod")]));
    // Only the label that is named; the others in the request do not matter.
    let request = update(&labelled, &[("team", "b"), ("env", "test")], &["labels.team"]);
    let renamed = client.keys().update_key(request).await.expect("updated").into_inner();
    assert_eq!(renamed.labels, labels(&[("team", "b"), ("env", "prod")]));
    let request = update(&renamed, &[], &["labels.env"]);
    let fewer = client.keys().update_key(request).await.expect("updated").into_inner();
    assert_eq!(fewer.labels, labels(&[("team", "b")]));
    assert_eq!(
        (fewer.uid, fewer.r#type, fewer.primary_version),
        (made.uid.clone(), made.r#type, 1)
    );
    // An old etag, an unknown field, no field, a bad label.
    let stale = refusal(client.keys().update_key(update(&made, &[], &["labels"])).await);
    assert_eq!((stale.code, stale.reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let current = Key {
        etag: String::new(),
        ..made.clone()
    };
    for (request, part) in [
        (update(&current, &[], &["exportable"]), "exportable"),
        (update(&current, &[], &["labels", "nonsense"]), "nonsense"),
        (update(&current, &[], &[]), "update_mask"),
        (update(&current, &[("a b", "c")], &["labels"]), "labels"),
        (update(&current, &[("a b", "c")], &["labels.a b"]), "labels"),
    ] {
        let refused = refusal(client.keys().update_key(request).await);
        assert_eq!(refused.reason, "FIELD_INVALID", "{part}");
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    let ring = UpdateKeyRingRequest {
        key_ring: Some(KeyRing {
            name: "keyRings/ring".to_owned(),
            labels: labels(&[("owner", "payments")]),
            ..Default::default()
        }),
        update_mask: mask(&["labels"]),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let updated = client
        .keys()
        .update_key_ring(ring.clone())
        .await
        .expect("updated")
        .into_inner();
    let again = client
        .keys()
        .update_key_ring(ring)
        .await
        .expect("the same")
        .into_inner();
    assert_eq!(
        (updated.labels, updated.etag.as_str()),
        (labels(&[("owner", "payments")]), "2")
    );
    assert_eq!(again.etag, "2");
    drop(client);
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let request = portcullis_client::v1::GetKeyRequest { name: made.name };
    let found = client.keys().get_key(request).await.expect("the key").into_inner();
    assert_eq!(found.labels, labels(&[("team", "b")]));
}

async fn listed(client: &Client, filter: &str, page_size: i32) -> Vec<String> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            parent: "keyRings/ring".to_owned(),
            page_size,
            page_token,
            filter: filter.to_owned(),
            with_versions: false,
        };
        let page = client.keys().list_keys(request).await.expect("a page").into_inner();
        assert!(page.keys.len() <= page_size as usize);
        found.extend(
            page.keys
                .into_iter()
                .map(|key| key.name.rsplit('/').next().expect("an id").to_owned()),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_out_what_does_not_fit() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for number in 0..12 {
        let spec = if number % 3 == 0 {
            KeySpec::AES_256
        } else {
            KeySpec::EC_P256
        };
        let mut request = key_request("ring", &format!("key-{number:02}"), spec);
        let team = if number % 2 == 0 { "even" } else { "odd numbers" };
        request.key.get_or_insert_with(Key::default).labels = labels(&[("team", team)]);
        let key = client.keys().create_key(request).await.expect("a key").into_inner();
        if number >= 10 {
            apply(&client, &format!("{}/versions/1", key.name), Verb::Disable)
                .await
                .expect("disabled");
        }
    }
    let keys = |numbers: &[u32]| -> Vec<String> { numbers.iter().map(|number| format!("key-{number:02}")).collect() };
    for page_size in [1, 2, 5, 100] {
        for (filter, expected) in [
            ("labels.team=even", keys(&[0, 2, 4, 6, 8, 10])),
            ("labels.team=\"odd numbers\" AND type=AES_256", keys(&[3, 9])),
            ("state=DISABLED", keys(&[10, 11])),
            ("state=ACTIVE AND purpose=ENCRYPT_DECRYPT", keys(&[0, 3, 6, 9])),
            ("labels.colour=red", keys(&[])),
        ] {
            assert_eq!(
                listed(&client, filter, page_size).await,
                expected,
                "{filter} by {page_size}"
            );
        }
    }
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        filter: "colour=red".to_owned(),
        ..Default::default()
    };
    assert_eq!(refusal(client.keys().list_keys(request).await).reason, "FIELD_INVALID");
    // A token of one list is none of another.
    let request = ListKeysRequest {
        parent: "keyRings/ring".to_owned(),
        filter: "labels.team=even".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page = client
        .keys()
        .list_keys(request.clone())
        .await
        .expect("a page")
        .into_inner();
    let other = ListKeysRequest {
        filter: String::new(),
        page_token: page.next_page_token,
        ..request
    };
    assert_eq!(refusal(client.keys().list_keys(other).await).reason, "FIELD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_stay_right_while_keys_are_made() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for number in 0..30 {
        create_key(&client, "ring", &format!("key-{number:02}"), KeySpec::AES_256).await;
    }
    let making = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..30 {
                create_key(&client, "ring", &format!("key-{number:02}-later"), KeySpec::AES_256).await;
            }
        }
    });
    while !making.is_finished() {
        let found = listed(&client, "", 7).await;
        let old: Vec<_> = found.iter().filter(|id| !id.ends_with("later")).collect();
        assert_eq!(old.len(), 30, "a page lost or repeated a key: {found:?}");
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    }
    making.await.expect("no panic");
    assert_eq!(listed(&client, "", 7).await.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_publishes_the_keys_that_verifiers_should_know() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let ec = create_key(&client, "ring", "ec", KeySpec::EC_P256).await;
    let rsa = create_key(&client, "ring", "rsa", KeySpec::RSA_PSS).await;
    let edwards = create_key(&client, "ring", "edwards", KeySpec::ED25519_RESIDENT).await;
    create_key(&client, "ring", "secret", KeySpec::AES_256).await;
    let next = RotateKeyRequest {
        name: ec.name.clone(),
        pre_active: true,
        ..Default::default()
    };
    client.keys().rotate_key(next).await.expect("rotated");
    for (id, state) in [
        ("old", KeyVersionState::Deactivated),
        ("suspended", KeyVersionState::Disabled),
        ("lost", KeyVersionState::Compromised),
    ] {
        key_in(&client, "ring", id, KeySpec::EC_P256, state).await;
    }
    let request = GetJsonWebKeySetRequest {
        parent: "keyRings/ring".to_owned(),
    };
    let set = client
        .keys()
        .get_json_web_key_set(request)
        .await
        .expect("a set")
        .into_inner();
    let set: Value = serde_json::from_str(&set.json).expect("JSON");
    let keys = set["keys"].as_array().expect("keys");
    let kids: BTreeSet<_> = keys
        .iter()
        .map(|key| key["kid"].as_str().expect("a kid").to_owned())
        .collect();
    assert_eq!(keys.len(), 5, "{set}");
    for (key, number) in [(&ec, 1), (&ec, 2), (&rsa, 1), (&edwards, 1)] {
        assert!(kids.contains(&format!("{}/{number}", key.uid)), "{kids:?}");
    }
    let of = |kind: &str| keys.iter().find(|key| key["kty"] == kind).expect("a key of the kind");
    assert_eq!(
        (of("EC")["alg"].as_str(), of("RSA")["alg"].as_str()),
        (Some("ES256"), Some("PS256"))
    );
    assert_eq!(
        (of("OKP")["crv"].as_str(), of("OKP")["use"].as_str()),
        (Some("Ed25519"), Some("sig"))
    );
    // The coordinates are those of the key, by another implementation.
    let own = public_key(&client, &format!("{}/versions/1", ec.name), PublicKeyFormat::Jwk).await;
    let own: Value = serde_json::from_slice(&own.public_key).expect("JSON");
    let der = public_key(&client, &format!("{}/versions/1", ec.name), PublicKeyFormat::Der)
        .await
        .public_key;
    let coordinate = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(own[name].as_str().expect("text"))
            .expect("base64url")
    };
    let (x, y) = (coordinate("x"), coordinate("y"));
    let point = [&[4], x.as_slice(), &y].concat();
    let from_web = p256::PublicKey::from_sec1_bytes(&point).ok();
    assert_eq!(from_web, p256::PublicKey::from_public_key_der(&der).ok());
    let decryption = create_key(&client, "ring", "aes", KeySpec::wrapped(KeyType::Aes128, &[])).await;
    let request = portcullis_client::v1::GetPublicKeyRequest {
        name: decryption.name,
        format: PublicKeyFormat::Jwk as i32,
    };
    assert_eq!(
        refusal(client.keys().get_public_key(request).await).reason,
        "ALGORITHM_MISMATCH"
    );
}

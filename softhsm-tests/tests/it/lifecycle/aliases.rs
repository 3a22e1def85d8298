//! Aliases.

use portcullis_client::{
    Client, Code,
    v1::{Alias, CreateAliasRequest, DeleteAliasRequest, ListAliasesRequest, UpdateAliasRequest},
};
use portcullis_softhsm_tests::{
    Database, Gateway, KeySpec, TestCluster, create_key, create_ring, decrypt, encrypt, refusal, sign,
};
use prost_types::FieldMask;
use rusqlite::types::Value;
use uuid::Uuid;

fn creation(ring: &str, alias: &str, target: &str) -> CreateAliasRequest {
    CreateAliasRequest {
        parent: format!("keyRings/{ring}"),
        alias_id: alias.to_owned(),
        alias: Some(Alias {
            target: target.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn create(client: &Client, ring: &str, alias: &str, target: &str) -> Alias {
    let answer = client.keys().create_alias(creation(ring, alias, target)).await;
    answer
        .unwrap_or_else(|status| panic!("{alias}: {status:?}"))
        .into_inner()
}

fn retargeting(alias: &Alias, target: &str) -> UpdateAliasRequest {
    UpdateAliasRequest {
        alias: Some(Alias {
            target: target.to_owned(),
            ..alias.clone()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["target".to_owned()],
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_stands_for_a_key_wherever_one_is_used() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let first = create_key(&client, "ring", "first", KeySpec::AES_256).await;
    let second = create_key(&client, "ring", "second", KeySpec::AES_256).await;
    let alias = create(&client, "ring", "current", &first.name).await;
    assert_eq!(alias.name, "keyRings/ring/aliases/current");
    let sealed = encrypt(&client, &alias.name, b"plaintext", b"")
        .await
        .expect("encrypted");
    assert_eq!(sealed.name, format!("{}/versions/1", first.name));
    let answer = client.keys().update_alias(retargeting(&alias, &second.name)).await;
    let moved = answer.expect("moved").into_inner();
    assert_eq!(moved.target, second.name);
    assert_ne!(moved.etag, alias.etag);
    let resealed = encrypt(&client, &alias.name, b"plaintext", b"")
        .await
        .expect("encrypted");
    assert_eq!(resealed.name, format!("{}/versions/1", second.name));
    // What was sealed by the alias is opened by the key that it stood for then.
    assert!(decrypt(&client, &first.name, &sealed.ciphertext, b"").await.is_ok());
    let refused = refusal(decrypt(&client, &alias.name, &sealed.ciphertext, b"").await);
    assert_eq!(refused.reason, "DECRYPTION_FAILED");
    drop(client);
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    assert!(decrypt(&client, &alias.name, &resealed.ciphertext, b"").await.is_ok());
    let delete = DeleteAliasRequest {
        name: alias.name.clone(),
        ..Default::default()
    };
    client.keys().delete_alias(delete.clone()).await.expect("deleted");
    let refused = refusal(encrypt(&client, &alias.name, b"plaintext", b"").await);
    assert_eq!(refused.code, Code::NotFound);
    assert_eq!(
        refusal(client.keys().delete_alias(delete).await).reason,
        "RESOURCE_NOT_FOUND"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_of_a_version_keeps_to_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let first = format!("{}/versions/1", key.name);
    let pinned = create(&client, "ring", "pinned", &first).await;
    let following = create(&client, "ring", "following", &key.name).await;
    let request = portcullis_client::v1::RotateKeyRequest {
        name: key.name.clone(),
        ..Default::default()
    };
    client.keys().rotate_key(request).await.expect("rotated");
    assert_eq!(
        sign(&client, &pinned.name, b"message").await.expect("signed").name,
        first
    );
    let second = format!("{}/versions/2", key.name);
    assert_eq!(
        sign(&client, &following.name, b"message").await.expect("signed").name,
        second
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_and_stale_requests_are_refused_and_repeated_ones_recognised() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    create_ring(&client, "other").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let elsewhere = create_key(&client, "other", "key", KeySpec::EC_P256).await;
    for (request, reason) in [
        (creation("ring", "Bad", &key.name), "INVALID_NAME"),
        (creation("ring", "alias", "nonsense"), "INVALID_NAME"),
        (creation("ring", "alias", &elsewhere.name), "FIELD_INVALID"),
        (creation("ring", "alias", "keyRings/ring/keys/none"), "KEY_NOT_FOUND"),
        (
            creation("ring", "alias", &format!("{}/versions/7", key.name)),
            "KEY_VERSION_NOT_FOUND",
        ),
        (creation("none", "alias", "keyRings/none/keys/key"), "KEY_NOT_FOUND"),
    ] {
        assert_eq!(
            refusal(client.keys().create_alias(request.clone()).await).reason,
            reason,
            "{reason}"
        );
    }
    let request = CreateAliasRequest {
        request_id: Uuid::now_v7().to_string(),
        ..creation("ring", "alias", &key.name)
    };
    let checked = CreateAliasRequest {
        validate_only: true,
        ..request.clone()
    };
    client.keys().create_alias(checked).await.expect("it could be made");
    let made = client
        .keys()
        .create_alias(request.clone())
        .await
        .expect("an alias")
        .into_inner();
    let again = client
        .keys()
        .create_alias(request.clone())
        .await
        .expect("the same")
        .into_inner();
    assert_eq!(again.create_time, made.create_time);
    let other = CreateAliasRequest {
        alias_id: "another".to_owned(),
        ..request
    };
    assert_eq!(
        refusal(client.keys().create_alias(other).await).reason,
        "REQUEST_ID_REUSED"
    );
    let taken = refusal(client.keys().create_alias(creation("ring", "alias", &key.name)).await);
    assert_eq!(
        (taken.code, taken.reason.as_str()),
        (Code::AlreadyExists, "RESOURCE_ALREADY_EXISTS")
    );
    let stale = Alias {
        etag: "7".to_owned(),
        ..made.clone()
    };
    let refused = refusal(client.keys().update_alias(retargeting(&stale, &key.name)).await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Aborted, "ETAG_MISMATCH")
    );
    let unknown = UpdateAliasRequest {
        update_mask: Some(FieldMask {
            paths: vec!["name".to_owned()],
        }),
        ..retargeting(&made, &key.name)
    };
    assert_eq!(
        refusal(client.keys().update_alias(unknown).await).reason,
        "FIELD_INVALID"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_listed_and_a_changed_one_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let mut expected = Vec::new();
    for number in 0..7 {
        expected.push(
            create(&client, "ring", &format!("alias-{number}"), &key.name)
                .await
                .name,
        );
    }
    for page_size in [1, 3, 7, 100] {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListAliasesRequest {
                parent: "keyRings/ring".to_owned(),
                page_size,
                page_token,
            };
            let page = client.keys().list_aliases(request).await.expect("a page").into_inner();
            assert!(page.unauthentic.is_empty());
            found.extend(page.aliases.into_iter().map(|alias| alias.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {page_size}");
    }
    drop(client);
    gateway.stop();
    let body = Database::of(&cluster);
    let changed = body.execute(
        "UPDATE documents SET body = unhex(replace(hex(body), '6B6579', '6B657A')) WHERE id = ?1",
        [Value::Text("alias-3".to_owned())],
    );
    assert_eq!(changed, 1);
    drop(body);
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let refused = refusal(sign(&client, "keyRings/ring/aliases/alias-3", b"message").await);
    assert_eq!(refused.reason, "RECORD_NOT_AUTHENTIC");
    let request = ListAliasesRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let page = client.keys().list_aliases(request).await.expect("a page").into_inner();
    assert_eq!(page.unauthentic, ["keyRings/ring/aliases/alias-3"]);
    assert_eq!(page.aliases.len(), 6);
    assert!(sign(&client, "keyRings/ring/aliases/alias-2", b"message").await.is_ok());
}

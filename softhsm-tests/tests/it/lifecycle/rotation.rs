//! New versions, the primary one, and what stays possible with the others.

use super::{Verb, apply, version};
use portcullis_client::{
    Client, Code,
    v1::{Key, KeyVersionState, ListKeyVersionsRequest, PublicKeyFormat, RotateKeyRequest, SetPrimaryVersionRequest},
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, TestCluster, create_key, create_ring, decrypt, encrypt, public_key, refusal, sign, verifies,
};
use std::collections::BTreeSet;
use uuid::Uuid;

fn rotation(name: &str) -> RotateKeyRequest {
    RotateKeyRequest {
        name: name.to_owned(),
        ..Default::default()
    }
}

pub(super) async fn rotate(client: &Client, name: &str) -> Key {
    client
        .keys()
        .rotate_key(rotation(name))
        .await
        .expect("rotated")
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_protects_with_the_new_version_and_still_reads_what_the_old_ones_made() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let cipher = create_key(&client, "ring", "cipher", KeySpec::AES_256).await;
    let signer = create_key(&client, "ring", "signer", KeySpec::EC_P256).await;
    let mut old = Vec::new();
    for number in 1..=3 {
        let made = encrypt(&client, &cipher.name, b"plaintext", b"")
            .await
            .expect("encrypted");
        assert_eq!(made.name, format!("{}/versions/{number}", cipher.name));
        old.push(made.ciphertext);
        let signature = sign(&client, &signer.name, b"message").await.expect("signed");
        assert_eq!(signature.name, format!("{}/versions/{number}", signer.name));
        let public = public_key(&client, &signature.name, PublicKeyFormat::Der)
            .await
            .public_key;
        assert!(verifies(
            &public,
            signature.mechanism(),
            b"message",
            &signature.signature
        ));
        for key in [&cipher, &signer] {
            let rotated = rotate(&client, &key.name).await;
            assert_eq!(rotated.primary_version, number + 1);
            assert_eq!((rotated.uid.as_str(), rotated.r#type), (key.uid.as_str(), key.r#type));
            assert_ne!(rotated.etag, key.etag);
        }
    }
    drop(client);
    gateway.stop();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    for ciphertext in &old {
        let opened = decrypt(&client, &cipher.name, ciphertext, b"")
            .await
            .expect("decrypted");
        assert_eq!(opened.plaintext, b"plaintext".as_slice());
        assert!(!opened.used_primary);
    }
    // A named version is another key: it opens its own ciphertexts alone.
    let first = format!("{}/versions/1", cipher.name);
    assert!(decrypt(&client, &first, &old[0], b"").await.is_ok());
    let refused = refusal(decrypt(&client, &first, &old[1], b"").await);
    assert_eq!(refused.reason, "DECRYPTION_FAILED");
    // Public keys differ.
    let mut keys = BTreeSet::new();
    for number in 1..=4 {
        let name = format!("{}/versions/{number}", signer.name);
        keys.insert(public_key(&client, &name, PublicKeyFormat::Der).await.public_key);
    }
    assert_eq!(keys.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_can_be_published_before_it_is_used() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let request = RotateKeyRequest {
        pre_active: true,
        ..rotation(&key.name)
    };
    let rotated = client.keys().rotate_key(request).await.expect("rotated").into_inner();
    assert_eq!(rotated.primary_version, 1);
    let second = format!("{}/versions/2", key.name);
    assert_eq!(version(&client, &second).await.state(), KeyVersionState::PreActive);
    let primary = |version| SetPrimaryVersionRequest {
        name: key.name.clone(),
        version,
        ..Default::default()
    };
    let refused = refusal(client.keys().set_primary_version(primary(2)).await);
    assert_eq!(refused.reason, "KEY_STATE_FORBIDS_OPERATION");
    assert_eq!(
        refusal(client.keys().set_primary_version(primary(9)).await).reason,
        "KEY_VERSION_NOT_FOUND"
    );
    apply(&client, &second, Verb::Activate).await.expect("active");
    let chosen = client
        .keys()
        .set_primary_version(primary(2))
        .await
        .expect("primary")
        .into_inner();
    assert_eq!(chosen.primary_version, 2);
    assert_eq!(sign(&client, &key.name, b"message").await.expect("signed").name, second);
    // A version that is named signs too, while it is active.
    let first = format!("{}/versions/1", key.name);
    assert_eq!(sign(&client, &first, b"message").await.expect("signed").name, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rotation_is_made_once_and_a_stale_one_not_at_all() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for (id, spec) in [("wrapped", KeySpec::EC_P256), ("resident", KeySpec::ED25519_RESIDENT)] {
        let key = create_key(&client, "ring", id, spec).await;
        let request = RotateKeyRequest {
            request_id: Uuid::now_v7().to_string(),
            allow_single_replica: spec.allow_single_replica,
            etag: key.etag.clone(),
            ..rotation(&key.name)
        };
        let calls = (0..8).map(|_| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.keys().rotate_key(request).await })
        });
        for call in calls.collect::<Vec<_>>() {
            match call.await.expect("no panic") {
                Ok(answer) => assert_eq!(answer.into_inner().primary_version, 2, "{id}"),
                // The loser of a race is told so, and may repeat its request.
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{id}: {status:?}"),
            }
        }
        let again = client
            .keys()
            .rotate_key(request.clone())
            .await
            .expect("the same")
            .into_inner();
        assert_eq!(again.primary_version, 2, "{id}");
        let stale = RotateKeyRequest {
            request_id: String::new(),
            ..request.clone()
        };
        let refused = refusal(client.keys().rotate_key(stale).await);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Aborted, "ETAG_MISMATCH"),
            "{id}"
        );
        let reused = RotateKeyRequest {
            etag: String::new(),
            ..request
        };
        assert_eq!(
            refusal(client.keys().rotate_key(reused).await).reason,
            "REQUEST_ID_REUSED",
            "{id}"
        );
        assert!(sign(&client, &key.name, b"message").await.is_ok(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_once_lose_nothing_and_leave_no_gap_in_what_works() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::ED25519_RESIDENT).await;
    let calls = (0..6).map(|_| {
        let (client, name) = (client.clone(), key.name.clone());
        tokio::spawn(async move {
            let request = RotateKeyRequest {
                allow_single_replica: true,
                ..rotation(&name)
            };
            client.keys().rotate_key(request).await
        })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.expect("no panic") {
            Ok(_) => made += 1,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    }
    assert!(made >= 1, "nobody won");
    let request = ListKeyVersionsRequest {
        parent: key.name.clone(),
        ..Default::default()
    };
    let versions = client
        .keys()
        .list_key_versions(request)
        .await
        .expect("versions")
        .into_inner()
        .versions;
    assert_eq!(versions.len(), 1 + made);
    for found in versions {
        assert!(sign(&client, &found.name, b"message").await.is_ok(), "{}", found.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_in_pages_and_by_state() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::AES_256).await;
    for _ in 0..6 {
        rotate(&client, &key.name).await;
    }
    for number in [2, 5] {
        apply(&client, &format!("{}/versions/{number}", key.name), Verb::Disable)
            .await
            .expect("disabled");
    }
    for (filter, expected) in [
        ("", vec![1, 2, 3, 4, 5, 6, 7]),
        ("state=DISABLED", vec![2, 5]),
        ("state=COMPROMISED", vec![]),
    ] {
        for page_size in [1, 2, 3, 100] {
            let mut found = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = ListKeyVersionsRequest {
                    parent: key.name.clone(),
                    page_size,
                    page_token,
                    filter: filter.to_owned(),
                };
                let page = client
                    .keys()
                    .list_key_versions(request)
                    .await
                    .expect("a page")
                    .into_inner();
                assert!(page.versions.len() <= page_size as usize);
                found.extend(page.versions.into_iter().map(|version| version.version));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(found, expected, "{filter} by {page_size}");
        }
    }
}

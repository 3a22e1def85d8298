//! The keys that a request reaches beside what it names: what an alias stands for, before and after, and the key of an object.

use super::client_of;
use portcullis_client::{
    Client, Code, Status,
    v1::{
        Alias, CreateAliasRequest, CreateObjectRequest, DataObject, DeleteAliasRequest, ListAliasesRequest,
        StoredObject, UpdateAliasRequest, stored_object::Content,
    },
};
use portcullis_softhsm_tests::{AuditLog, Gateway, KeySpec, TestCluster, create_key, create_ring, refusal, sign};
use prost_types::FieldMask;

const POLICIES: &str = r#"
@id("keeps aliases")
permit (
    principal == Principal::"spiffe://portcullis.dev/keeper",
    action in [Action::"alias.create", Action::"alias.update", Action::"alias.delete", Action::"alias.read"],
    resource in KeyRing::"ring"
);

@id("but not of root")
forbid (
    principal == Principal::"spiffe://portcullis.dev/keeper",
    action in [Action::"alias.create", Action::"alias.update", Action::"alias.delete", Action::"alias.read"],
    resource == Key::"ring/root"
);

@id("signs elsewhere")
permit (principal == Principal::"spiffe://portcullis.dev/guest", action == Action::"sign", resource in KeyRing::"other");

@id("keeps objects, and reads no key")
permit (
    principal == Principal::"spiffe://portcullis.dev/clerk",
    action in [Action::"object.create", Action::"object.update"],
    resource in KeyRing::"ring"
);
"#;

async fn create(client: &Client, alias: &str, target: &str) -> Result<Alias, Status> {
    let request = CreateAliasRequest {
        parent: "keyRings/ring".to_owned(),
        alias_id: alias.to_owned(),
        alias: Some(Alias {
            target: format!("keyRings/ring/keys/{target}"),
            ..Default::default()
        }),
        ..Default::default()
    };
    Ok(client.keys().create_alias(request).await?.into_inner())
}

async fn update(client: &Client, alias: &str, target: &str, validate_only: bool) -> Result<Alias, Status> {
    let request = UpdateAliasRequest {
        alias: Some(Alias {
            name: format!("keyRings/ring/aliases/{alias}"),
            target: format!("keyRings/ring/keys/{target}"),
            ..Default::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["target".to_owned()],
        }),
        validate_only,
        ..Default::default()
    };
    Ok(client.keys().update_alias(request).await?.into_inner())
}

async fn delete(client: &Client, alias: &str, etag: &str, validate_only: bool) -> Result<(), Status> {
    let request = DeleteAliasRequest {
        name: format!("keyRings/ring/aliases/{alias}"),
        etag: etag.to_owned(),
        validate_only,
        ..Default::default()
    };
    client.keys().delete_alias(request).await.map(drop)
}

async fn listed(client: &Client) -> Vec<String> {
    let request = ListAliasesRequest {
        parent: "keyRings/ring".to_owned(),
        ..Default::default()
    };
    let page = client.keys().list_aliases(request).await.expect("a page").into_inner();
    page.aliases.into_iter().map(|alias| alias.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_made_moved_and_deleted_by_those_who_may_with_each_key_that_it_stands_for() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    for key in ["root", "usual", "next"] {
        create_key(&developer, "ring", key, KeySpec::EC_P256).await;
    }
    create(&developer, "of-root", "root").await.expect("an alias");
    let keeper = client_of(&cluster, &gateway, "spiffe://portcullis.dev/keeper").await;

    create(&keeper, "current", "usual").await.expect("an alias");
    update(&keeper, "current", "next", false).await.expect("another target");
    let denied = |answer: Result<Alias, Status>| refusal(answer).is(Code::PermissionDenied, "ACCESS_DENIED");
    denied(create(&keeper, "new", "root").await);
    for validate_only in [true, false] {
        denied(update(&keeper, "current", "root", validate_only).await).naming("keyRings/ring/keys/root");
        // What the alias stands for now is not what the caller named.
        for answer in [
            update(&keeper, "of-root", "usual", validate_only).await.map(drop),
            delete(&keeper, "of-root", "", validate_only).await,
        ] {
            let refused = refusal(answer).is(Code::PermissionDenied, "ACCESS_DENIED");
            let refused = refused.naming("keyRings/ring/aliases/of-root");
            assert!(!refused.message.contains("keys/root"), "{refused:?}");
        }
    }
    assert_eq!(listed(&keeper).await, ["keyRings/ring/aliases/current"]);
    assert_eq!(listed(&developer).await.len(), 2);
    // A check answers as the deletion would.
    for validate_only in [true, false] {
        refusal(delete(&keeper, "current", "1", validate_only).await).is(Code::Aborted, "ETAG_MISMATCH");
    }
    delete(&keeper, "current", "2", true).await.expect("a check");
    delete(&keeper, "current", "2", false).await.expect("a deletion");

    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let moved = log
        .outcomes()
        .find(|entry| entry["action"] == "alias.update" && entry["outcome"] == "OK")
        .expect("an entry");
    assert_eq!(moved["resource"], "keyRings/ring/aliases/current");
    let asked: Vec<_> = moved["also"].as_array().expect("permissions").iter().collect();
    let of: Vec<_> = asked.iter().map(|one| one["resource"].as_str()).collect();
    assert_eq!(of, [Some("keyRings/ring/keys/next"), Some("keyRings/ring/keys/usual")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_no_more_than_its_caller_did() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "secret-project", KeySpec::EC_P256).await;
    create(&developer, "current", "secret-project").await.expect("an alias");
    let guest = client_of(&cluster, &gateway, "spiffe://portcullis.dev/guest").await;
    let answer = async |alias: &str| {
        let name = format!("keyRings/ring/aliases/{alias}");
        let refused = refusal(sign(&guest, &name, b"m").await).is(Code::PermissionDenied, "ACCESS_DENIED");
        refused.message.replace(&name, "?")
    };
    assert_eq!(answer("current").await, answer("absent").await);
    gateway.stop();
    // The log says both: what was named, and what that is.
    let log = AuditLog::read(&cluster.audit_file());
    let entry = log
        .outcomes()
        .find(|entry| entry["named"] == "keyRings/ring/aliases/current")
        .expect("an entry");
    assert_eq!(entry["resource"], "keyRings/ring/keys/secret-project/versions/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_belongs_to_a_key_that_its_keeper_may_read() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "key", KeySpec::EC_P256).await;
    let clerk = client_of(&cluster, &gateway, "spiffe://portcullis.dev/clerk").await;
    let create = async |client: &Client, id: &str, key: &str| {
        let request = CreateObjectRequest {
            parent: "keyRings/ring".to_owned(),
            object_id: id.to_owned(),
            object: Some(StoredObject {
                key: key.to_owned(),
                content: Some(Content::Data(DataObject::default())),
                ..Default::default()
            }),
            ..Default::default()
        };
        client.objects().create_object(request).await
    };
    create(&clerk, "alone", "").await.expect("an object");
    let answers = [
        create(&clerk, "of-key", "keyRings/ring/keys/key").await,
        create(&clerk, "of-absent", "keyRings/ring/keys/absent").await,
    ]
    .map(|answer| {
        let refused = refusal(answer).is(Code::PermissionDenied, "ACCESS_DENIED");
        refused.with("action", "key.read").message.replace("absent", "key")
    });
    assert_eq!(answers[0], answers[1]);
    create(&developer, "of-key", "keyRings/ring/keys/key")
        .await
        .expect("an object");
}

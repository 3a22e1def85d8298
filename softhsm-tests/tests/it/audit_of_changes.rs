//! Each change can be told from its audit entry: every method of the API that changes something has a row here.

use portcullis_client::{
    Client,
    v1::{
        Alias, ChangeKeyVersionStateRequest, CreateAliasRequest, CreateKeyRequest, CreateKeyRingRequest,
        CreateObjectRequest, DataObject, DeleteAliasRequest, DeleteObjectRequest, DeleteRecipientRequest,
        DrainMemberRequest, ExportKeyVersionRequest, Key, KeyOperation, KeyRing, KeyType, Mechanism,
        RenewEphemeralKeyRequest, ResumeMemberRequest, RevokeEphemeralKeysRequest, RollMembersRequest,
        RotateKeyRequest, ScheduleKeyVersionDestructionRequest, SetPrimaryVersionRequest, StoredObject,
        UpdateAliasRequest, UpdateKeyRequest, UpdateKeyRingRequest, UpdateObjectRequest,
        export_key_version_request::Recipient as To, stored_object::Content,
    },
};
use portcullis_proto::FILE_DESCRIPTOR_SET;
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Material, TestCluster, create_ephemeral_key, create_import_job, create_key,
    create_recipient, import, job_import, key_request, refusal,
};
use prost::Message;
use prost_types::{Duration, FieldMask, FileDescriptorSet};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What a method's entry must say.
struct Row {
    method: &'static str,
    action: &'static str,
    resource: String,
    /// `"*"` stands for any text that is not empty.
    details: Value,
    /// Whether an intent stands before the outcome.
    intent: bool,
}

fn row(method: &'static str, action: &'static str, resource: &str, details: Value) -> Row {
    Row {
        method,
        action,
        resource: resource.to_owned(),
        details,
        intent: true,
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn mask(path: &str) -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec![path.to_owned()],
    })
}

fn label(value: &str) -> std::collections::BTreeMap<String, String> {
    [("stage".to_owned(), value.to_owned())].into()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_can_be_told_from_its_entry() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    let mut rows = rings_and_keys(&client).await;
    rows.extend(lives(&client).await);
    rows.extend(aliases(&client).await);
    rows.extend(transfers(&client).await);
    rows.extend(ephemeral(&client).await);
    rows.extend(objects(&client).await);
    rows.extend(members(&client).await);

    let named: BTreeSet<String> = rows.iter().map(|row| row.method.to_owned()).collect();
    let mut expected = BTreeSet::new();
    for method in changing_methods() {
        let served = served(&gateway, &method).await;
        assert!(served || !named.contains(&method), "{method} is not served");
        if served {
            expected.insert(method);
        }
    }
    assert_eq!(named, expected, "each method that changes something has its row");

    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let actions: BTreeSet<&str> = rows.iter().map(|row| row.action).collect();
    let mut outcomes = log
        .outcomes()
        .filter(|entry| entry["details"].is_object() && actions.contains(entry["action"].as_str().unwrap_or_default()));
    for row in &rows {
        let entry = outcomes.next().unwrap_or_else(|| panic!("no entry of {}", row.method));
        let what = format!("{}: {entry}", row.method);
        assert_eq!(entry["action"], row.action, "{what}");
        assert_eq!(entry["resource"], row.resource, "{what}");
        assert_eq!(entry["outcome"], "OK", "{what}");
        assert!(entry["only_checked"].is_null(), "{what}");
        agrees(&row.details, &entry["details"], &what);
        let intents = log
            .entries
            .iter()
            .filter(|intent| intent["phase"] == "intent" && intent["request"] == entry["request"]);
        let intents: Vec<&Value> = intents.collect();
        assert_eq!(intents.len(), usize::from(row.intent), "{what}");
        assert!(intents.iter().all(|intent| intent["details"].is_object()), "{what}");
    }
    assert!(outcomes.next().is_none(), "a change without a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_says_that_nothing_was_done_and_what_was_done_before() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    portcullis_softhsm_tests::create_ring(&client, "ring").await;
    let request_id = Uuid::new_v4().to_string();
    let wanted = |validate_only: bool| CreateKeyRequest {
        validate_only,
        request_id: request_id.clone(),
        ..key_request("ring", "key", KeySpec::EC_P256)
    };
    for validate_only in [true, false, false] {
        client
            .keys()
            .create_key(wanted(validate_only))
            .await
            .expect("a key, or that one could be made");
    }
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let entries: Vec<_> = log
        .outcomes()
        .filter(|entry| entry["action"] == "key.create")
        .map(|entry| (entry["only_checked"].as_bool(), entry["request_id"].as_str()))
        .collect();
    let id = Some(request_id.as_str());
    assert_eq!(entries, [(Some(true), id), (None, id), (None, id)]);
}

async fn rings_and_keys(client: &Client) -> Vec<Row> {
    let (mut keys, ring, key) = (client.keys(), "keyRings/ring", "keyRings/ring/keys/key");
    let create = CreateKeyRingRequest {
        key_ring_id: "ring".to_owned(),
        key_ring: Some(KeyRing {
            labels: label("test"),
            ..Default::default()
        }),
        ..Default::default()
    };
    keys.create_key_ring(create).await.expect("a ring");
    let update = UpdateKeyRingRequest {
        key_ring: Some(KeyRing {
            name: ring.to_owned(),
            labels: label("live"),
            ..Default::default()
        }),
        update_mask: mask("labels"),
        ..Default::default()
    };
    keys.update_key_ring(update).await.expect("an update");
    create_key(client, "ring", "key", KeySpec::EC_P256).await;
    let update = UpdateKeyRequest {
        key: Some(Key {
            name: key.to_owned(),
            labels: label("live"),
            ..Default::default()
        }),
        update_mask: mask("labels.stage"),
        ..Default::default()
    };
    keys.update_key(update).await.expect("an update");
    let rotate = RotateKeyRequest {
        name: key.to_owned(),
        ..Default::default()
    };
    keys.rotate_key(rotate).await.expect("a version");
    let primary = SetPrimaryVersionRequest {
        name: key.to_owned(),
        version: 1,
        ..Default::default()
    };
    keys.set_primary_version(primary)
        .await
        .expect("another primary version");
    let month = 30 * 24 * 3600;
    let made = json!({
        "uid": "*", "type": "EC_P256", "purpose": "SIGN_VERIFY", "permitted_uses": ["SIGN with ECDSA_SHA256"],
        "protection": "WRAPPED", "exportable": false, "labels": {}, "destroy_window": month, "first_version": "ACTIVE",
    });
    let ring_made = json!({"labels": {"stage": "test"}, "least_destroy_window": 1});
    vec![
        row("KeyService/CreateKeyRing", "key_ring.create", ring, ring_made),
        row(
            "KeyService/UpdateKeyRing",
            "key_ring.update",
            ring,
            json!({"labels": {"stage": "live"}}),
        ),
        row("KeyService/CreateKey", "key.create", key, made),
        row(
            "KeyService/UpdateKey",
            "key.update",
            key,
            json!({"labels": {"stage": "live"}, "destroy_window": month}),
        ),
        row(
            "KeyService/RotateKey",
            "key.rotate",
            key,
            json!({"version": 2, "state": "ACTIVE", "primary_version": 2}),
        ),
        row(
            "KeyService/SetPrimaryVersion",
            "key.set_primary",
            &format!("{key}/versions/1"),
            json!({"primary_version": 1, "before": 2}),
        ),
    ]
}

async fn lives(client: &Client) -> Vec<Row> {
    let mut keys = client.keys();
    let rotate = RotateKeyRequest {
        name: "keyRings/ring/keys/key".to_owned(),
        pre_active: true,
        ..Default::default()
    };
    keys.rotate_key(rotate).await.expect("a version");
    let name = "keyRings/ring/keys/key/versions/3";
    let request = || ChangeKeyVersionStateRequest {
        name: name.to_owned(),
        reason: "a test wants it".to_owned(),
        ..Default::default()
    };
    keys.activate_key_version(request()).await.expect("active");
    keys.disable_key_version(request()).await.expect("disabled");
    keys.enable_key_version(request()).await.expect("enabled");
    keys.deactivate_key_version(request()).await.expect("deactivated");
    let schedule = ScheduleKeyVersionDestructionRequest {
        name: name.to_owned(),
        window: Some(Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..Default::default()
    };
    keys.schedule_key_version_destruction(schedule)
        .await
        .expect("scheduled");
    keys.mark_key_version_compromised(request()).await.expect("marked");
    keys.cancel_key_version_destruction(request()).await.expect("cancelled");
    let life = |method, action, details| row(method, action, name, details);
    let rotated = json!({"version": 3, "state": "PRE_ACTIVE", "primary_version": 1});
    vec![
        row("KeyService/RotateKey", "key.rotate", "keyRings/ring/keys/key", rotated),
        life(
            "KeyService/ActivateKeyVersion",
            "key_version.activate",
            json!({"before": "PRE_ACTIVE", "state": "ACTIVE"}),
        ),
        life(
            "KeyService/DisableKeyVersion",
            "key_version.disable",
            json!({"before": "ACTIVE", "state": "DISABLED"}),
        ),
        life(
            "KeyService/EnableKeyVersion",
            "key_version.enable",
            json!({"before": "DISABLED", "state": "ACTIVE"}),
        ),
        life(
            "KeyService/DeactivateKeyVersion",
            "key_version.deactivate",
            json!({"before": "ACTIVE", "state": "DEACTIVATED"}),
        ),
        life(
            "KeyService/ScheduleKeyVersionDestruction",
            "key_version.schedule_destruction",
            json!({"before": "DEACTIVATED", "state": "DESTROY_SCHEDULED", "destroy_time": "*"}),
        ),
        life(
            "KeyService/MarkKeyVersionCompromised",
            "key_version.mark_compromised",
            json!({
                "before": "DESTROY_SCHEDULED", "state": "DESTROY_SCHEDULED", "destroy_time": "*", "compromise_time": "*",
            }),
        ),
        life(
            "KeyService/CancelKeyVersionDestruction",
            "key_version.cancel_destruction",
            json!({"before": "DESTROY_SCHEDULED", "state": "COMPROMISED", "compromise_time": "*"}),
        ),
    ]
}

async fn aliases(client: &Client) -> Vec<Row> {
    let (mut keys, name) = (client.keys(), "keyRings/ring/aliases/current");
    let (key, version) = ("keyRings/ring/keys/key", "keyRings/ring/keys/key/versions/2");
    let create = CreateAliasRequest {
        parent: "keyRings/ring".to_owned(),
        alias_id: "current".to_owned(),
        alias: Some(Alias {
            target: key.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    keys.create_alias(create).await.expect("an alias");
    let update = UpdateAliasRequest {
        alias: Some(Alias {
            name: name.to_owned(),
            target: version.to_owned(),
            ..Default::default()
        }),
        update_mask: mask("target"),
        ..Default::default()
    };
    keys.update_alias(update).await.expect("another target");
    let delete = DeleteAliasRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    keys.delete_alias(delete).await.expect("a deletion");
    vec![
        row("KeyService/CreateAlias", "alias.create", name, json!({"target": key})),
        row(
            "KeyService/UpdateAlias",
            "alias.update",
            name,
            json!({"target": version, "before": key}),
        ),
        row(
            "KeyService/DeleteAlias",
            "alias.delete",
            name,
            json!({"before": version}),
        ),
    ]
}

const WRAPPING: KeySpec = KeySpec::wrapped(KeyType::Aes256, &[(KeyOperation::Wrap, Mechanism::AesKwp)]);

async fn transfers(client: &Client) -> Vec<Row> {
    let mut keys = client.keys();
    let (recipient, key) = ("keyRings/ring/recipients/them", "keyRings/ring/keys/portable");
    let them = Material::generate(KeyType::Rsa2048);
    create_recipient(client, "ring", "them", &them.public_key)
        .await
        .expect("a recipient");
    let mut wanted = key_request("ring", "portable", KeySpec::EC_P256);
    wanted.import_only = true;
    wanted.key.as_mut().expect("a key").exportable = true;
    keys.create_key(wanted).await.expect("a key");
    create_key(client, "ring", "wrapping", WRAPPING).await;
    let job = create_import_job(client, "ring").await;
    let material = Material::generate(KeyType::EcP256);
    let request = job_import(key, &job, &material);
    let wrapped = digest(&request.wrapped_key);
    import(client, request).await.expect("an imported version");
    for to in [
        To::RegisteredRecipient(recipient.to_owned()),
        To::WrappingKey("keyRings/ring/keys/wrapping".to_owned()),
    ] {
        let export = ExportKeyVersionRequest {
            name: key.to_owned(),
            recipient: Some(to),
            ..Default::default()
        };
        keys.export_key_version(export).await.expect("an exported key");
    }
    let delete = DeleteRecipientRequest {
        name: recipient.to_owned(),
        ..Default::default()
    };
    keys.delete_recipient(delete).await.expect("a deletion");
    let fingerprint = digest(&them.public_key);
    let version = format!("{key}/versions/1");
    let made = |r#type: &str, purpose: &str, uses: Value, exportable: bool, first: &str| {
        json!({
            "uid": "*", "type": r#type, "purpose": purpose, "permitted_uses": uses, "protection": "WRAPPED",
            "exportable": exportable, "labels": {}, "destroy_window": 30 * 24 * 3600, "first_version": first,
        })
    };
    vec![
        row(
            "KeyService/CreateRecipient",
            "recipient.create",
            recipient,
            json!({"public_key_sha256": fingerprint}),
        ),
        row(
            "KeyService/CreateKey",
            "key.create",
            key,
            made(
                "EC_P256",
                "SIGN_VERIFY",
                json!(["SIGN with ECDSA_SHA256"]),
                true,
                "PENDING_IMPORT",
            ),
        ),
        row(
            "KeyService/CreateKey",
            "key.create",
            "keyRings/ring/keys/wrapping",
            made("AES_256", "CUSTOM", json!(["WRAP with AES_KWP"]), false, "ACTIVE"),
        ),
        row(
            "KeyService/CreateImportJob",
            "key.import",
            &job.name,
            json!({
                "method": "RSA_OAEP_SHA1_AES_KWP", "wrapping_key_type": "RSA_2048", "expires": "*",
                "public_key_sha256": digest(&job.public_key),
            }),
        ),
        row(
            "KeyService/ImportKeyVersion",
            "key.import",
            &version,
            json!({
                "method": "RSA_OAEP_SHA1_AES_KWP", "import_job": job.name, "wrapped_key_sha256": wrapped,
                "public_key_sha256": digest(&material.public_key),
            }),
        ),
        row(
            "KeyService/ExportKeyVersion",
            "key.export",
            &version,
            json!({"recipient": recipient, "public_key_sha256": fingerprint}),
        ),
        row(
            "KeyService/ExportKeyVersion",
            "key.export",
            &version,
            json!({"recipient": "keyRings/ring/keys/wrapping/versions/1", "key_uid": "*"}),
        ),
        row(
            "KeyService/DeleteRecipient",
            "recipient.delete",
            recipient,
            json!({"public_key_sha256": fingerprint}),
        ),
    ]
}

async fn ephemeral(client: &Client) -> Vec<Row> {
    let mut keys = client.keys();
    let made = create_ephemeral_key(client, "ring", KeySpec::HMAC_SHA256, 60)
        .await
        .expect("a key");
    let renew = RenewEphemeralKeyRequest {
        token: made.token.clone(),
        ..Default::default()
    };
    keys.renew_ephemeral_key(renew).await.expect("a renewed token");
    let revoke = RevokeEphemeralKeysRequest {
        parent: "keyRings/ring".to_owned(),
        principal: "spiffe://portcullis.dev/somebody".to_owned(),
        ..Default::default()
    };
    keys.revoke_ephemeral_keys(revoke).await.expect("a revocation");
    let key = format!("keyRings/ring/keys/ephemeral-{}", made.uid);
    let details = json!({
        "type": "HMAC_SHA256",
        "permitted_uses": ["MAC_SIGN with HMAC_SHA256", "MAC_VERIFY with HMAC_SHA256"],
        "exportable": false, "expires": "*",
    });
    // Nothing is stored that an intent could announce; the entry is on disk before the token leaves.
    let unannounced = |method, action, details| Row {
        intent: false,
        ..row(method, action, &key, details)
    };
    vec![
        unannounced("KeyService/CreateEphemeralKey", "ephemeral_key.create", details.clone()),
        unannounced("KeyService/RenewEphemeralKey", "ephemeral_key.renew", details),
        row(
            "KeyService/RevokeEphemeralKeys",
            "ephemeral_key.revoke",
            "keyRings/ring",
            json!({"owner": "spiffe://portcullis.dev/somebody", "not_before": "*"}),
        ),
    ]
}

async fn objects(client: &Client) -> Vec<Row> {
    let (mut objects, name) = (client.objects(), "keyRings/ring/objects/note");
    let object = |value: &'static [u8]| StoredObject {
        label: b"label".as_slice().into(),
        key: "keyRings/ring/keys/key".to_owned(),
        content: Some(Content::Data(DataObject {
            value: value.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let create = CreateObjectRequest {
        parent: "keyRings/ring".to_owned(),
        object_id: "note".to_owned(),
        object: Some(object(b"first")),
        ..Default::default()
    };
    objects.create_object(create).await.expect("an object");
    let update = UpdateObjectRequest {
        object: Some(StoredObject {
            name: name.to_owned(),
            ..object(b"second")
        }),
        update_mask: mask("data"),
        ..Default::default()
    };
    objects.update_object(update).await.expect("an update");
    let delete = DeleteObjectRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    objects.delete_object(delete).await.expect("a deletion");
    let details = |value: &[u8]| {
        json!({
            "kind": "data", "label": hex::encode("label"), "key": "keyRings/ring/keys/key",
            "content_sha256": digest(value),
        })
    };
    vec![
        row("ObjectService/CreateObject", "object.create", name, details(b"first")),
        row("ObjectService/UpdateObject", "object.update", name, details(b"second")),
        row("ObjectService/DeleteObject", "object.delete", name, details(b"second")),
    ]
}

/// The methods that are no use of a key and not named for reading.
fn changing_methods() -> Vec<String> {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the descriptor set");
    let files = descriptors
        .file
        .into_iter()
        .filter(|file| file.package() == "portcullis.v1");
    let services = files
        .flat_map(|file| file.service)
        .filter(|service| service.name() != "CryptoService");
    services
        .flat_map(|service| {
            let name = service.name().to_owned();
            let changes = |method: &String| !["Get", "List"].iter().any(|reading| method.starts_with(reading));
            let methods = service.method.into_iter().map(|method| method.name().to_owned());
            methods
                .filter(changes)
                .map(move |method| format!("{name}/{method}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

async fn members(client: &Client) -> Vec<Row> {
    let name = "members/b".to_owned();
    let drain = DrainMemberRequest {
        name: name.clone(),
        ..DrainMemberRequest::default()
    };
    client.cluster().drain_member(drain).await.expect("drained");
    let resume = ResumeMemberRequest { name: name.clone() };
    client.cluster().resume_member(resume).await.expect("resumed");
    let roll = RollMembersRequest {
        names: vec![name.clone()],
    };
    client.cluster().roll_members(roll).await.expect("rolled");
    let row = |method, change| {
        row(
            method,
            "cluster.manage",
            &name,
            json!({ "change": change, "members": ["b"] }),
        )
    };
    vec![
        row("ClusterService/DrainMember", "drain"),
        row("ClusterService/ResumeMember", "resume"),
        row("ClusterService/RollMembers", "roll"),
    ]
}

async fn served(gateway: &Gateway, method: &str) -> bool {
    let wire = gateway.wire().await;
    // An empty message replaces all workers; one that names a member that is none does nothing.
    let request = match method {
        "ClusterService/RollMembers" => RollMembersRequest {
            names: vec!["members/none".to_owned()],
        }
        .encode_to_vec(),
        _ => Vec::new(),
    };
    match wire.call(&format!("portcullis.v1.{method}"), request).await {
        Ok(_) => true,
        Err(status) => refusal::<()>(Err(status)).reason != "METHOD_NOT_AVAILABLE",
    }
}

/// Whether what was found is what was expected, where `"*"` stands for any text.
#[track_caller]
fn agrees(expected: &Value, found: &Value, what: &str) {
    match (expected, found) {
        (Value::String(any), Value::String(found)) if any == "*" => assert!(!found.is_empty(), "{what}"),
        (Value::Object(expected), Value::Object(found)) => {
            let fields = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(fields(expected), fields(found), "{what}");
            for (field, expected) in expected {
                agrees(expected, &found[field], what);
            }
        }
        (expected, found) => assert_eq!(expected, found, "{what}"),
    }
}

//! Conditions on the key, the request and the moment, from the certificate to the audit entry.

use super::client_of;
use portcullis_client::{
    Client, Code, Status,
    v1::{
        DecryptRequest, EncryptRequest, EncryptionContext, Key, KeyOperation, KeyType, Mechanism, SignRequest,
        SignResponse, UpdateKeyRequest, decrypt_request, encrypt_request,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, TestCluster, create_key, create_ring, key_request, message_request, refusal, sign,
};

const POLICIES: &str = r#"
@id("test keys")
permit (principal == Principal::"spiffe://portcullis.dev/labels", action == Action::"sign", resource in KeyRing::"ring")
when { resource.hasTag("stage") && resource.getTag("stage") == "test" };

@id("encryption keys")
permit (principal == Principal::"spiffe://portcullis.dev/purpose", action in Action::"use", resource)
when { resource.purpose == Purpose::"ENCRYPT_DECRYPT" };

@id("PSS alone")
permit (principal == Principal::"spiffe://portcullis.dev/mechanism", action == Action::"sign", resource)
when { context has mechanism && context.mechanism == Mechanism::"RSA_PSS_SHA256" };

@id("the legal department")
permit (principal == Principal::"spiffe://portcullis.dev/context", action in [Action::"encrypt", Action::"decrypt"], resource)
when {
    context.encryption_context.hasTag("department") && context.encryption_context.getTag("department") == "legal"
};

@id("in this age")
permit (principal == Principal::"spiffe://portcullis.dev/time", action == Action::"sign", resource)
when { context.time > datetime("2026-01-01") };

@id("in another age")
permit (principal == Principal::"spiffe://portcullis.dev/late", action == Action::"sign", resource)
when { context.time < datetime("2026-01-01") };

@id("from this host")
permit (principal == Principal::"spiffe://portcullis.dev/peer", action == Action::"sign", resource)
when { context has peer && context.peer.isLoopback() };

@id("from the office")
permit (principal == Principal::"spiffe://portcullis.dev/outside", action == Action::"sign", resource)
when { context has peer && context.peer.isInRange(ip("192.0.2.0/24")) };

@id("only over TLS")
forbid (principal, action == Action::"sign", resource == Key::"ring/remote")
when { context.connection != Connection::"tls" };

@id("frozen keys")
forbid (principal, action in [Action::"use", Action::"administer"], resource is Key)
when { resource.hasTag("frozen") };
"#;

const BOTH: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Sign, Mechanism::RsaPssSha256),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_the_key_the_request_and_the_moment_decides() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    for key in ["plain", "remote"] {
        create_key(&developer, "ring", key, KeySpec::EC_P256).await;
    }
    create_key(&developer, "ring", "aes", KeySpec::AES_256).await;
    create_labelled(&developer, "test", "stage", "test")
        .await
        .expect("a key");
    create_labelled(&developer, "live", "stage", "live")
        .await
        .expect("a key");
    create_key(&developer, "ring", "rsa", KeySpec::wrapped(KeyType::Rsa2048, BOTH)).await;

    let of = async |who: &str| client_of(&cluster, &gateway, &format!("spiffe://portcullis.dev/{who}")).await;
    let key = |key: &str| format!("keyRings/ring/keys/{key}");

    let labels = of("labels").await;
    sign(&labels, &key("test"), b"m").await.expect("a signature");
    denied(sign(&labels, &key("live"), b"m").await);
    denied(sign(&labels, &key("plain"), b"m").await);

    let purpose = of("purpose").await;
    encrypt_for(&purpose, "sales").await.expect("a ciphertext");
    denied(sign(&purpose, &key("plain"), b"m").await);

    let mechanism = of("mechanism").await;
    let with = async |mechanism_: Mechanism| sign_by(&mechanism, &key("rsa"), mechanism_).await;
    with(Mechanism::RsaPssSha256).await.expect("a signature");
    denied(with(Mechanism::RsaPkcs1Sha256).await);
    // Which mechanisms the key permits is not told to who may not use it so.
    denied(with(Mechanism::EcdsaSha256).await);
    denied(sign(&mechanism, &key("rsa"), b"m").await);

    let context = of("context").await;
    let ciphertext = encrypt_for(&context, "legal").await.expect("a ciphertext");
    denied(encrypt_for(&context, "sales").await);
    let decrypted = decrypt_for(&context, "legal", &ciphertext).await.expect("a plaintext");
    assert_eq!(decrypted, b"a plaintext");
    denied(decrypt_for(&context, "sales", &ciphertext).await);

    sign(&of("time").await, &key("plain"), b"m").await.expect("a signature");
    denied(sign(&of("late").await, &key("plain"), b"m").await);
    sign(&of("peer").await, &key("plain"), b"m").await.expect("a signature");
    denied(sign(&of("outside").await, &key("plain"), b"m").await);

    // A prohibition wins over what allows everything.
    sign(&developer, &key("remote"), b"m").await.expect("a signature");
    denied(sign(&gateway.unix_client().await, &key("remote"), b"m").await);
    denied(create_labelled(&developer, "frozen", "frozen", "yes").await);
    // Nor is a label given that would bring the key under other policies.
    let mut relabelled = UpdateKeyRequest {
        key: Some(Key {
            name: key("plain"),
            labels: [("frozen".to_owned(), "yes".to_owned())].into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["labels".to_owned()],
        }),
        ..Default::default()
    };
    denied(developer.keys().update_key(relabelled.clone()).await);
    relabelled.key.as_mut().expect("a key").labels = [("warm".to_owned(), "yes".to_owned())].into();
    developer.keys().update_key(relabelled).await.expect("a key");

    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let decided = |who: &str, outcome: &str| {
        let entries = log.entries.iter().filter(|entry| {
            entry["principal"] == format!("spiffe://portcullis.dev/{who}") && entry["outcome"] == outcome
        });
        let rules: Vec<_> = entries.map(|entry| entry["rule"].as_str()).collect();
        assert!(!rules.is_empty(), "no entry of {who} with {outcome}");
        rules
    };
    assert_eq!(decided("labels", "OK"), [Some("test keys")]);
    assert_eq!(decided("labels", "ACCESS_DENIED"), [None, None]);
    assert_eq!(decided("context", "OK"), [Some("the legal department"); 2]);
    assert_eq!(decided("late", "ACCESS_DENIED"), [None]);
    let allows = Some("the developer may do everything over TLS");
    assert_eq!(decided("developer", "ACCESS_DENIED"), [Some("frozen keys"), allows]);
    let relabelling = log
        .entries
        .iter()
        .find(|entry| entry["also"][0]["allowed"] == false)
        .expect("an entry");
    assert_eq!(relabelling["also"][0]["rule"], "frozen keys");
    let local = log
        .entries
        .iter()
        .find(|entry| entry["method"] == "unix-peer" && entry["outcome"] == "ACCESS_DENIED")
        .expect("an entry");
    assert_eq!(local["rule"], "only over TLS");
}

#[track_caller]
fn denied<T>(result: Result<T, Status>) {
    refusal(result).is(Code::PermissionDenied, "ACCESS_DENIED");
}

async fn create_labelled(client: &Client, key: &str, label: &str, value: &str) -> Result<(), Status> {
    let mut request = key_request("ring", key, KeySpec::EC_P256);
    let labels = &mut request.key.as_mut().expect("a key").labels;
    labels.insert(label.to_owned(), value.to_owned());
    client.keys().create_key(request).await.map(drop)
}

async fn sign_by(client: &Client, name: &str, mechanism: Mechanism) -> Result<SignResponse, Status> {
    let request = SignRequest {
        mechanism: mechanism as i32,
        ..message_request(name, b"m")
    };
    Ok(client.crypto().sign(request).await?.into_inner())
}

fn department(department: &str) -> EncryptionContext {
    EncryptionContext {
        values: [("department".to_owned(), department.to_owned())].into(),
    }
}

async fn encrypt_for(client: &Client, whom: &str) -> Result<Vec<u8>, Status> {
    let request = EncryptRequest {
        name: "keyRings/ring/keys/aes".to_owned(),
        plaintext: b"a plaintext".as_slice().into(),
        authenticated: Some(encrypt_request::Authenticated::EncryptionContext(department(whom))),
        ..Default::default()
    };
    Ok(client.crypto().encrypt(request).await?.into_inner().ciphertext.to_vec())
}

async fn decrypt_for(client: &Client, whom: &str, ciphertext: &[u8]) -> Result<Vec<u8>, Status> {
    let request = DecryptRequest {
        name: "keyRings/ring/keys/aes".to_owned(),
        ciphertext: ciphertext.to_vec().into(),
        authenticated: Some(decrypt_request::Authenticated::EncryptionContext(department(whom))),
        ..Default::default()
    };
    Ok(client.crypto().decrypt(request).await?.into_inner().plaintext.to_vec())
}

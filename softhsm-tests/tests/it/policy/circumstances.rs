//! Conditions hold for what is done, not for what the caller said of it: a mechanism that is left out, a second question about the
//! same use, key material on its way.

use super::client_of;
use portcullis_client::{
    Client, Code, Status,
    v1::{
        CreateImportJobRequest, DecryptRequest, EncryptRequest, EncryptionContext, ExportKeyVersionRequest,
        ImportMethod, KeyOperation, KeyType, MacVerifyRequest, Mechanism, decrypt_request, encrypt_request,
        export_key_version_request::Recipient as To,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Material, TestCluster, clear_import, create_ephemeral_key, create_import_job,
    create_key, create_key_for_import, create_recipient, create_ring, import, job_import, key_request, refusal,
    shared_key_import,
};
use std::fs;

const POLICIES: &str = r#"
@id("moves keys")
permit (
    principal == Principal::"spiffe://portcullis.dev/mover",
    action in [Action::"key.export", Action::"key.import", Action::"key.import_clear"],
    resource in KeyRing::"ring"
);

@id("never by KWP")
forbid (
    principal == Principal::"spiffe://portcullis.dev/mover",
    action in [Action::"key.export", Action::"key.import"],
    resource
)
when { context has mechanism && context.mechanism == Mechanism::"AES_KWP" };

@id("never by SHA-1")
forbid (
    principal == Principal::"spiffe://portcullis.dev/mover",
    action in [Action::"key.export", Action::"key.import"],
    resource
)
when { context has mechanism && context.mechanism == Mechanism::"RSA_OAEP_SHA1" };

@id("emergencies")
permit (
    principal in Pattern::"spiffe://portcullis.dev/emergency/*",
    action in [Action::"decrypt", Action::"key_version.use_compromised"],
    resource in KeyRing::"ring"
);

@id("not for tenant a")
forbid (
    principal == Principal::"spiffe://portcullis.dev/emergency/tenants",
    action == Action::"key_version.use_compromised",
    resource
)
when { context.encryption_context.hasTag("tenant") && context.encryption_context.getTag("tenant") == "a" };

@id("not by AES-GCM")
forbid (
    principal == Principal::"spiffe://portcullis.dev/emergency/mechanisms",
    action == Action::"key_version.use_compromised",
    resource
)
when { context has mechanism && context.mechanism == Mechanism::"AES_GCM" };

@id("ephemeral keys for signatures")
permit (
    principal == Principal::"spiffe://portcullis.dev/maker",
    action in [Action::"ephemeral_key.create", Action::"sign", Action::"encrypt"],
    resource is Key in KeyRing::"ring"
)
when { resource.purpose == Purpose::"SIGN_VERIFY" && resource.type == KeyType::"EC_P256" };
"#;

const WRAPPING: KeySpec = KeySpec::wrapped(
    KeyType::Aes256,
    &[
        (KeyOperation::Wrap, Mechanism::AesKwp),
        (KeyOperation::Wrap, Mechanism::AesKw),
        (KeyOperation::Unwrap, Mechanism::AesKwp),
    ],
);

#[track_caller]
fn denied<T>(result: Result<T, Status>) {
    refusal(result).is(Code::PermissionDenied, "ACCESS_DENIED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_decided_by_the_mechanism_that_it_uses_named_or_not() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let mut request = key_request("ring", "portable", KeySpec::HMAC_SHA256);
    request.key.as_mut().expect("a key").exportable = true;
    developer.keys().create_key(request).await.expect("a key");
    create_key(&developer, "ring", "wrapping", WRAPPING).await;
    let recipient = Material::generate(KeyType::Rsa2048);
    create_recipient(&developer, "ring", "me", &recipient.public_key)
        .await
        .expect("a recipient");
    let mover = client_of(&cluster, &gateway, "spiffe://portcullis.dev/mover").await;
    let wrapping = || To::WrappingKey("keyRings/ring/keys/wrapping".to_owned());
    let registered = || To::RegisteredRecipient("keyRings/ring/recipients/me".to_owned());

    denied(export(&mover, wrapping(), Mechanism::AesKwp).await);
    denied(export(&mover, wrapping(), Mechanism::Unspecified).await);
    export(&mover, wrapping(), Mechanism::AesKw)
        .await
        .expect("an exported key");
    denied(export(&mover, registered(), Mechanism::RsaOaepSha1).await);
    denied(export(&mover, registered(), Mechanism::Unspecified).await);

    // Where the caller leaves it out, it is the best that the members have: SoftHSM2 has OAEP with SHA-1 alone.
    let used = export(&developer, registered(), Mechanism::Unspecified)
        .await
        .expect("an exported key");
    assert_eq!(used, Mechanism::RsaOaepSha1);
    let used = export(&developer, wrapping(), Mechanism::Unspecified).await;
    assert_eq!(used.expect("an exported key"), Mechanism::AesKwp);
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let rules: Vec<_> = log
        .outcomes()
        .filter(|entry| entry["action"] == "key.export" && entry["outcome"] == "ACCESS_DENIED")
        .map(|entry| (entry["rule"].as_str(), entry["mechanism"].as_str()))
        .collect();
    let (kwp, sha1) = (Some("never by KWP"), Some("never by SHA-1"));
    let expected = [
        (kwp, Some("AES_KWP")),
        (kwp, Some("AES_KWP")),
        (sha1, Some("RSA_OAEP_SHA1")),
        (sha1, Some("RSA_OAEP_SHA1")),
    ];
    assert_eq!(rules, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_and_its_job_are_decided_by_how_the_key_is_wrapped() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let (shared, material) = (Material::generate(KeyType::Aes256), Material::generate(KeyType::Aes256));
    let unwrapping = create_key_for_import(&developer, "ring", "wrapping", WRAPPING)
        .await
        .name;
    import(&developer, clear_import(&unwrapping, &shared))
        .await
        .expect("an imported key");
    let key = create_key_for_import(&developer, "ring", "key", KeySpec::AES_256)
        .await
        .name;
    let job = create_import_job(&developer, "ring").await;
    let mover = client_of(&cluster, &gateway, "spiffe://portcullis.dev/mover").await;

    let wanted = CreateImportJobRequest {
        parent: "keyRings/ring".to_owned(),
        method: ImportMethod::RsaOaepSha1AesKwp as i32,
        wrapping_key_type: KeyType::Rsa2048 as i32,
        ..Default::default()
    };
    denied(mover.keys().create_import_job(wanted).await);
    let get = portcullis_client::v1::GetImportJobRequest { name: job.name.clone() };
    denied(mover.keys().get_import_job(get).await);
    denied(import(&mover, job_import(&key, &job, &material)).await);
    denied(import(&mover, shared_key_import(&key, &unwrapping, &shared.value, &material)).await);
    import(&mover, clear_import(&key, &material))
        .await
        .expect("an imported key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_decided_under_the_circumstances_of_the_use() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "key", KeySpec::AES_256).await;
    let (of_a, of_b) = (encrypt_for(&developer, "a").await, encrypt_for(&developer, "b").await);
    let version = "keyRings/ring/keys/key/versions/1".to_owned();
    let mark = portcullis_client::v1::ChangeKeyVersionStateRequest {
        name: version,
        ..Default::default()
    };
    developer
        .keys()
        .mark_key_version_compromised(mark)
        .await
        .expect("a mark");

    let of = async |who: &str| client_of(&cluster, &gateway, &format!("spiffe://portcullis.dev/emergency/{who}")).await;
    let tenants = of("tenants").await;
    denied(decrypt_for(&tenants, "a", &of_a, "an emergency").await);
    decrypt_for(&tenants, "b", &of_b, "an emergency")
        .await
        .expect("a plaintext");
    denied(decrypt_for(&of("mechanisms").await, "b", &of_b, "an emergency").await);
    decrypt_for(&of("others").await, "a", &of_a, "an emergency")
        .await
        .expect("a plaintext");
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let second: Vec<_> = log
        .outcomes()
        .filter(|entry| entry["reason"] == "an emergency")
        .map(|entry| (entry["also"][0]["rule"].as_str(), entry["also"][0]["allowed"].as_bool()))
        .collect();
    let expected = [
        (Some("not for tenant a"), Some(false)),
        (Some("emergencies"), Some(true)),
        (Some("not by AES-GCM"), Some(false)),
        (Some("emergencies"), Some(true)),
    ];
    assert_eq!(second, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_for_an_emergency_is_short_and_one_line_whatever_the_state() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    create_key(&developer, "ring", "key", KeySpec::AES_256).await;
    let key = create_key(&developer, "ring", "mac", KeySpec::HMAC_SHA256).await.name;
    let ciphertext = encrypt_for(&developer, "a").await;
    let length = || fs::metadata(cluster.audit_file()).expect("the audit log").len();
    let before = length();
    for wrong in ["\u{1}".repeat(1_000_000), "x".repeat(1025), "two\nlines".to_owned()] {
        let answer = decrypt_for(&developer, "a", &ciphertext, &wrong).await;
        refusal(answer)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .naming("break_glass_reason");
        let verify = MacVerifyRequest {
            name: key.clone(),
            data: b"data".as_slice().into(),
            mac: vec![0; 32].into(),
            break_glass_reason: wrong,
            dry_run: true,
            ..Default::default()
        };
        refusal(developer.crypto().mac_verify(verify).await).is(Code::InvalidArgument, "FIELD_INVALID");
    }
    assert!(
        length() - before < 10_000,
        "{} bytes for six refusals",
        length() - before
    );
    decrypt_for(&developer, "a", &ciphertext, &"x".repeat(1024))
        .await
        .expect("a plaintext");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_key_is_decided_by_what_it_is() {
    let cluster = TestCluster::new();
    cluster.add_policies(POLICIES);
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let maker = client_of(&cluster, &gateway, "spiffe://portcullis.dev/maker").await;
    let key = create_ephemeral_key(&maker, "ring", KeySpec::EC_P256, 60)
        .await
        .expect("a key");
    let request = portcullis_client::v1::SignRequest {
        key_token: key.token,
        input: Some(portcullis_client::v1::sign_request::Input::Message(
            b"m".as_slice().into(),
        )),
        ..Default::default()
    };
    maker.crypto().sign(request).await.expect("a signature");
    for other in [KeySpec::RSA_PSS, KeySpec::AES_256, KeySpec::HMAC_SHA256] {
        denied(create_ephemeral_key(&maker, "ring", other, 60).await);
    }
}

async fn export(client: &Client, to: To, mechanism: Mechanism) -> Result<Mechanism, Status> {
    let request = ExportKeyVersionRequest {
        name: "keyRings/ring/keys/portable".to_owned(),
        recipient: Some(to),
        mechanism: mechanism as i32,
    };
    Ok(client
        .keys()
        .export_key_version(request)
        .await?
        .into_inner()
        .mechanism())
}

fn tenant(tenant: &str) -> EncryptionContext {
    EncryptionContext {
        values: [("tenant".to_owned(), tenant.to_owned())].into(),
    }
}

async fn encrypt_for(client: &Client, whom: &str) -> Vec<u8> {
    let request = EncryptRequest {
        name: "keyRings/ring/keys/key".to_owned(),
        plaintext: b"a plaintext".as_slice().into(),
        authenticated: Some(encrypt_request::Authenticated::EncryptionContext(tenant(whom))),
        ..Default::default()
    };
    let answer = client.crypto().encrypt(request).await.expect("a ciphertext");
    answer.into_inner().ciphertext.to_vec()
}

async fn decrypt_for(client: &Client, whom: &str, ciphertext: &[u8], reason: &str) -> Result<(), Status> {
    let request = DecryptRequest {
        name: "keyRings/ring/keys/key".to_owned(),
        ciphertext: ciphertext.to_vec().into(),
        authenticated: Some(decrypt_request::Authenticated::EncryptionContext(tenant(whom))),
        break_glass_reason: reason.to_owned(),
        ..Default::default()
    };
    client.crypto().decrypt(request).await.map(drop)
}

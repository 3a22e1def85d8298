//! Keys that leave, and keys that do not.

use portcullis_client::{
    Client, Code, Status,
    v1::{
        DeleteRecipientRequest, ExportKeyVersionRequest, ExportKeyVersionResponse, GetRecipientRequest,
        ImportKeyVersionRequest, KeyOperation, KeyType, ListRecipientsRequest, Mechanism, PublicKeyFormat,
        export_key_version_request::Recipient as To,
    },
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, Material, OaepHash, TestCluster, Wish, clear_import, crc32c, create_import_job, create_key,
    create_key_for_import, create_recipient, create_ring, import, key_request, public_key, refusal, rsa_aes_unwrap,
    sign, verifies,
};
use sha2::{Digest, Sha256};

const MESSAGE: &[u8] = b"signed by the key in its new home";
pub(super) const WRAPPING: KeySpec = KeySpec::wrapped(
    KeyType::Aes256,
    &[
        (KeyOperation::Wrap, Mechanism::AesKwp),
        (KeyOperation::Wrap, Mechanism::AesKw),
        (KeyOperation::Unwrap, Mechanism::AesKwp),
    ],
);

/// Creates a key that may be exported.
pub(super) async fn create_exportable(client: &Client, key: &str, spec: KeySpec) -> String {
    let mut request = key_request("ring", key, spec);
    request.key.as_mut().expect("a key").exportable = true;
    let key = client.keys().create_key(request).await.expect("an exportable key");
    key.into_inner().name
}

pub(super) async fn export(
    client: &Client,
    name: &str,
    to: To,
    mechanism: Mechanism,
) -> Result<ExportKeyVersionResponse, Status> {
    let request = ExportKeyVersionRequest {
        name: name.to_owned(),
        recipient: Some(to),
        mechanism: mechanism as i32,
    };
    Ok(client.keys().export_key_version(request).await?.into_inner())
}

pub(super) fn under(key: &str) -> To {
    To::WrappingKey(format!("keyRings/ring/keys/{key}"))
}

fn to(recipient: &str) -> To {
    To::RegisteredRecipient(format!("keyRings/ring/recipients/{recipient}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_moves_between_clusters_of_different_domains() {
    let (from, into) = (TestCluster::new(), TestCluster::with_another_domain());
    let (from, into) = (Gateway::start(&from), Gateway::start(&into));
    let (from, into) = (from.unix_client().await, into.unix_client().await);
    create_ring(&from, "ring").await;
    create_ring(&into, "ring").await;
    for (id, spec, mechanism) in [
        ("ec", KeySpec::EC_P256, Mechanism::EcdsaSha256),
        ("rsa", KeySpec::RSA_PSS, Mechanism::RsaPssSha256),
    ] {
        let old = create_exportable(&from, id, spec).await;
        let new = create_key_for_import(&into, "ring", id, spec).await.name;
        // The receiving cluster's import job is the sending cluster's recipient.
        let job = create_import_job(&into, "ring").await;
        let recipient = create_recipient(&from, "ring", id, &job.public_key)
            .await
            .expect("a recipient");
        assert_eq!(recipient.fingerprint, hex::encode(Sha256::digest(&job.public_key)));
        let exported = export(&from, &old, to(id), Mechanism::RsaOaepSha1)
            .await
            .expect("an exported key");
        assert_eq!(exported.name, format!("{old}/versions/1"));
        assert_eq!(exported.wrapped_key_crc32c, crc32c(&exported.wrapped_key));
        let request = ImportKeyVersionRequest {
            parent: new.clone(),
            method: job.method,
            import_job: job.name.clone(),
            wrapped_key: exported.wrapped_key,
            public_key: exported.public_key.clone(),
            ..Default::default()
        };
        import(&into, request).await.expect("an imported key");
        let before = public_key(&from, &old, PublicKeyFormat::Der).await.public_key;
        assert_eq!(before, exported.public_key);
        assert_eq!(public_key(&into, &new, PublicKeyFormat::Der).await.public_key, before);
        let signature = sign(&into, &new, MESSAGE).await.expect("a signature").signature;
        assert!(verifies(&before, mechanism, MESSAGE, &signature));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_key_is_exactly_the_key_that_came_in() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let recipient = Material::generate(KeyType::Rsa2048);
    create_recipient(&client, "ring", "me", &recipient.public_key)
        .await
        .expect("a recipient");
    let material = Material::generate(KeyType::HmacSha512);
    let spec = KeySpec::wrapped(
        KeyType::HmacSha512,
        &[
            (KeyOperation::MacSign, Mechanism::HmacSha512),
            (KeyOperation::MacVerify, Mechanism::HmacSha512),
        ],
    );
    let key = create_exportable(&client, "mac", spec).await;
    let imported = import(&client, clear_import(&key, &material))
        .await
        .expect("an imported version");
    let exported = export(&client, &imported.name, to("me"), Mechanism::RsaOaepSha1)
        .await
        .expect("an exported key");
    let opened = rsa_aes_unwrap(&recipient.value, OaepHash::Sha1, &exported.wrapped_key);
    assert_eq!(opened, Some(material.value));
    // Out and in again under a wrapping key of the cluster.
    create_key(&client, "ring", "wrapping", WRAPPING).await;
    let exported = export(&client, &imported.name, under("wrapping"), Mechanism::Unspecified)
        .await
        .expect("an exported key");
    assert_eq!(exported.mechanism(), Mechanism::AesKwp);
    let request = ImportKeyVersionRequest {
        parent: key.clone(),
        method: portcullis_client::v1::ImportMethod::AesKwp as i32,
        unwrapping_key: "keyRings/ring/keys/wrapping".to_owned(),
        wrapped_key: exported.wrapped_key,
        ..Default::default()
    };
    let again = import(&client, request).await.expect("an imported version");
    let exported = export(&client, &again.name, to("me"), Mechanism::RsaOaepSha1)
        .await
        .expect("an exported key");
    let opened_again = rsa_aes_unwrap(&recipient.value, OaepHash::Sha1, &exported.wrapped_key);
    assert_eq!(opened_again, opened);
    let kw = export(&client, &again.name, under("wrapping"), Mechanism::AesKw)
        .await
        .expect("an exported key");
    assert_eq!(kw.wrapped_key.len(), 72);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_leave_stays() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    create_key(&client, "ring", "wrapping", WRAPPING).await;
    let recipient = Material::generate(KeyType::Rsa2048);
    create_recipient(&client, "ring", "me", &recipient.public_key)
        .await
        .expect("a recipient");
    let portable = create_exportable(&client, "portable", KeySpec::HMAC_SHA256).await;
    let sealed = create_key(&client, "ring", "sealed", KeySpec::EC_P256).await.name;
    let resident = create_key(&client, "ring", "resident", KeySpec::ED25519_RESIDENT)
        .await
        .name;
    for name in [&sealed, &resident] {
        for target in [under("wrapping"), to("me")] {
            let answer = refusal(export(&client, name, target, Mechanism::Unspecified).await);
            answer.is(Code::FailedPrecondition, "EXPORT_REFUSED");
        }
    }
    // Wrapping keys that may be known outside of HSMs.
    let imported = create_key_for_import(&client, "ring", "imported", WRAPPING).await.name;
    import(&client, clear_import(&imported, &Material::generate(KeyType::Aes256)))
        .await
        .expect("an imported key");
    create_exportable(&client, "exportable", WRAPPING).await;
    for wrapping in ["imported", "exportable"] {
        let answer = refusal(export(&client, &portable, under(wrapping), Mechanism::AesKwp).await);
        answer.is(Code::FailedPrecondition, "EXPORT_REFUSED");
    }
    // Keys that may not wrap, mechanisms that do not fit, recipients that are not there.
    create_key(&client, "ring", "aes", KeySpec::AES_256).await;
    let answer = refusal(export(&client, &portable, under("aes"), Mechanism::AesKwp).await);
    answer.is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    let answer = refusal(export(&client, &portable, to("me"), Mechanism::AesKwp).await);
    answer.is(Code::InvalidArgument, "FIELD_INVALID");
    let answer = refusal(export(&client, &portable, to("nobody"), Mechanism::RsaOaepSha1).await);
    answer.is(Code::NotFound, "RESOURCE_NOT_FOUND");
    let pair = create_exportable(&client, "pair", KeySpec::EC_P256).await;
    let answer = refusal(export(&client, &pair, under("wrapping"), Mechanism::AesKw).await);
    answer.is(Code::FailedPrecondition, "EXPORT_REFUSED");
    export(&client, &portable, under("wrapping"), Mechanism::AesKwp)
        .await
        .expect("an exported key");
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_are_registered_by_those_who_may_and_shown_with_their_fingerprint() {
    let cluster = TestCluster::new();
    cluster.grant(
        r#"
            name = "exporters"
            role = "exporter"
            principals = ["spiffe://portcullis.dev/exporter"]
            rings = ["*"]
        "#,
    );
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_exportable(&client, "portable", KeySpec::HMAC_SHA256).await;
    let keys: Vec<_> = (0..3).map(|_| Material::generate(KeyType::Rsa2048)).collect();
    for (id, key) in ["a", "b", "c"].iter().zip(&keys) {
        create_recipient(&client, "ring", id, &key.public_key)
            .await
            .expect("a recipient");
    }
    let answer = refusal(create_recipient(&client, "ring", "a", &keys[1].public_key).await);
    answer.is(Code::AlreadyExists, "RESOURCE_ALREADY_EXISTS");
    let curve = Material::generate(KeyType::EcP256).public_key;
    refusal(create_recipient(&client, "ring", "d", &curve).await).is(Code::InvalidArgument, "FIELD_INVALID");

    let identity = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/exporter"), &cluster.pki("ca.pem"));
    let exporter = gateway
        .tls_client_as(&identity.credentials())
        .await
        .expect("a connection");
    let answer = refusal(create_recipient(&exporter, "ring", "mine", &keys[0].public_key).await);
    answer.is(Code::PermissionDenied, "ACCESS_DENIED");
    export(&exporter, &key, to("a"), Mechanism::RsaOaepSha1)
        .await
        .expect("an exported key");

    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRecipientsRequest {
            parent: "keyRings/ring".to_owned(),
            page_size: 2,
            page_token,
        };
        let page = exporter
            .keys()
            .list_recipients(request)
            .await
            .expect("a page")
            .into_inner();
        listed.extend(page.recipients);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let fingerprints: Vec<_> = listed.iter().map(|one| one.fingerprint.clone()).collect();
    let expected: Vec<_> = keys
        .iter()
        .map(|key| hex::encode(Sha256::digest(&key.public_key)))
        .collect();
    assert_eq!(fingerprints, expected);

    let delete = |etag: &str| DeleteRecipientRequest {
        name: listed[0].name.clone(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    refusal(client.keys().delete_recipient(delete("7")).await).is(Code::Aborted, "ETAG_MISMATCH");
    client
        .keys()
        .delete_recipient(delete(&listed[0].etag))
        .await
        .expect("a deletion");
    let get = GetRecipientRequest {
        name: listed[0].name.clone(),
    };
    refusal(client.keys().get_recipient(get).await).is(Code::NotFound, "RESOURCE_NOT_FOUND");
    let answer = refusal(export(&exporter, &key, to("a"), Mechanism::RsaOaepSha1).await);
    answer.is(Code::NotFound, "RESOURCE_NOT_FOUND");
}

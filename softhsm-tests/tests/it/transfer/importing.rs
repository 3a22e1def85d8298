//! Keys that were made elsewhere become keys of the cluster.

use portcullis_client::{
    Client, Code,
    v1::{
        CreateImportJobRequest, GetImportJobRequest, GetKeyRequest, ImportMethod, KeyOperation, KeyOrigin,
        KeyProtection, KeyType, KeyVersionState, MacSignRequest, Mechanism, PublicKeyFormat,
    },
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Material, OaepHash, TestCluster, Wish, clear_import, crc32c, create_import_job,
    create_key, create_key_for_import, create_ring, import, job_import, openssl, openssl_accepts, public_key, refusal,
    rsa_aes_wrap, shared_key_import, sign, temporary_directory, wait_until,
};
use std::time::Duration;
use uuid::Uuid;

const MESSAGE: &[u8] = b"what was signed before the move must verify after it";

/// A key of each type that SoftHSM2 takes in wrapped, with a use that shows which key it is.
const WRAPPED: [(KeyType, &[(KeyOperation, Mechanism)]); 11] = [
    (KeyType::Rsa2048, &[(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256)]),
    (KeyType::Rsa3072, &[(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256)]),
    (KeyType::Rsa4096, &[(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256)]),
    (KeyType::EcP256, &[(KeyOperation::Sign, Mechanism::EcdsaSha256)]),
    (KeyType::EcP384, &[(KeyOperation::Sign, Mechanism::EcdsaSha256)]),
    (KeyType::EcP521, &[(KeyOperation::Sign, Mechanism::EcdsaSha256)]),
    (KeyType::Aes128, &[(KeyOperation::MacSign, Mechanism::AesCmac)]),
    (KeyType::Aes256, &[(KeyOperation::MacSign, Mechanism::AesCmac)]),
    (KeyType::HmacSha256, &[(KeyOperation::MacSign, Mechanism::HmacSha256)]),
    (KeyType::HmacSha384, &[(KeyOperation::MacSign, Mechanism::HmacSha384)]),
    (KeyType::HmacSha512, &[(KeyOperation::MacSign, Mechanism::HmacSha512)]),
];

const UNWRAPPING: KeySpec = KeySpec::wrapped(KeyType::Aes256, &[(KeyOperation::Unwrap, Mechanism::AesKwp)]);

/// Uses a key and compares with what OpenSSL does with the same key outside.
async fn is_the_same_key(client: &Client, name: &str, mechanism: Mechanism, material: &Material) {
    if !material.public_key.is_empty() {
        let pem = public_key(client, name, PublicKeyFormat::Pem).await.public_key;
        let der = public_key(client, name, PublicKeyFormat::Der).await.public_key;
        assert_eq!(der, material.public_key, "{name}");
        let signature = sign(client, name, MESSAGE).await.expect("a signature").signature;
        assert!(openssl_accepts(&pem, mechanism, MESSAGE, &signature), "{name}");
        return;
    }
    let request = MacSignRequest {
        name: name.to_owned(),
        data: MESSAGE.into(),
        ..Default::default()
    };
    let made = client.crypto().mac_sign(request).await.expect("a mac").into_inner().mac;
    assert_eq!(hex::encode(&made), mac_by_openssl(mechanism, &material.value), "{name}");
}

fn mac_by_openssl(mechanism: Mechanism, key: &[u8]) -> String {
    let directory = temporary_directory();
    std::fs::write(directory.path().join("message"), MESSAGE).expect("a file for OpenSSL");
    let hexkey = format!("hexkey:{}", hex::encode(key));
    let cipher = format!("cipher:AES-{}-CBC", key.len() * 8);
    let (algorithm, option) = match mechanism {
        Mechanism::AesCmac => ("CMAC", cipher.as_str()),
        Mechanism::HmacSha256 => ("HMAC", "digest:SHA256"),
        Mechanism::HmacSha384 => ("HMAC", "digest:SHA384"),
        Mechanism::HmacSha512 => ("HMAC", "digest:SHA512"),
        other => panic!("no second opinion on {}", other.as_str_name()),
    };
    let arguments = [
        "mac", "-in", "message", "-macopt", option, "-macopt", &hexkey, algorithm,
    ];
    let output = openssl(directory.path(), arguments).succeeded();
    output.text().trim().to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_come_in_by_every_method_and_stay_the_same_keys() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let shared = Material::secret(32);
    create_key_for_import(&client, "ring", "shared", UNWRAPPING).await;
    let unwrapping = "keyRings/ring/keys/shared";
    import(&client, clear_import(unwrapping, &shared))
        .await
        .expect("the shared key");
    for (key_type, uses) in WRAPPED {
        let material = Material::generate(key_type);
        let id = format!("{key_type:?}").to_lowercase();
        let key = create_key_for_import(&client, "ring", &id, KeySpec::wrapped(key_type, uses)).await;
        let pending = key.primary.expect("a version");
        assert_eq!(pending.state(), KeyVersionState::PendingImport);
        let job = create_import_job(&client, "ring").await;
        let requests = [
            (job_import(&key.name, &job, &material), KeyOrigin::ImportedWrapped),
            (
                shared_key_import(&key.name, unwrapping, &shared.value, &material),
                KeyOrigin::ImportedWrapped,
            ),
            (clear_import(&key.name, &material), KeyOrigin::ImportedClear),
        ];
        for (number, (request, origin)) in (1..).zip(requests) {
            let version = import(&client, request).await.expect("an imported version");
            assert_eq!(version.name, format!("{}/versions/{number}", key.name));
            assert_eq!(version.state(), KeyVersionState::Active);
            assert!(version.origin() == origin, "{}", version.name);
            is_the_same_key(&client, &version.name, uses[0].1, &material).await;
            let primary = client
                .keys()
                .get_key(GetKeyRequest { name: key.name.clone() })
                .await
                .expect("the key")
                .into_inner()
                .primary_version;
            assert_eq!(primary, number);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resident_keys_come_in_too_and_need_consent() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let resident = |spec| KeySpec {
        protection: KeyProtection::Resident,
        allow_single_replica: true,
        ..spec
    };
    for (id, spec, mechanism) in [
        ("ed25519", KeySpec::ED25519_RESIDENT, Mechanism::Ed25519),
        ("ec-p256", resident(KeySpec::EC_P256), Mechanism::EcdsaSha256),
    ] {
        let material = Material::generate(spec.key_type);
        let key = create_key_for_import(&client, "ring", id, spec).await;
        let request = clear_import(&key.name, &material);
        let answer = refusal(import(&client, request.clone()).await);
        answer.is(Code::FailedPrecondition, "SINGLE_REPLICA_NOT_ACCEPTED");
        // The first fills the version that waits; the second is a new one.
        for number in [1, 2] {
            let request = portcullis_client::v1::ImportKeyVersionRequest {
                allow_single_replica: true,
                member: "b".to_owned(),
                ..request.clone()
            };
            let version = import(&client, request).await.expect("an imported version");
            assert_eq!(
                (version.version, version.members.clone()),
                (number, vec!["members/b".to_owned()])
            );
            assert!(version.single_replica);
            let signature = sign(&client, &version.name, MESSAGE)
                .await
                .expect("a signature")
                .signature;
            assert!(portcullis_softhsm_tests::verifies(
                &material.public_key,
                mechanism,
                MESSAGE,
                &signature
            ));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_material_is_refused_and_leaves_nothing() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key_for_import(&client, "ring", "ec", KeySpec::EC_P256).await;
    let (p256, p384) = (Material::generate(KeyType::EcP256), Material::generate(KeyType::EcP384));
    let job = create_import_job(&client, "ring").await;
    let right = job_import(&key.name, &job, &p256);
    let with = |wrapped: Vec<u8>, public_key: &[u8]| portcullis_client::v1::ImportKeyVersionRequest {
        wrapped_key: wrapped.into(),
        public_key: public_key.to_vec().into(),
        ..right.clone()
    };
    let mut flipped = right.wrapped_key.to_vec();
    flipped[300] ^= 1;
    let other_job = create_import_job(&client, "ring").await;
    for (what, request) in [
        (
            "another type",
            with(
                rsa_aes_wrap(&job.public_key, OaepHash::Sha1, &p384.value),
                &p384.public_key,
            ),
        ),
        (
            "another hash",
            with(
                rsa_aes_wrap(&job.public_key, OaepHash::Sha256, &p256.value),
                &p256.public_key,
            ),
        ),
        (
            "another job",
            with(
                rsa_aes_wrap(&other_job.public_key, OaepHash::Sha1, &p256.value),
                &p256.public_key,
            ),
        ),
        (
            "truncated",
            with(
                right.wrapped_key[..right.wrapped_key.len() - 8].to_vec(),
                &p256.public_key,
            ),
        ),
        ("changed", with(flipped, &p256.public_key)),
        ("without a public key", with(right.wrapped_key.to_vec(), &[])),
        (
            "with another public key",
            with(
                right.wrapped_key.to_vec(),
                &Material::generate(KeyType::EcP256).public_key,
            ),
        ),
    ] {
        let answer = refusal(import(&client, request).await);
        assert_eq!(
            (answer.code, answer.reason.as_str()),
            (Code::InvalidArgument, "IMPORT_REFUSED"),
            "{what}"
        );
        let version = client.keys().get_key(GetKeyRequest { name: key.name.clone() }).await;
        let version = version.expect("the key").into_inner().primary.expect("its version");
        assert_eq!(version.state(), KeyVersionState::PendingImport, "{what}");
    }
    let checksum = portcullis_client::v1::ImportKeyVersionRequest {
        wrapped_key_crc32c: Some(crc32c(&right.wrapped_key) ^ 1),
        ..right.clone()
    };
    refusal(import(&client, checksum).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let elsewhere = portcullis_client::v1::ImportKeyVersionRequest {
        import_job: "keyRings/other/importJobs/0".to_owned(),
        ..right.clone()
    };
    refusal(import(&client, elsewhere).await).is(Code::InvalidArgument, "FIELD_INVALID");
    // The job is still good after all that, and the members are too.
    import(&client, right).await.expect("an imported version");
    is_the_same_key(&client, &key.name, Mechanism::EcdsaSha256, &p256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_good_for_one_import_until_its_end_and_a_repetition_has_the_same_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key_for_import(&client, "ring", "mac", KeySpec::HMAC_SHA256).await;
    let material = Material::generate(KeyType::HmacSha256);
    let job = create_import_job(&client, "ring").await;
    let mut request = job_import(&key.name, &job, &material);

    request.validate_only = true;
    let planned = import(&client, request.clone()).await.expect("a plan");
    assert_eq!((planned.version, planned.state()), (1, KeyVersionState::Unspecified));
    request.validate_only = false;
    request.request_id = Uuid::new_v4().to_string();
    let first = import(&client, request.clone()).await.expect("an imported version");
    let again = import(&client, request.clone()).await.expect("the same answer");
    assert_eq!((first.name.clone(), first.etag.clone()), (again.name, again.etag));
    let other = portcullis_client::v1::ImportKeyVersionRequest {
        wrapped_key: rsa_aes_wrap(&job.public_key, OaepHash::Sha1, &[1; 32]).into(),
        ..request.clone()
    };
    refusal(import(&client, other).await).is(Code::InvalidArgument, "REQUEST_ID_REUSED");
    // Played again as a request of its own.
    request.request_id = String::new();
    let answer = refusal(import(&client, request.clone()).await);
    answer.is(Code::FailedPrecondition, "IMPORT_JOB_USED");
    let used = client
        .keys()
        .get_import_job(GetImportJobRequest { name: job.name.clone() })
        .await
        .expect("the job")
        .into_inner();
    assert_eq!(used.imported_version, first.name);

    // The same request id makes the same job.
    let create = CreateImportJobRequest {
        parent: "keyRings/ring".to_owned(),
        method: ImportMethod::RsaOaepSha1AesKwp as i32,
        wrapping_key_type: KeyType::Rsa2048 as i32,
        request_id: Uuid::new_v4().to_string(),
        lifetime: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let short = client
        .keys()
        .create_import_job(create.clone())
        .await
        .expect("a job")
        .into_inner();
    let repeated = client
        .keys()
        .create_import_job(create)
        .await
        .expect("a job")
        .into_inner();
    assert_eq!((&short.name, &short.public_key), (&repeated.name, &repeated.public_key));
    let request = job_import(&key.name, &short, &material);
    let expires = short.expire_time.expect("an end");
    wait_until("the job's end", Duration::from_secs(5), || {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a time");
        (now.as_secs() as i64 > expires.seconds).then_some(())
    });
    refusal(import(&client, request).await).is(Code::FailedPrecondition, "IMPORT_JOB_EXPIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_import_needs_a_permission_of_its_own() {
    let cluster = TestCluster::new();
    cluster.grant(
        r#"
            name = "importers"
            role = "importer"
            principals = ["spiffe://portcullis.dev/importer"]
            rings = ["*"]
        "#,
    );
    let gateway = Gateway::start(&cluster);
    let developer = gateway.unix_client().await;
    create_ring(&developer, "ring").await;
    let key = create_key_for_import(&developer, "ring", "mac", KeySpec::HMAC_SHA256).await;
    let identity = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/importer"), &cluster.pki("ca.pem"));
    let importer = gateway
        .tls_client_as(&identity.credentials())
        .await
        .expect("a connection");
    let material = Material::generate(KeyType::HmacSha256);
    let answer = refusal(import(&importer, clear_import(&key.name, &material)).await);
    let answer = answer.is(Code::PermissionDenied, "ACCESS_DENIED");
    assert!(answer.message.contains("key.import_clear"), "{}", answer.message);
    let job = create_import_job(&importer, "ring").await;
    import(&importer, job_import(&key.name, &job, &material))
        .await
        .expect("an imported version");

    // An unwrapping key is asked for as well, and a key that may not unwrap does not.
    create_key(&developer, "ring", "aes", KeySpec::AES_256).await;
    let request = shared_key_import(&key.name, "keyRings/ring/keys/aes", &[7; 32], &material);
    refusal(import(&importer, request).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");

    // No key material is in the logs.
    drop(developer);
    let secret = hex::encode(&material.value);
    let log = std::fs::read_to_string(cluster.audit_file()).expect("the audit log");
    assert!(!log.contains(&secret));
    assert!(!AuditLog::read(&cluster.audit_file()).entries.is_empty());
}

//! What becomes of import jobs and imports afterwards.

use portcullis_client::{
    Code,
    v1::{CreateImportJobRequest, GetImportJobRequest, ImportMethod, KeyType},
};
use portcullis_softhsm_tests::{
    AuditLog, Database, Gateway, KeySpec, LONG, Material, TestCluster, clear_import, create_import_job,
    create_key_for_import, create_ring, import, job_import, refusal,
};
use std::time::Instant;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_import_is_answered_with_the_version_that_it_made() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let key = create_key_for_import(&client, "ring", "mac", KeySpec::HMAC_SHA256).await;
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let mut request = clear_import(&key.name, &Material::generate(KeyType::HmacSha256));
            request.request_id = Uuid::new_v4().to_string();
            request
        })
        .collect();
    for (number, request) in (1..).zip(&requests) {
        let made = import(&client, request.clone()).await.expect("an imported version");
        assert_eq!(made.version, number);
    }
    for (number, request) in (1..).zip(&requests) {
        let again = import(&client, request.clone()).await.expect("the same answer");
        assert_eq!(
            (again.version, &again.name),
            (number, &format!("{}/versions/{number}", key.name))
        );
    }
    // Also under another life of the gateway.
    tokio::task::block_in_place(|| gateway.stop());
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let again = import(&client, requests[1].clone()).await.expect("the same answer");
    assert_eq!(again.version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_over_are_removed_with_their_keys_and_the_log_says_so() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let keys: toml::Table = toml::from_str(r#"import_job_retention = "1s""#).expect("a table");
        config.insert("keys".to_owned(), keys.into());
    });
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let stays = create_import_job(&client, "ring").await;
    let short = CreateImportJobRequest {
        parent: "keyRings/ring".to_owned(),
        method: ImportMethod::RsaOaepSha1AesKwp as i32,
        wrapping_key_type: KeyType::Rsa2048 as i32,
        lifetime: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let created = client.keys().create_import_job(short).await;
    let over = created.expect("a job").into_inner();

    let request = GetImportJobRequest {
        name: over.name.clone(),
    };
    let started = Instant::now();
    let found = loop {
        let found = client.keys().get_import_job(request.clone()).await;
        if found.is_err() {
            break found;
        }
        assert!(started.elapsed() < LONG, "the job stays");
    };
    refusal(found).is(Code::NotFound, "RESOURCE_NOT_FOUND");
    let database = Database::of(&cluster);
    let jobs = database.number("SELECT count(*) FROM documents WHERE kind = 'import_job/1'");
    assert_eq!(jobs, 1, "the job that stays");
    let key = create_key_for_import(&client, "ring", "mac", KeySpec::HMAC_SHA256).await;
    let material = Material::generate(KeyType::HmacSha256);
    let late = import(&client, job_import(&key.name, &over, &material)).await;
    refusal(late).is(Code::NotFound, "RESOURCE_NOT_FOUND");
    import(&client, job_import(&key.name, &stays, &material))
        .await
        .expect("the other job is good");
    tokio::task::block_in_place(|| gateway.stop());

    let log = AuditLog::read(&cluster.audit_file());
    let removals: Vec<_> = log
        .entries
        .iter()
        .filter(|entry| entry["action"] == "import_job.remove")
        .map(|entry| (entry["resource"].as_str(), entry["outcome"].as_str()))
        .collect();
    let name = Some(over.name.as_str());
    assert_eq!(removals, [(name, Some("INTENT")), (name, Some("OK"))]);
}

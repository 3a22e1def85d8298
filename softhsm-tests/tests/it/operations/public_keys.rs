//! Public halves.

use super::KINDS;
use portcullis_client::{
    Code,
    v1::{GetPublicKeyRequest, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, TestCluster, crc32c, create_key, create_ring, openssl, public_key, refusal, temporary_directory,
};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn pem_and_der_are_the_same_key_to_openssl() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        for (id, spec) in KINDS {
            let key = create_key(&client, transport, id, spec).await;
            let pem = GetPublicKeyRequest {
                name: key.name.clone(),
                format: PublicKeyFormat::Pem as i32,
            };
            if matches!(id, "aes-256" | "hmac-sha256") {
                refusal(client.keys().get_public_key(pem).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
                continue;
            }
            let pem = client.keys().get_public_key(pem).await.expect("PEM").into_inner();
            // A version has the same public half as its key; PEM is the default.
            let version = public_key(
                &client,
                &format!("{}/versions/1", key.name),
                PublicKeyFormat::Unspecified,
            )
            .await;
            let der = public_key(&client, &key.name, PublicKeyFormat::Der).await;
            for answer in [&pem, &version, &der] {
                assert_eq!(answer.name, format!("{}/versions/1", key.name));
                assert!(answer.r#type() == spec.key_type, "{id}");
                assert_eq!(answer.public_key_crc32c, crc32c(&answer.public_key), "{id}");
            }
            assert_eq!(pem.public_key, version.public_key, "{id}");
            assert!(version.format() == PublicKeyFormat::Pem, "{id}");
            let directory = temporary_directory();
            fs::write(directory.path().join("key.pem"), &pem.public_key).expect("a file");
            let converted = openssl(
                directory.path(),
                ["pkey", "-pubin", "-in", "key.pem", "-outform", "DER"],
            )
            .succeeded();
            assert_eq!(converted.stdout, der.public_key, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_exist_is_not_found() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    create_key(&client, "ring", "key", KeySpec::EC_P256).await;
    let get = async |name: &str| {
        let name = name.to_owned();
        client
            .keys()
            .get_public_key(GetPublicKeyRequest {
                name,
                ..Default::default()
            })
            .await
    };
    refusal(get("keyRings/ring/keys/key/versions/2").await).is(Code::NotFound, "KEY_VERSION_NOT_FOUND");
    refusal(get("keyRings/ring/keys/other/versions/1").await).is(Code::NotFound, "KEY_NOT_FOUND");
    for version in ["0", "01", "-1", "x", "4294967296"] {
        let name = format!("keyRings/ring/keys/key/versions/{version}");
        refusal(get(&name).await).is(Code::InvalidArgument, "INVALID_NAME");
    }
}

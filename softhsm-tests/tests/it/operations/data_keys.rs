//! Data keys in their three forms.

use p256::pkcs8::EncodePublicKey;
use portcullis_client::{
    Client, Code,
    v1::{
        DecryptRequest, EncryptionContext, GenerateDataKeyRequest, GenerateDataKeyResponse, KeyType, decrypt_request,
        generate_data_key_request::{Authenticated, Release},
    },
};
use portcullis_hsm::public_key::rsa_public_key;
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, Material, TestCluster, crc32c, create_key, create_ring, decrypt, refusal,
};
use rsa::{Oaep, RsaPrivateKey, pkcs8::DecodePrivateKey};
use sha2::Sha256;
use std::collections::HashSet;
use tonic::Status;

fn request(name: &str, length_bytes: u32, release: Option<Release>) -> GenerateDataKeyRequest {
    GenerateDataKeyRequest {
        name: name.to_owned(),
        length_bytes,
        release,
        ..Default::default()
    }
}

async fn generate(client: &Client, request: GenerateDataKeyRequest) -> Result<GenerateDataKeyResponse, Status> {
    Ok(client.crypto().generate_data_key(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_is_what_its_ciphertext_decrypts_to() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let name = create_key(&client, transport, "aes", KeySpec::AES_256).await.name;
        let mut seen = HashSet::new();
        for length in [16, 24, 32, 64] {
            let open = generate(&client, request(&name, length, None))
                .await
                .expect("a data key");
            assert_eq!(open.plaintext.len(), length as usize);
            assert_eq!(open.plaintext_crc32c, crc32c(&open.plaintext));
            assert_eq!(open.ciphertext_crc32c, crc32c(&open.ciphertext));
            assert_eq!(open.ciphertext.len(), 50 + length as usize);
            assert_eq!(open.name, format!("{name}/versions/1"));
            assert!(open.ciphertext_for_recipient.is_empty());
            let decrypted = decrypt(&client, &name, &open.ciphertext, b"")
                .await
                .expect("the data key");
            assert_eq!(decrypted.plaintext, open.plaintext);

            let sealed = generate(&client, request(&name, length, Some(Release::WithoutPlaintext(true)))).await;
            let sealed = sealed.expect("a sealed data key");
            assert!(sealed.plaintext.is_empty() && sealed.ciphertext_for_recipient.is_empty());
            assert_eq!(sealed.plaintext_crc32c, 0);
            let decrypted = decrypt(&client, &name, &sealed.ciphertext, b"")
                .await
                .expect("the data key");
            assert_eq!(decrypted.plaintext.len(), length as usize);
            for key in [open.plaintext, decrypted.plaintext] {
                assert!(seen.insert(key), "the same data key twice");
            }
            // Saying no is the same as saying nothing.
            let open = generate(&client, request(&name, length, Some(Release::WithoutPlaintext(false)))).await;
            assert_eq!(open.expect("a data key").plaintext.len(), length as usize);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_gets_the_data_key_and_nobody_else_sees_it() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let Material {
        value,
        public_key: public,
    } = Material::generate(KeyType::Rsa2048);
    let recipient = RsaPrivateKey::from_pkcs8_der(&value).expect("an RSA key");
    for length in [16, 64] {
        let release = Release::RecipientPublicKey(public.clone().into());
        let answer = generate(&client, request(&name, length, Some(release)))
            .await
            .expect("a data key");
        assert!(answer.plaintext.is_empty());
        let sent = &answer.ciphertext_for_recipient;
        assert_eq!(answer.ciphertext_for_recipient_crc32c, crc32c(sent));
        let received = recipient
            .decrypt(Oaep::<Sha256>::new(), sent)
            .expect("what was encrypted to the recipient");
        let decrypted = decrypt(&client, &name, &answer.ciphertext, b"")
            .await
            .expect("the data key");
        assert_eq!(received, decrypted.plaintext);
        assert_eq!(received.len(), length as usize);
    }
    let short = rsa_public_key(&[0xc5; 128], &[1, 0, 1]).expect("a key of 1024 bits");
    let own = p256::SecretKey::from_slice(&[7; 32]).expect("a scalar").public_key();
    let curve = own.to_public_key_der().expect("an encodable key").to_vec();
    for wrong in [short, curve, public[1..].to_vec(), Vec::new()] {
        let release = Release::RecipientPublicKey(wrong.into());
        refusal(generate(&client, request(&name, 32, Some(release))).await)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .with("field", "recipient_public_key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_is_bound_to_its_context_which_is_logged_as_associated_data_never_is() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let context = EncryptionContext {
        values: [("tenant".to_owned(), "seven".to_owned())].into(),
    };
    let bound = GenerateDataKeyRequest {
        authenticated: Some(Authenticated::EncryptionContext(context.clone())),
        ..request(&name, 32, None)
    };
    let answer = generate(&client, bound).await.expect("a data key");
    let with_context = DecryptRequest {
        name: name.clone(),
        ciphertext: answer.ciphertext.clone(),
        authenticated: Some(decrypt_request::Authenticated::EncryptionContext(context)),
        ..Default::default()
    };
    let decrypted = client
        .crypto()
        .decrypt(with_context)
        .await
        .expect("the data key")
        .into_inner();
    assert_eq!(decrypted.plaintext, answer.plaintext);
    refusal(decrypt(&client, &name, &answer.ciphertext, b"").await).is(Code::InvalidArgument, "DECRYPTION_FAILED");

    let data = b"the caller's secret associated data";
    let bound = GenerateDataKeyRequest {
        authenticated: Some(Authenticated::AssociatedData(data.to_vec().into())),
        associated_data_crc32c: Some(crc32c(data)),
        ..request(&name, 32, Some(Release::WithoutPlaintext(true)))
    };
    let answer = generate(&client, bound.clone()).await.expect("a data key");
    assert!(answer.verified_associated_data_crc32c);
    let decrypted = decrypt(&client, &name, &answer.ciphertext, data)
        .await
        .expect("the data key");
    assert_eq!(decrypted.plaintext.len(), 32);
    let garbled = GenerateDataKeyRequest {
        associated_data_crc32c: Some(0),
        ..bound.clone()
    };
    refusal(generate(&client, garbled).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let dry = GenerateDataKeyRequest { dry_run: true, ..bound };
    assert!(generate(&client, dry).await.expect("a dry run").ciphertext.is_empty());
    for length in [0, 15, 17, 33, 128, u32::MAX] {
        refusal(generate(&client, request(&name, length, None)).await)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .with("field", "length_bytes");
    }
    let signer = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    refusal(generate(&client, request(&signer, 32, None)).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");

    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let generated: Vec<_> = log
        .outcomes()
        .filter(|entry| {
            entry["outcome"] == "OK" && entry["action"].as_str().is_some_and(|one| one.starts_with("data_key"))
        })
        .collect();
    assert_eq!(generated[0]["action"], "data_key.generate");
    assert_eq!(generated[0]["context"]["tenant"], "seven");
    assert_eq!(generated[1]["action"], "data_key.generate_sealed");
    assert_eq!(generated[1]["resource"], format!("{name}/versions/1"));
    assert!(generated[1]["member"].is_string());
    let text = std::fs::read_to_string(cluster.audit_file()).expect("the log");
    assert!(!text.contains("secret associated") && !text.contains(&hex::encode(data)));
}

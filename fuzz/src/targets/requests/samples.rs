//! Requests that a gateway accepts, and what they need to be there.

use super::super::sample;
use portcullis_client::{
    Client,
    v1::{self, KeyOperation, KeyType, Mechanism},
};
use portcullis_softhsm_tests::{
    KeySpec, Material, clear_import, create_ephemeral_key, create_key, create_key_for_import, create_recipient,
    create_ring, decrypt, encrypt, encrypt_request, key_request, message_request, sign,
};
use prost::Message;
use std::collections::BTreeMap;

/// What the gateway said of what was made in it.
#[derive(Default)]
pub(super) struct Known {
    signature: Vec<u8>,
    ciphertext: Vec<u8>,
    mac: Vec<u8>,
    key_token: Vec<u8>,
}

/// Makes a ring with a key of each kind.
pub(super) async fn prepare(client: &Client) -> Known {
    create_ring(client, RING).await;
    for (key, spec) in [
        ("signing", KeySpec::EC_P256),
        ("rsa", KeySpec::RSA_PSS),
        ("aes", KeySpec::AES_256),
        ("other", KeySpec::AES_256),
        ("mac", KeySpec::HMAC_SHA256),
        ("spare", KeySpec::EC_P256),
        (
            "agreement",
            KeySpec::wrapped(KeyType::EcP256, &[(KeyOperation::Derive, Mechanism::Ecdh)]),
        ),
        (
            "decryption",
            KeySpec::wrapped(KeyType::Rsa2048, &[(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)]),
        ),
    ] {
        create_key(client, RING, key, spec).await;
    }
    create_key_for_import(client, RING, "imported", KeySpec::AES_256).await;
    create_recipient(client, RING, "site", sample!("rsa.spki"))
        .await
        .expect("a recipient");
    let alias = v1::CreateAliasRequest {
        parent: ring(),
        alias_id: "current".to_owned(),
        alias: Some(v1::Alias {
            target: key("signing"),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.keys().create_alias(alias).await.expect("an alias");
    let encrypted = encrypt(client, &key("aes"), b"plaintext", b"data")
        .await
        .expect("a ciphertext");
    decrypt(client, &key("aes"), &encrypted.ciphertext, b"data")
        .await
        .expect("a plaintext");
    let ephemeral = create_ephemeral_key(client, RING, KeySpec::EC_P256, 3600)
        .await
        .expect("an ephemeral key");
    let mac = v1::MacSignRequest {
        name: key("mac"),
        data: b"data".as_slice().into(),
        ..Default::default()
    };
    Known {
        signature: sign(client, &key("signing"), b"message")
            .await
            .expect("a signature")
            .signature
            .to_vec(),
        ciphertext: encrypted.ciphertext.to_vec(),
        mac: client
            .crypto()
            .mac_sign(mac)
            .await
            .expect("a code")
            .into_inner()
            .mac
            .to_vec(),
        key_token: ephemeral.token.to_vec(),
    }
}

/// A request of each kind that is accepted again and again.
pub(super) fn requests(known: Known) -> Vec<Vec<u8>> {
    let bytes = |bytes: &[u8]| prost::bytes::Bytes::copy_from_slice(bytes);
    let context = v1::EncryptionContext {
        values: BTreeMap::from([("department".to_owned(), "legal".to_owned())]),
    };
    let signing = message_request(&key("signing"), b"message");
    let encryption = encrypt_request(&key("aes"), b"plaintext", b"data");
    let decryption = v1::DecryptRequest {
        name: key("aes"),
        ciphertext: bytes(&known.ciphertext),
        authenticated: Some(v1::decrypt_request::Authenticated::AssociatedData(bytes(b"data"))),
        ..Default::default()
    };
    let version = || format!("{}/versions/1", key("spare"));
    let mut all = keys();
    all.extend([
        request("CryptoService/Sign", &signing),
        request(
            "CryptoService/Sign",
            &v1::SignRequest {
                key_token: bytes(&known.key_token),
                name: String::new(),
                ..signing.clone()
            },
        ),
        request(
            "CryptoService/Verify",
            &v1::VerifyRequest {
                name: key("signing"),
                input: Some(v1::verify_request::Input::Message(bytes(b"message"))),
                signature: bytes(&known.signature),
                ..Default::default()
            },
        ),
        request("CryptoService/Encrypt", &encryption),
        request(
            "CryptoService/Encrypt",
            &v1::EncryptRequest {
                authenticated: Some(v1::encrypt_request::Authenticated::EncryptionContext(context)),
                ..encryption.clone()
            },
        ),
        request("CryptoService/Decrypt", &decryption),
        request(
            "CryptoService/ReEncrypt",
            &v1::ReEncryptRequest {
                source_name: key("aes"),
                ciphertext: bytes(&known.ciphertext),
                source_authenticated: Some(v1::re_encrypt_request::SourceAuthenticated::SourceAssociatedData(
                    bytes(b"data"),
                )),
                destination_name: key("other"),
                ..Default::default()
            },
        ),
        request(
            "CryptoService/GenerateDataKey",
            &v1::GenerateDataKeyRequest {
                name: key("aes"),
                length_bytes: 32,
                release: Some(v1::generate_data_key_request::Release::RecipientPublicKey(bytes(
                    sample!("rsa.spki"),
                ))),
                ..Default::default()
            },
        ),
        request(
            "CryptoService/MacSign",
            &v1::MacSignRequest {
                name: key("mac"),
                data: bytes(b"data"),
                ..Default::default()
            },
        ),
        request(
            "CryptoService/MacVerify",
            &v1::MacVerifyRequest {
                name: key("mac"),
                data: bytes(b"data"),
                mac: bytes(&known.mac),
                ..Default::default()
            },
        ),
        request(
            "CryptoService/DeriveSharedSecret",
            &v1::DeriveSharedSecretRequest {
                name: key("agreement"),
                peer_public_key: bytes(sample!("p256.spki")),
                ..Default::default()
            },
        ),
        request(
            "CryptoService/GenerateRandom",
            &v1::GenerateRandomRequest { length_bytes: 32 },
        ),
        request(
            "CryptoService/BatchSign",
            &v1::BatchSignRequest {
                items: vec![signing.clone(), signing.clone()],
            },
        ),
        request(
            "CryptoService/BatchEncrypt",
            &v1::BatchEncryptRequest {
                items: vec![encryption.clone(), encryption],
            },
        ),
        request(
            "CryptoService/BatchDecrypt",
            &v1::BatchDecryptRequest {
                items: vec![decryption],
            },
        ),
        request(
            "CryptoService/Pipeline",
            &v1::PipelineRequest {
                id: 7,
                request: Some(v1::pipeline_request::Request::Sign(signing)),
                ..Default::default()
            },
        ),
        request(
            "KeyService/GetKeyVersion",
            &v1::GetKeyVersionRequest { name: version() },
        ),
        request(
            "KeyService/DisableKeyVersion",
            &v1::ChangeKeyVersionStateRequest {
                name: version(),
                ..Default::default()
            },
        ),
        request(
            "KeyService/EnableKeyVersion",
            &v1::ChangeKeyVersionStateRequest {
                name: version(),
                ..Default::default()
            },
        ),
    ]);
    all
}

/// An item of a batch that says nothing takes two bytes: more of them than any batch may have.
pub(super) fn flood() -> Vec<u8> {
    [
        b"CryptoService/BatchReEncrypt\n".as_slice(),
        &[0x0a, 0].repeat(portcullis_proto::MOST_FIELDS),
    ]
    .concat()
}

fn keys() -> Vec<Vec<u8>> {
    let labels = BTreeMap::from([("team".to_owned(), "payments".to_owned())]);
    let validated = v1::CreateKeyRequest {
        validate_only: true,
        ..key_request(RING, "new", KeySpec::RSA_PKCS1)
    };
    let import = v1::ImportKeyVersionRequest {
        validate_only: true,
        ..clear_import(&key("imported"), &Material::secret(32))
    };
    let object = |key, content| v1::CreateObjectRequest {
        parent: ring(),
        object_id: "object".to_owned(),
        object: Some(v1::StoredObject {
            label: b"label".as_slice().into(),
            key,
            content: Some(content),
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    };
    vec![
        request(
            "KeyService/CreateKeyRing",
            &v1::CreateKeyRingRequest {
                key_ring_id: "another".to_owned(),
                key_ring: Some(v1::KeyRing {
                    labels: labels.clone(),
                    ..Default::default()
                }),
                validate_only: true,
                ..Default::default()
            },
        ),
        request("KeyService/GetKeyRing", &v1::GetKeyRingRequest { name: ring() }),
        request(
            "KeyService/ListKeyRings",
            &v1::ListKeyRingsRequest {
                page_size: 10,
                ..Default::default()
            },
        ),
        request("KeyService/CreateKey", &validated),
        request("KeyService/GetKey", &v1::GetKeyRequest { name: key("signing") }),
        request(
            "KeyService/ListKeys",
            &v1::ListKeysRequest {
                parent: ring(),
                page_size: 2,
                filter: "state=ACTIVE AND type=EC_P256".to_owned(),
                ..Default::default()
            },
        ),
        request(
            "KeyService/UpdateKey",
            &v1::UpdateKeyRequest {
                key: Some(v1::Key {
                    name: key("signing"),
                    labels,
                    ..Default::default()
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["labels".to_owned()],
                }),
                ..Default::default()
            },
        ),
        request(
            "KeyService/ListKeyVersions",
            &v1::ListKeyVersionsRequest {
                parent: key("signing"),
                ..Default::default()
            },
        ),
        request(
            "KeyService/GetPublicKey",
            &v1::GetPublicKeyRequest {
                name: key("signing"),
                ..Default::default()
            },
        ),
        request(
            "KeyService/GetJsonWebKeySet",
            &v1::GetJsonWebKeySetRequest { parent: ring() },
        ),
        request(
            "KeyService/ListAliases",
            &v1::ListAliasesRequest {
                parent: ring(),
                ..Default::default()
            },
        ),
        request(
            "KeyService/CreateImportJob",
            &v1::CreateImportJobRequest {
                parent: ring(),
                method: v1::ImportMethod::RsaOaepSha1AesKwp as i32,
                wrapping_key_type: KeyType::Rsa2048 as i32,
                lifetime: Some(prost_types::Duration {
                    seconds: 3600,
                    nanos: 0,
                }),
                validate_only: true,
                ..Default::default()
            },
        ),
        request("KeyService/ImportKeyVersion", &import),
        request(
            "KeyService/GetRecipient",
            &v1::GetRecipientRequest {
                name: format!("{}/recipients/site", ring()),
            },
        ),
        request(
            "ObjectService/CreateObject",
            &object(
                String::new(),
                v1::stored_object::Content::Certificate(sample!("subject.der").into()),
            ),
        ),
        request(
            "ObjectService/CreateObject",
            &object(
                key("signing"),
                v1::stored_object::Content::Data(v1::DataObject {
                    application: "payments".to_owned(),
                    value: b"value".as_slice().into(),
                    ..Default::default()
                }),
            ),
        ),
        request(
            "ObjectService/ListObjects",
            &v1::ListObjectsRequest {
                parent: ring(),
                ..Default::default()
            },
        ),
    ]
}

fn request(method: &str, message: &impl Message) -> Vec<u8> {
    [method.as_bytes(), b"\n", &message.encode_to_vec()].concat()
}

fn ring() -> String {
    format!("keyRings/{RING}")
}

fn key(id: &str) -> String {
    format!("{}/keys/{id}", ring())
}

const RING: &str = "fuzz";

//! What resident keys do on a token that can hold no others: each type and mechanism.

use super::{is_unharmed, resident, started};
use aes::Aes256;
use cmac::Cmac;
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use hmac::{Hmac, KeyInit, Mac};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use portcullis_client::{
    Client, Code,
    v1::{
        AsymmetricDecryptRequest, DecryptRequest, DeriveSharedSecretRequest, EncryptRequest, ImportKeyVersionRequest,
        KeyOperation, KeyType, MacSignRequest, MacVerifyRequest, Mechanism, PublicKeyFormat, SignRequest,
        VerifyRequest, verify_request::Input,
    },
};
use portcullis_softhsm_tests::{
    KeySpec, Material, clear_import, create_key, create_key_for_import, decrypt, encrypt, import, message_request,
    openssl_accepts, public_key, refusal, verifies,
};
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

const MESSAGE: &[u8] = b"a message, signed where its key was born";

const ECDSA: [(KeyOperation, Mechanism); 3] = [
    (KeyOperation::Sign, Mechanism::EcdsaSha256),
    (KeyOperation::Sign, Mechanism::EcdsaSha384),
    (KeyOperation::Sign, Mechanism::EcdsaSha512),
];
const RSA: [(KeyOperation, Mechanism); 6] = [
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha256),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha384),
    (KeyOperation::Sign, Mechanism::RsaPkcs1Sha512),
    (KeyOperation::Sign, Mechanism::RsaPssSha256),
    (KeyOperation::Sign, Mechanism::RsaPssSha384),
    (KeyOperation::Sign, Mechanism::RsaPssSha512),
];
const OAEP: [(KeyOperation, Mechanism); 2] = [
    (KeyOperation::Decrypt, Mechanism::RsaOaepSha1),
    (KeyOperation::Decrypt, Mechanism::RsaOaepSha256),
];
const CMAC: [(KeyOperation, Mechanism); 2] = [
    (KeyOperation::MacSign, Mechanism::AesCmac),
    (KeyOperation::MacVerify, Mechanism::AesCmac),
];
const MODES: [(KeyOperation, Mechanism); 8] = [
    (KeyOperation::Encrypt, Mechanism::AesCbc),
    (KeyOperation::Decrypt, Mechanism::AesCbc),
    (KeyOperation::Encrypt, Mechanism::AesCbcPad),
    (KeyOperation::Decrypt, Mechanism::AesCbcPad),
    (KeyOperation::Encrypt, Mechanism::AesCtr),
    (KeyOperation::Decrypt, Mechanism::AesCtr),
    (KeyOperation::Encrypt, Mechanism::AesEcb),
    (KeyOperation::Decrypt, Mechanism::AesEcb),
];
const AGREE: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Derive, Mechanism::Ecdh)];

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_each_type_sign_by_each_mechanism_and_others_agree() {
    let (_cluster, gateway, client) = started().await;
    for (id, key_type, uses) in [
        ("p256", KeyType::EcP256, &ECDSA[..]),
        ("p384", KeyType::EcP384, &ECDSA),
        ("p521", KeyType::EcP521, &ECDSA),
        ("rsa-2048", KeyType::Rsa2048, &RSA),
        ("rsa-3072", KeyType::Rsa3072, &RSA),
        ("rsa-4096", KeyType::Rsa4096, &RSA),
    ] {
        let key = create_key(&client, "ring", id, resident(key_type, uses)).await;
        let der = public_key(&client, &key.name, PublicKeyFormat::Der).await.public_key;
        let pem = public_key(&client, &key.name, PublicKeyFormat::Pem).await.public_key;
        for (_, mechanism) in uses {
            let what = format!("{id} with {}", mechanism.as_str_name());
            let request = SignRequest {
                mechanism: *mechanism as i32,
                ..message_request(&key.name, MESSAGE)
            };
            let answer = client.crypto().sign(request).await;
            let answer = answer.unwrap_or_else(|status| panic!("{what}: {status}")).into_inner();
            assert_eq!(answer.name, format!("{}/versions/1", key.name));
            assert!(verifies(&der, *mechanism, MESSAGE, &answer.signature), "{what}");
            assert!(
                !verifies(&der, *mechanism, b"another message", &answer.signature),
                "{what}"
            );
            if uses[0].1 == *mechanism {
                assert!(openssl_accepts(&pem, *mechanism, MESSAGE, &answer.signature), "{what}");
                assert!(
                    !openssl_accepts(&pem, *mechanism, b"another message", &answer.signature),
                    "{what}"
                );
            }
            let request = VerifyRequest {
                name: key.name.clone(),
                input: Some(Input::Message(MESSAGE.into())),
                signature: answer.signature,
                mechanism: *mechanism as i32,
                ..Default::default()
            };
            let answer = client.crypto().verify(request).await.expect("an answer").into_inner();
            assert!(answer.valid, "{what}");
        }
    }
    is_unharmed(&gateway).await;
}

/// A secret key of a known value.
async fn known(client: &Client, id: &str, spec: KeySpec) -> (String, Vec<u8>) {
    let material = Material::generate(spec.key_type);
    let key = create_key_for_import(client, "ring", id, spec).await;
    let request = ImportKeyVersionRequest {
        allow_single_replica: true,
        ..clear_import(&key.name, &material)
    };
    import(client, request).await.expect("an imported key");
    (key.name, material.value)
}

macro_rules! code {
    ($mac:ty, $value:expr) => {{
        let mut mac = <$mac as KeyInit>::new_from_slice($value).expect("a key");
        mac.update(MESSAGE);
        mac.finalize().into_bytes().to_vec()
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn message_authentication_codes_are_those_of_another_implementation() {
    let (_cluster, gateway, client) = started().await;
    for (id, key_type, uses) in [
        ("hmac-256", KeyType::HmacSha256, &[][..]),
        ("hmac-384", KeyType::HmacSha384, &[]),
        ("hmac-512", KeyType::HmacSha512, &[]),
        ("cmac", KeyType::Aes256, &CMAC),
    ] {
        let (name, value) = known(&client, id, resident(key_type, uses)).await;
        let expected = match key_type {
            KeyType::HmacSha256 => code!(Hmac<Sha256>, &value),
            KeyType::HmacSha384 => code!(Hmac<Sha384>, &value),
            KeyType::HmacSha512 => code!(Hmac<Sha512>, &value),
            _ => code!(Cmac<Aes256>, &value),
        };
        let request = MacSignRequest {
            name: name.clone(),
            data: MESSAGE.into(),
            ..Default::default()
        };
        let answer = client.crypto().mac_sign(request).await.expect("a code").into_inner();
        assert_eq!(answer.mac, expected, "{id}");
        let mut wrong = expected.clone();
        wrong[3] ^= 1;
        for (mac, valid) in [
            (&expected[..], true),
            (&wrong, false),
            (&expected[1..], false),
            (&[], false),
        ] {
            let request = MacVerifyRequest {
                name: name.clone(),
                data: MESSAGE.into(),
                mac: mac.to_vec().into(),
                ..Default::default()
            };
            let answer = client
                .crypto()
                .mac_verify(request)
                .await
                .expect("an answer")
                .into_inner();
            assert_eq!(answer.valid, valid, "{id}, {mac:02x?}");
        }
    }
    is_unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_is_decrypted_and_what_is_wrong_has_one_answer() {
    let (_cluster, gateway, client) = started().await;
    let gcm = create_key(&client, "ring", "gcm", resident(KeyType::Aes256, &[]))
        .await
        .name;
    for plaintext in [&b""[..], b"a plaintext", &[7; 70_000]] {
        let sealed = encrypt(&client, &gcm, plaintext, b"data")
            .await
            .expect("a ciphertext")
            .ciphertext;
        let opened = decrypt(&client, &gcm, &sealed, b"data").await.expect("the plaintext");
        assert_eq!(opened.plaintext, plaintext);
        let mut changed = sealed.to_vec();
        *changed.last_mut().expect("a tag") ^= 1;
        for (ciphertext, data) in [
            (&changed[..], &b"data"[..]),
            (&sealed, b"other data"),
            (&sealed[..40], b"data"),
        ] {
            refusal(decrypt(&client, &gcm, ciphertext, data).await).is(Code::InvalidArgument, "DECRYPTION_FAILED");
        }
    }

    let (modes, value) = known(&client, "modes", resident(KeyType::Aes256, &MODES)).await;
    for mechanism in [
        Mechanism::AesCbc,
        Mechanism::AesCbcPad,
        Mechanism::AesCtr,
        Mechanism::AesEcb,
    ] {
        let what = mechanism.as_str_name();
        let plaintext = [0x5a; 64];
        let request = EncryptRequest {
            name: modes.clone(),
            plaintext: plaintext.to_vec().into(),
            mechanism: mechanism as i32,
            ..Default::default()
        };
        let sealed = client.crypto().encrypt(request).await;
        let sealed = sealed.unwrap_or_else(|status| panic!("{what}: {status}")).into_inner();
        if mechanism == Mechanism::AesCtr {
            let mut expected = plaintext.to_vec();
            Ctr128BE::<Aes256>::new_from_slices(&value, &sealed.initialization_vector)
                .expect("a key and a counter")
                .apply_keystream(&mut expected);
            assert_eq!(sealed.ciphertext, expected);
        }
        let request = DecryptRequest {
            name: modes.clone(),
            ciphertext: sealed.ciphertext,
            initialization_vector: sealed.initialization_vector,
            mechanism: mechanism as i32,
            ..Default::default()
        };
        let opened = client.crypto().decrypt(request).await;
        let opened = opened.unwrap_or_else(|status| panic!("{what}: {status}")).into_inner();
        assert_eq!(opened.plaintext, plaintext[..], "{what}");
    }
    is_unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_to_a_public_key_is_decrypted_and_peers_agree_on_a_secret() {
    let (_cluster, gateway, client) = started().await;
    let name = create_key(&client, "ring", "oaep", resident(KeyType::Rsa2048, &OAEP))
        .await
        .name;
    let der = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
    let public = RsaPublicKey::from_public_key_der(&der).expect("an RSA key");
    let mut random = rand::rng();
    let sha1 = public
        .encrypt(&mut random, Oaep::<Sha1>::new(), b"a plaintext")
        .expect("a ciphertext");
    let sha256 = public
        .encrypt(&mut random, Oaep::<Sha256>::new(), b"a plaintext")
        .expect("a ciphertext");
    let open = async |mechanism: Mechanism, ciphertext: &[u8]| {
        let request = AsymmetricDecryptRequest {
            name: name.clone(),
            ciphertext: ciphertext.to_vec().into(),
            mechanism: mechanism as i32,
            ..Default::default()
        };
        client.crypto().asymmetric_decrypt(request).await
    };
    for (mechanism, right, wrong) in [
        (Mechanism::RsaOaepSha1, &sha1, &sha256),
        (Mechanism::RsaOaepSha256, &sha256, &sha1),
    ] {
        let opened = open(mechanism, right).await.expect("the plaintext").into_inner();
        assert_eq!(opened.plaintext, &b"a plaintext"[..]);
        let mut changed = right.clone();
        changed[100] ^= 1;
        for wrong in [&wrong[..], &changed, &right[1..], &[0; 256], &[0xff; 256]] {
            refusal(open(mechanism, wrong).await).is(Code::InvalidArgument, "DECRYPTION_FAILED");
        }
    }

    let name = create_key(&client, "ring", "agree", resident(KeyType::EcP256, &AGREE))
        .await
        .name;
    let der = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
    let ours = p256::PublicKey::from_public_key_der(&der).expect("a key on P-256");
    let peer = Material::generate(KeyType::EcP256);
    let secret =
        <p256::SecretKey as p256::pkcs8::DecodePrivateKey>::from_pkcs8_der(&peer.value).expect("the peer's key");
    let expected = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), ours.as_affine());
    let request = DeriveSharedSecretRequest {
        name,
        peer_public_key: secret.public_key().to_public_key_der().expect("DER").into_vec().into(),
        ..Default::default()
    };
    let agreed = client
        .crypto()
        .derive_shared_secret(request)
        .await
        .expect("a secret")
        .into_inner();
    assert_eq!(agreed.shared_secret, expected.raw_secret_bytes().to_vec());
    is_unharmed(&gateway).await;
}

//! RSA decryption and key agreement, with the other side done by Rust crates that the gateway does not use.

use portcullis_client::{
    Client, Code,
    v1::{
        AsymmetricDecryptRequest, AsymmetricDecryptResponse, DeriveSharedSecretRequest, DeriveSharedSecretResponse,
        KeyOperation, KeyPurpose, KeyType, Mechanism, MemberState, PublicKeyFormat, VerifyRequest, verify_request,
    },
};
use portcullis_softhsm_tests::{
    FaultyModule, Function, Gateway, KeySpec, LONG, Place, Rule, TestCluster, crc32c, create_key, create_ring,
    key_request, message_request, public_key, refusal,
};
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, RsaPublicKey, pkcs8::DecodePublicKey, traits::PublicKeyParts};
use sha1::Sha1;
use sha2::Sha256;
use std::time::Instant;
use tonic::Status;

const OAEP: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Decrypt, Mechanism::RsaOaepSha1)];
const OLD: [(KeyOperation, Mechanism); 3] = [
    (KeyOperation::Decrypt, Mechanism::RsaOaepSha1),
    (KeyOperation::Decrypt, Mechanism::RsaPkcs1Encryption),
    (KeyOperation::Decrypt, Mechanism::RsaRaw),
];

fn request(name: &str, mechanism: Mechanism, ciphertext: &[u8]) -> AsymmetricDecryptRequest {
    AsymmetricDecryptRequest {
        name: name.to_owned(),
        ciphertext: ciphertext.to_vec().into(),
        mechanism: mechanism as i32,
        ..Default::default()
    }
}

async fn decrypt(client: &Client, request: AsymmetricDecryptRequest) -> Result<AsymmetricDecryptResponse, Status> {
    Ok(client.crypto().asymmetric_decrypt(request).await?.into_inner())
}

async fn rsa_key(client: &Client, name: &str) -> RsaPublicKey {
    let der = public_key(client, name, PublicKeyFormat::Der).await.public_key;
    RsaPublicKey::from_public_key_der(&der).expect("an RSA key")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_to_a_public_key_is_decrypted() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    // RSA keys of 4096 bits take their time.
    let client = gateway.tls_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let mut random = rand::rng();
    for (id, key_type, length) in [
        ("rsa-2048", KeyType::Rsa2048, 256),
        ("rsa-3072", KeyType::Rsa3072, 384),
        ("rsa-4096", KeyType::Rsa4096, 512),
    ] {
        let name = create_key(&client, "ring", id, KeySpec::wrapped(key_type, &OAEP))
            .await
            .name;
        let public = rsa_key(&client, &name).await;
        for plaintext in [&b""[..], b"a plaintext", &[7; 190]] {
            let ciphertext = public
                .encrypt(&mut random, Oaep::<Sha1>::new(), plaintext)
                .expect("a ciphertext");
            assert_eq!(ciphertext.len(), length);
            let checked = AsymmetricDecryptRequest {
                mechanism: 0,
                ciphertext_crc32c: Some(crc32c(&ciphertext)),
                ..request(&name, Mechanism::RsaOaepSha1, &ciphertext)
            };
            let answer = decrypt(&client, checked.clone()).await.expect("the plaintext");
            assert_eq!(answer.plaintext, plaintext, "{id}");
            assert_eq!(answer.plaintext_crc32c, crc32c(plaintext));
            assert_eq!(answer.name, format!("{name}/versions/1"));
            assert!(answer.verified_ciphertext_crc32c && answer.mechanism() == Mechanism::RsaOaepSha1);
            let dry = AsymmetricDecryptRequest {
                dry_run: true,
                ..checked.clone()
            };
            assert!(decrypt(&client, dry).await.expect("a dry run").plaintext.is_empty());
            let garbled = AsymmetricDecryptRequest {
                ciphertext_crc32c: Some(0),
                ..checked
            };
            refusal(decrypt(&client, garbled).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_paddings_work_where_the_key_names_them_and_nowhere_else() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "old", KeySpec::wrapped(KeyType::Rsa2048, &OLD))
        .await
        .name;
    let public = rsa_key(&client, &name).await;
    let mut random = rand::rng();

    let ciphertext = public
        .encrypt(&mut random, Pkcs1v15Encrypt, b"a plaintext")
        .expect("a ciphertext");
    let answer = decrypt(&client, request(&name, Mechanism::RsaPkcs1Encryption, &ciphertext)).await;
    assert_eq!(answer.expect("the plaintext").plaintext, &b"a plaintext"[..]);

    // Raw RSA gives the number itself, as long as the modulus, with its leading zeros.
    for number in [&[0x5a][..], &[3; 200], &[]] {
        let raw = power(&public, number);
        let answer = decrypt(&client, request(&name, Mechanism::RsaRaw, &raw)).await;
        let whole = [&vec![0; 256 - number.len()][..], number].concat();
        assert_eq!(answer.expect("the number").plaintext, whole);
    }

    // Three are permitted, so one must be named; a key that permits one of them does not do the others.
    refusal(decrypt(&client, request(&name, Mechanism::Unspecified, &ciphertext)).await)
        .is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    let modern = create_key(&client, "ring", "modern", KeySpec::wrapped(KeyType::Rsa2048, &OAEP))
        .await
        .name;
    for mechanism in [Mechanism::RsaPkcs1Encryption, Mechanism::RsaRaw, Mechanism::AesGcm] {
        refusal(decrypt(&client, request(&modern, mechanism, &ciphertext)).await)
            .is(Code::InvalidArgument, "ALGORITHM_MISMATCH")
            .with("permitted", "RSA_OAEP_SHA1");
    }
    let aes = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    refusal(decrypt(&client, request(&aes, Mechanism::AesGcm, &ciphertext)).await)
        .is(Code::InvalidArgument, "FIELD_INVALID");
}

/// A number to the public exponent, as long as the modulus.
fn power(public: &RsaPublicKey, number: &[u8]) -> Vec<u8> {
    let padded = [&vec![0; 256 - number.len()][..], number].concat();
    let number = BoxedUint::from_be_slice(&padded, public.n().bits_precision()).expect("a number");
    let raised = rsa::hazmat::rsa_encrypt(public, &number).expect("a number below the modulus");
    raised.to_be_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_ciphertext_has_one_and_the_same_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "old", KeySpec::wrapped(KeyType::Rsa2048, &OLD))
        .await
        .name;
    let public = rsa_key(&client, &name).await;
    let mut random = rand::rng();
    let oaep = public
        .encrypt(&mut random, Oaep::<Sha1>::new(), b"a plaintext")
        .expect("a ciphertext");
    let pkcs1 = public
        .encrypt(&mut random, Pkcs1v15Encrypt, b"a plaintext")
        .expect("a ciphertext");
    let sha256 = public
        .encrypt(&mut random, Oaep::<Sha256>::new(), b"a plaintext")
        .expect("a ciphertext");
    let modulus = public.n().to_be_bytes().to_vec();
    let unpadded = power(&public, b"no padding at all");
    let mut changed = oaep.clone();
    changed[200] ^= 1;

    let mut messages = std::collections::BTreeSet::new();
    for mechanism in [Mechanism::RsaOaepSha1, Mechanism::RsaPkcs1Encryption] {
        let other = if mechanism == Mechanism::RsaOaepSha1 {
            &pkcs1
        } else {
            &oaep
        };
        for wrong in [
            &[][..],
            &[1],
            &[0; 256],
            &[0xff; 256],
            &[7; 257],
            &oaep[..255],
            &modulus,
            &unpadded,
            &changed,
            &sha256,
            other,
        ] {
            let refused = refusal(decrypt(&client, request(&name, mechanism, wrong)).await)
                .is(Code::InvalidArgument, "DECRYPTION_FAILED");
            assert_eq!(refused.retry_after, None);
            let mut keys: Vec<_> = refused.metadata.into_keys().collect();
            keys.sort();
            messages.insert((refused.message, keys));
        }
    }
    for wrong in [&[][..], &[1], &modulus, &[0xff; 256]] {
        let refused = refusal(decrypt(&client, request(&name, Mechanism::RsaRaw, wrong)).await);
        refused.is(Code::InvalidArgument, "DECRYPTION_FAILED");
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    // Rubbish must not have cost a member anything.
    for member in gateway.cluster_status().await.members {
        assert_eq!(member.worker_starts, 1, "{}", member.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mechanism_that_tokens_list_and_refuse_is_unsupported_from_the_start() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for member in gateway.cluster_status().await.members {
        let can = |what: &str| member.capabilities.iter().any(|capability| capability == what);
        assert!(can("DECRYPT with RSA_OAEP_SHA1"), "{:?}", member.capabilities);
        assert!(!can("DECRYPT with RSA_OAEP_SHA256"), "{:?}", member.capabilities);
    }
    const SHA256: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Decrypt, Mechanism::RsaOaepSha256)];
    let listed = key_request("ring", "listed", KeySpec::wrapped(KeyType::Rsa2048, &SHA256));
    // The usual use of a key for this purpose is OAEP with SHA-256.
    let mut usual = key_request("ring", "usual", KeySpec::wrapped(KeyType::Rsa2048, &[]));
    usual.key.as_mut().expect("a key").purpose = KeyPurpose::AsymmetricDecrypt as i32;
    for request in [listed, usual] {
        let refused = refusal(client.keys().create_key(request).await)
            .is(Code::Unimplemented, "MECHANISM_UNSUPPORTED")
            .naming("RSA_OAEP_SHA256");
        assert_eq!(refused.metadata["members"], "a,b,c");
        assert!(refused.metadata["mechanism"].contains("DECRYPT with RSA_OAEP_SHA256"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_signatures_are_numbers_below_the_modulus() {
    const RAW: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Sign, Mechanism::RsaRaw)];
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "raw", KeySpec::wrapped(KeyType::Rsa2048, &RAW))
        .await
        .name;
    let public = rsa_key(&client, &name).await;
    let number = [&[0][..], &[0x42; 255]].concat();
    let answer = client.crypto().sign(message_request(&name, &number)).await;
    let signature = answer.expect("a signature").into_inner().signature;
    assert_eq!(power(&public, &signature), number);
    let mut changed = number.clone();
    changed[255] ^= 1;
    for (message, valid) in [(&number, true), (&changed, false)] {
        let request = VerifyRequest {
            name: name.clone(),
            input: Some(verify_request::Input::Message(message.clone().into())),
            signature: signature.clone(),
            ..Default::default()
        };
        let answer = client.crypto().verify(request).await.expect("a verdict").into_inner();
        assert_eq!(answer.valid, valid);
    }
    for wrong in [&number[1..], &[0xff; 256], &[]] {
        refusal(client.crypto().sign(message_request(&name, wrong)).await).is(Code::InvalidArgument, "FIELD_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_signature_that_is_wrong_is_not_released_and_its_member_is_fenced() {
    const RAW: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Sign, Mechanism::RsaRaw)];
    const CKM_RSA_X_509: u64 = 0x3;
    let cluster = TestCluster::new();
    let module = FaultyModule::install(&cluster, "b");
    let lies = module.place(Rule::flip_bit([Function::C_Sign], Place::Last).with_mechanism(CKM_RSA_X_509));
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "raw", KeySpec::wrapped(KeyType::Rsa2048, &RAW))
        .await
        .name;
    let public = rsa_key(&client, &name).await;
    let number = [&[0][..], &[0x42; 255]].concat();
    let started = Instant::now();
    while module.strikes(lies) == 0 {
        assert!(started.elapsed() < LONG, "the member was never asked");
        let answer = client.crypto().sign(message_request(&name, &number)).await;
        assert_eq!(
            power(&public, &answer.expect("a signature").into_inner().signature),
            number
        );
    }
    let fenced = gateway.wait_for_member("b", MemberState::Fenced).await;
    assert!(fenced.reason.contains("signature"), "{}", fenced.reason);
}

const AGREE: [(KeyOperation, Mechanism); 1] = [(KeyOperation::Derive, Mechanism::Ecdh)];

async fn derive(client: &Client, name: &str, peer: &[u8]) -> Result<DeriveSharedSecretResponse, Status> {
    let request = DeriveSharedSecretRequest {
        name: name.to_owned(),
        peer_public_key: peer.to_vec().into(),
        peer_public_key_crc32c: Some(crc32c(peer)),
        ..Default::default()
    };
    Ok(client.crypto().derive_shared_secret(request).await?.into_inner())
}

/// A peer on a curve: its public key in DER, and what it agrees on with another's.
macro_rules! peer {
    ($curve:ident, $ours:expr) => {{
        use $curve::{elliptic_curve::Generate, pkcs8::EncodePublicKey};
        let secret = $curve::SecretKey::generate();
        let ours = $curve::PublicKey::from_public_key_der($ours).expect("a public key on the curve");
        let shared = $curve::ecdh::diffie_hellman(secret.to_nonzero_scalar(), ours.as_affine());
        let public = secret
            .public_key()
            .to_public_key_der()
            .expect("an encodable key")
            .to_vec();
        (public, shared.raw_secret_bytes().to_vec())
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_agree_on_three_curves_also_where_the_secret_begins_with_zeros() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    for (id, key_type, length) in [
        ("p256", KeyType::EcP256, 32),
        ("p384", KeyType::EcP384, 48),
        ("p521", KeyType::EcP521, 66),
    ] {
        let name = create_key(&client, "ring", id, KeySpec::wrapped(key_type, &AGREE))
            .await
            .name;
        let ours = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
        let meet = || match key_type {
            KeyType::EcP256 => peer!(p256, &ours),
            KeyType::EcP384 => peer!(p384, &ours),
            _ => peer!(p521, &ours),
        };
        // One secret in 256; half of them on P-521, whose coordinates have 521 bits in 66 bytes.
        let zeros = std::iter::repeat_with(meet).find(|(_, shared)| shared[0] == 0);
        let peers = [meet(), meet(), zeros.expect("one of some hundred")];
        for (peer, shared) in peers {
            assert_eq!(shared.len(), length);
            let answer = derive(&client, &name, &peer).await.expect("a secret");
            assert_eq!(answer.shared_secret, shared, "{id}");
            assert_eq!(answer.shared_secret_crc32c, crc32c(&shared));
            assert_eq!(answer.name, format!("{name}/versions/1"));
            assert!(answer.verified_peer_public_key_crc32c && answer.mechanism() == Mechanism::Ecdh);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_not_on_the_curve_never_reach_a_token() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "p256", KeySpec::wrapped(KeyType::EcP256, &AGREE))
        .await
        .name;
    let other = create_key(&client, "ring", "p384", KeySpec::wrapped(KeyType::EcP384, &AGREE))
        .await
        .name;
    let good = public_key(&client, &name, PublicKeyFormat::Der)
        .await
        .public_key
        .to_vec();
    let other = public_key(&client, &other, PublicKeyFormat::Der)
        .await
        .public_key
        .to_vec();
    let mut off_curve = good.clone();
    *off_curve.last_mut().expect("a byte") ^= 1;
    let mut zero = good.clone();
    let coordinates = zero.len() - 64;
    zero[coordinates..].fill(0);
    let infinity = [&[0x30, 0x19][..], &good[2..good.len() - 68], &[3, 2, 0, 0]].concat();
    for wrong in [&off_curve, &zero, &infinity, &other, &good[1..].to_vec(), &Vec::new()] {
        refusal(derive(&client, &name, wrong).await)
            .is(Code::InvalidArgument, "FIELD_INVALID")
            .with("field", "peer_public_key");
    }
    let garbled = DeriveSharedSecretRequest {
        name: name.clone(),
        peer_public_key: good.clone().into(),
        peer_public_key_crc32c: Some(0),
        ..Default::default()
    };
    refusal(client.crypto().derive_shared_secret(garbled.clone()).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let dry = DeriveSharedSecretRequest {
        peer_public_key_crc32c: None,
        dry_run: true,
        ..garbled
    };
    let answer = client
        .crypto()
        .derive_shared_secret(dry)
        .await
        .expect("a dry run")
        .into_inner();
    assert!(answer.shared_secret.is_empty());
    let signer = create_key(&client, "ring", "signer", KeySpec::EC_P256).await.name;
    refusal(derive(&client, &signer, &good).await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
}

//! Encrypting and decrypting, with the adversary as the second reader of every ciphertext.

use portcullis_client::{
    Client, Code,
    v1::{
        DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptionContext, decrypt_request,
        encrypt_request,
    },
};
use portcullis_softhsm_tests::{
    Adversary, Database, Gateway, KeySpec, MEMBERS, TestCluster, crc32c, create_key, create_ring, decrypt, encrypt,
    encrypt_request as request_with_data, refusal,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tonic::Status;

/// What a caller authenticates with a ciphertext.
#[derive(Debug, Clone)]
enum Authenticated {
    Nothing,
    Data(&'static [u8]),
    Context(&'static [(&'static str, &'static str)]),
}

impl Authenticated {
    const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Data(b""),
        Self::Data(b"some associated data"),
        Self::Context(&[]),
        Self::Context(&[("purpose", "test")]),
        Self::Context(&[
            ("zone", "b"),
            ("account", "42"),
            ("\u{e9}t\u{e9}", "\u{2603}"),
            ("empty", ""),
        ]),
    ];

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        EncryptionContext {
            values: pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        }
    }

    async fn encrypt(&self, client: &Client, name: &str, plaintext: &[u8]) -> Result<EncryptResponse, Status> {
        use encrypt_request::Authenticated::{AssociatedData, EncryptionContext};
        let authenticated = match self {
            Self::Nothing => None,
            Self::Data(data) => Some(AssociatedData((*data).into())),
            Self::Context(pairs) => Some(EncryptionContext(Self::context(pairs))),
        };
        let request = EncryptRequest {
            name: name.into(),
            plaintext: plaintext.to_vec().into(),
            authenticated,
            ..Default::default()
        };
        Ok(client.crypto().encrypt(request).await?.into_inner())
    }

    async fn decrypt(&self, client: &Client, name: &str, ciphertext: &[u8]) -> Result<DecryptResponse, Status> {
        use decrypt_request::Authenticated::{AssociatedData, EncryptionContext};
        let authenticated = match self {
            Self::Nothing => None,
            Self::Data(data) => Some(AssociatedData((*data).into())),
            Self::Context(pairs) => Some(EncryptionContext(Self::context(pairs))),
        };
        let request = DecryptRequest {
            name: name.into(),
            ciphertext: ciphertext.to_vec().into(),
            authenticated,
            ..Default::default()
        };
        Ok(client.crypto().decrypt(request).await?.into_inner())
    }

    fn for_adversary(&self) -> Value {
        match self {
            Self::Nothing => json!(""),
            Self::Data(data) => json!(hex(data)),
            Self::Context(pairs) => json!(pairs.iter().copied().collect::<BTreeMap<_, _>>()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_is_decrypted_with_the_same_authenticated_data_and_with_no_other() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    for (transport, client) in gateway.clients().await {
        create_ring(&client, transport).await;
        let name = create_key(&client, transport, "aes", KeySpec::AES_256).await.name;
        for plaintext in [&b""[..], b"a plaintext", &[0xa5; 70_000]] {
            for (index, authenticated) in Authenticated::ALL.iter().enumerate() {
                let encrypted = authenticated
                    .encrypt(&client, &name, plaintext)
                    .await
                    .expect("a ciphertext");
                assert_eq!(encrypted.name, format!("{name}/versions/1"));
                assert_eq!(encrypted.ciphertext_crc32c, crc32c(&encrypted.ciphertext));
                // The header, and the tag of AES-GCM.
                assert_eq!(encrypted.ciphertext.len(), plaintext.len() + 34 + 16);
                for (other_index, other) in Authenticated::ALL.iter().enumerate() {
                    let answer = other.decrypt(&client, &name, &encrypted.ciphertext).await;
                    // Nothing is the same as empty associated data.
                    if index == other_index || index.max(other_index) == 1 {
                        let answer = answer.expect("the plaintext");
                        assert_eq!(answer.plaintext, plaintext);
                        assert_eq!(answer.plaintext_crc32c, crc32c(plaintext));
                        assert_eq!(answer.name, format!("{name}/versions/1"));
                        assert!(answer.used_primary);
                    } else {
                        refusal(answer).is(Code::InvalidArgument, "DECRYPTION_FAILED");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_decrypts_each_ciphertext_without_the_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "aes", KeySpec::AES_256).await;
    let mut ciphertexts = Vec::new();
    for authenticated in Authenticated::ALL {
        let encrypted = authenticated
            .encrypt(&client, &key.name, b"a plaintext")
            .await
            .expect("a ciphertext");
        ciphertexts.push((authenticated, encrypted.ciphertext));
    }
    gateway.stop();
    let key_token = Database::of(&cluster).key_token("ring", "aes");
    for member in MEMBERS {
        let adversary = Adversary::at(&cluster, member);
        for (authenticated, ciphertext) in &ciphertexts {
            let decrypted = adversary.decrypt(&key_token, ciphertext, authenticated.for_adversary());
            assert_eq!(decrypted.uid, key.uid.replace('-', ""));
            assert_eq!(decrypted.version, 1);
            assert_eq!(
                decrypted.plaintext,
                hex(b"a plaintext"),
                "{authenticated:?} on {member}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_ciphertexts_have_the_same_nonce() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..500 {
        let ciphertext = encrypt(&client, &name, b"the same", b"")
            .await
            .expect("a ciphertext")
            .ciphertext;
        assert!(nonces.insert(ciphertext[22..34].to_vec()), "a nonce was used twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_ciphertext_has_one_and_the_same_answer() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let other = create_key(&client, "ring", "other", KeySpec::AES_256).await.name;
    let good = encrypt(&client, &name, b"a plaintext", b"data")
        .await
        .expect("a ciphertext")
        .ciphertext
        .to_vec();
    let stranger = encrypt(&client, &other, b"a plaintext", b"data")
        .await
        .expect("a ciphertext")
        .ciphertext
        .to_vec();

    let mut wrong = vec![
        ("nothing", vec![]),
        ("another key's", stranger),
        ("longer", [&good[..], &[0]].concat()),
    ];
    wrong.extend([1, 21, 33, 34, 49].map(|length| ("truncated", good[..length].to_vec())));
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        wrong.push(("changed", changed));
    }
    let expected =
        refusal(decrypt(&client, &name, &good, b"other data").await).is(Code::InvalidArgument, "DECRYPTION_FAILED");
    for (what, ciphertext) in wrong {
        let refused =
            refusal(decrypt(&client, &name, &ciphertext, b"data").await).is(Code::InvalidArgument, "DECRYPTION_FAILED");
        let what = format!("{what}, {} bytes", ciphertext.len());
        assert_eq!(refused.message, expected.message, "{what}");
        let keys = |refusal: &portcullis_softhsm_tests::Refusal| {
            let mut keys: Vec<_> = refusal.metadata.keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&refused), keys(&expected), "{what}");
        assert_eq!(refused.retry_after, None, "{what}");
    }
    // Rubbish must not have cost a member anything.
    for member in gateway.cluster_status().await.members {
        assert_eq!(member.worker_starts, 1, "{}", member.name);
    }
    assert_eq!(
        decrypt(&client, &name, &good, b"data")
            .await
            .expect("the plaintext")
            .plaintext,
        &b"a plaintext"[..]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_are_checked_before_anything_happens() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let (plain, data) = (crc32c(b"plain"), crc32c(b"data"));
    let send = async |plaintext_crc32c, associated_data_crc32c| {
        let request = EncryptRequest {
            plaintext_crc32c,
            associated_data_crc32c,
            ..request_with_data(&name, b"plain", b"data")
        };
        client.crypto().encrypt(request).await
    };
    refusal(send(Some(plain ^ 1), None).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    refusal(send(Some(plain), Some(data ^ 1)).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let answer = send(Some(plain), Some(data)).await.expect("a ciphertext").into_inner();
    assert!(answer.verified_plaintext_crc32c && answer.verified_associated_data_crc32c);
    let decrypt = async |ciphertext_crc32c| {
        let request = DecryptRequest {
            name: name.clone(),
            ciphertext: answer.ciphertext.clone(),
            authenticated: Some(decrypt_request::Authenticated::AssociatedData(b"data"[..].into())),
            ciphertext_crc32c: Some(ciphertext_crc32c),
            associated_data_crc32c: Some(data),
            ..Default::default()
        };
        client.crypto().decrypt(request).await
    };
    refusal(decrypt(answer.ciphertext_crc32c ^ 1).await).is(Code::InvalidArgument, "CHECKSUM_MISMATCH");
    let answer = decrypt(answer.ciphertext_crc32c)
        .await
        .expect("the plaintext")
        .into_inner();
    assert!(answer.verified_ciphertext_crc32c && answer.verified_associated_data_crc32c);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_encrypt_is_refused() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    for (id, spec) in [
        ("ec", KeySpec::EC_P256),
        ("rsa", KeySpec::RSA_PSS),
        ("hmac", KeySpec::HMAC_SHA256),
    ] {
        let name = create_key(&client, "ring", id, spec).await.name;
        refusal(encrypt(&client, &name, b"plain", b"").await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
        refusal(decrypt(&client, &name, &[1; 60], b"").await).is(Code::InvalidArgument, "ALGORITHM_MISMATCH");
    }
    refusal(encrypt(&client, "keyRings/ring/keys/absent", b"", b"").await).is(Code::NotFound, "KEY_NOT_FOUND");
}

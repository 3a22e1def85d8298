//! Requests that are refused, each with something secret in what is wrong.

use super::{Caller, private_number};
use portcullis_client::v1::{
    AsymmetricDecryptRequest, CreateObjectRequest, DecryptRequest, DeriveSharedSecretRequest, EncryptRequest,
    ImportKeyVersionRequest, KeyType, MacSignRequest, Mechanism, SignRequest, StoredObject, sign_request,
    stored_object::Content,
};
use portcullis_softhsm_tests::{KeySpec, Material, clear_import, create_key_for_import, import};
use prost::bytes::Bytes;

impl Caller<'_> {
    pub(super) async fn ask_wrongly(&mut self) {
        let at = |ring: &str, id: &str| format!("keyRings/{ring}/keys/{id}");
        let ring = self.ring.clone();
        let (gcm, modes, hmac) = (at(&ring, "gcm"), at(&ring, "modes"), at(&ring, "hmac"));
        let encrypt = |name: &str, plaintext: Bytes| EncryptRequest {
            name: name.to_owned(),
            plaintext,
            ..Default::default()
        };
        let too_long = self.secret("a plaintext that is too long", (1 << 20) + 1);
        let refused = self.client.crypto().encrypt(encrypt(&gcm, too_long)).await;
        self.refused(refused);
        let garbled = EncryptRequest {
            plaintext_crc32c: Some(1),
            ..encrypt(&gcm, self.secret("a plaintext with a wrong checksum", 64))
        };
        let refused = self.client.crypto().encrypt(garbled).await;
        self.refused(refused);
        let not_blocks = EncryptRequest {
            mechanism: Mechanism::AesCbc as i32,
            ..encrypt(&modes, self.secret("a plaintext of no whole blocks", 65))
        };
        let refused = self.client.crypto().encrypt(not_blocks).await;
        self.refused(refused);
        for name in [&at(&ring, "ec"), &at(&ring, "absent"), &hmac] {
            let request = encrypt(name, self.secret("a plaintext for a key that does not encrypt", 64));
            let refused = self.client.crypto().encrypt(request).await;
            self.refused(refused);
        }
        let digest = self.secret("a digest of a wrong length", 37);
        let request = SignRequest {
            name: at(&ring, "ec"),
            input: Some(sign_request::Input::Digest(digest)),
            ..Default::default()
        };
        let refused = self.client.crypto().sign(request).await;
        self.refused(refused);
        let decrypt = |ciphertext: Bytes, iv: Bytes, mechanism: i32| DecryptRequest {
            name: if mechanism == 0 { gcm.clone() } else { modes.clone() },
            ciphertext,
            initialization_vector: iv,
            mechanism,
            ..Default::default()
        };
        let no_ciphertext = decrypt(self.secret("what is no ciphertext", 90), Bytes::new(), 0);
        let refused = self.client.crypto().decrypt(no_ciphertext).await;
        self.refused(refused);
        let iv = self.secret("an initialisation vector of a wrong length", 17);
        let wrong_iv = decrypt(Bytes::from(vec![0; 32]), iv, Mechanism::AesCbc as i32);
        let refused = self.client.crypto().decrypt(wrong_iv).await;
        self.refused(refused);
        let peer = self.secret("what is no public key", 91);
        let request = DeriveSharedSecretRequest {
            name: at(&ring, "ecdh"),
            peer_public_key: peer,
            ..Default::default()
        };
        let refused = self.client.crypto().derive_shared_secret(request).await;
        self.refused(refused);
        let token = self.secret("what is no key token", 200);
        let request = MacSignRequest {
            key_token: token,
            data: self.secret("a message under no key", 64),
            ..Default::default()
        };
        let refused = self.client.crypto().mac_sign(request).await;
        self.refused(refused);
        let ciphertext = self.secret("what is no RSA ciphertext", 256);
        let request = AsymmetricDecryptRequest {
            name: at(&ring, "rsa"),
            ciphertext,
            mechanism: Mechanism::RsaOaepSha1 as i32,
            ..Default::default()
        };
        let refused = self.client.crypto().asymmetric_decrypt(request).await;
        self.refused(refused);
        self.import_wrongly().await;

        let no_certificate = self.secret("what is no certificate", 400);
        let request = CreateObjectRequest {
            parent: format!("keyRings/{ring}"),
            object_id: "wrong".to_owned(),
            object: Some(StoredObject {
                content: Some(Content::Certificate(no_certificate)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let refused = self.client.objects().create_object(request).await;
        self.refused(refused);
    }

    async fn import_wrongly(&mut self) {
        let ring = self.ring.clone();
        let mut wrong = Vec::new();
        // PKCS#8 with the key of another curve, with garbage in the place of the key, and garbage alone.
        let pair = create_key_for_import(&self.client, &ring, "wrong-pair", KeySpec::EC_P256)
            .await
            .name;
        let other = Material::generate(KeyType::EcP384);
        self.passes("a key pair of another curve", private_number(&other));
        wrong.push(clear_import(&pair, &other));
        let mut malformed = Material::generate(KeyType::EcP256);
        self.passes("a key pair with a wrong length inside", private_number(&malformed));
        malformed.value[1] ^= 1;
        wrong.push(clear_import(&pair, &malformed));
        let garbage = Material {
            value: self.secret("what is no PKCS#8", 138).to_vec(),
            public_key: malformed.public_key.clone(),
        };
        wrong.push(clear_import(&pair, &garbage));
        let stranger = Material {
            public_key: Material::generate(KeyType::EcP256).public_key,
            ..Material::generate(KeyType::EcP256)
        };
        self.passes("a key pair with the public key of another", private_number(&stranger));
        wrong.push(clear_import(&pair, &stranger));
        let secret = create_key_for_import(&self.client, &ring, "wrong-secret", KeySpec::HMAC_SHA256)
            .await
            .name;
        let short = Material {
            value: self.secret("a secret key of a wrong length", 31).to_vec(),
            public_key: Vec::new(),
        };
        wrong.push(clear_import(&secret, &short));
        let garbled = Material {
            value: self.secret("a secret key with a wrong checksum", 32).to_vec(),
            public_key: Vec::new(),
        };
        wrong.push(ImportKeyVersionRequest {
            wrapped_key_crc32c: Some(1),
            ..clear_import(&secret, &garbled)
        });
        let planned = Material {
            value: self.secret("a secret key for a key that is not there", 32).to_vec(),
            public_key: Vec::new(),
        };
        wrong.push(clear_import(&format!("keyRings/{ring}/keys/absent"), &planned));
        for request in wrong {
            let refused = import(&self.client, request).await;
            self.refused(refused);
        }
    }
}

//! Keys that come and go, keys that nobody stores, and objects.

use super::{Caller, private_number};
use portcullis_client::v1::{
    self, CreateObjectRequest, DataObject, EncryptRequest, ExportKeyVersionRequest, GetObjectRequest, KeyOperation,
    KeyType, ListObjectsRequest, Mechanism, RenewEphemeralKeyRequest, StoredObject, UpdateObjectRequest,
    export_key_version_request::Recipient, stored_object::Content,
};
use portcullis_softhsm_tests::{
    KeySpec, Material, OaepHash, clear_import, create_ephemeral_key, create_import_job, create_key_for_import,
    create_recipient, import, job_import, key_request, rsa_aes_unwrap, shared_key_import,
};
use prost::bytes::Bytes;

impl Caller<'_> {
    pub(super) async fn import_and_export(&mut self) {
        let client = self.client.clone();
        let ring = self.ring.clone();
        let (ec, hmac) = (Material::generate(KeyType::EcP256), Material::secret(32));
        let spec = KeySpec::EC_P256;
        let name = create_key_for_import(&client, &ring, "clear-pair", spec).await.name;
        import(&client, clear_import(&name, &ec))
            .await
            .expect("an imported key");
        self.passes("a key pair in clear", private_number(&ec));
        let mut request = key_request(&ring, "clear", KeySpec::HMAC_SHA256);
        request.import_only = true;
        request.key.as_mut().expect("a key").exportable = true;
        let clear = client
            .keys()
            .create_key(request)
            .await
            .expect("a key")
            .into_inner()
            .name;
        import(&client, clear_import(&clear, &hmac))
            .await
            .expect("an imported key");
        self.passes("a secret key in clear", &hmac.value);

        // Wrapped keys pass as well, and nobody but the HSM opens them.
        let shared = Material::secret(32);
        let unwrapping = create_key_for_import(&client, &ring, "shared", KeySpec::wrapped(KeyType::Aes256, UNWRAP));
        let unwrapping = unwrapping.await.name;
        import(&client, clear_import(&unwrapping, &shared))
            .await
            .expect("the shared key");
        self.passes("a shared key in clear", &shared.value);
        let under_shared = Material::secret(32);
        let name = create_key_for_import(&client, &ring, "under-shared", KeySpec::HMAC_SHA256)
            .await
            .name;
        let request = shared_key_import(&name, &unwrapping, &shared.value, &under_shared);
        import(&client, request).await.expect("an imported key");
        self.stays_outside("a key that came in under a shared key", &under_shared.value);
        let (job, by_job) = (
            create_import_job(&client, &ring).await,
            Material::generate(KeyType::EcP256),
        );
        let name = create_key_for_import(&client, &ring, "by-job", KeySpec::EC_P256)
            .await
            .name;
        import(&client, job_import(&name, &job, &by_job))
            .await
            .expect("an imported key");
        self.stays_outside("a key that came in by an import job", private_number(&by_job));

        let recipient = Material::generate(KeyType::Rsa2048);
        create_recipient(&client, &ring, "me", &recipient.public_key)
            .await
            .expect("a recipient");
        let mut request = key_request(&ring, "portable", KeySpec::HMAC_SHA256);
        request.key.as_mut().expect("a key").exportable = true;
        let portable = client
            .keys()
            .create_key(request)
            .await
            .expect("a key")
            .into_inner()
            .name;
        let wrapping = self.key("wrapping", KeyType::Aes256, WRAP).await;
        for to in [
            Recipient::RegisteredRecipient(format!("keyRings/{ring}/recipients/me")),
            Recipient::WrappingKey(wrapping),
        ] {
            let mechanism = match to {
                Recipient::RegisteredRecipient(_) => Mechanism::RsaOaepSha1,
                Recipient::WrappingKey(_) => Mechanism::AesKwp,
            };
            let request = ExportKeyVersionRequest {
                name: portable.clone(),
                recipient: Some(to),
                mechanism: mechanism as i32,
            };
            let exported = client
                .keys()
                .export_key_version(request)
                .await
                .expect("an exported key")
                .into_inner();
            if mechanism == Mechanism::RsaOaepSha1 {
                let opened = rsa_aes_unwrap(&recipient.value, OaepHash::Sha1, &exported.wrapped_key);
                self.stays_outside("a key that was made inside and exported", &opened.expect("the key"));
            }
        }
    }

    pub(super) async fn keep_objects_and_ephemeral_keys(&mut self) {
        let parent = format!("keyRings/{}", self.ring);
        let mut object = StoredObject {
            label: Bytes::from_static(b"an object"),
            content: Some(Content::Data(DataObject {
                application: "canaries".to_owned(),
                oid: Bytes::new(),
                value: Material::secret(64).value.into(),
            })),
            ..Default::default()
        };
        let value = |object: &StoredObject| match &object.content {
            Some(Content::Data(data)) => data.value.clone(),
            _ => panic!("another object"),
        };
        self.traces
            .stored
            .push(self.canary("an object's value", &value(&object)));
        let request = CreateObjectRequest {
            parent: parent.clone(),
            object_id: "object".to_owned(),
            object: Some(object.clone()),
            ..Default::default()
        };
        let objects = self.client.objects();
        let created = objects
            .clone()
            .create_object(request)
            .await
            .expect("an object")
            .into_inner();
        let request = GetObjectRequest {
            name: created.name.clone(),
        };
        objects.clone().get_object(request).await.expect("the object");
        let request = ListObjectsRequest {
            parent: parent.clone(),
            ..Default::default()
        };
        objects.clone().list_objects(request).await.expect("the objects");
        object.name = created.name.clone();
        object.etag = created.etag;
        object.content = Some(Content::Data(DataObject {
            application: "canaries".to_owned(),
            oid: Bytes::new(),
            value: Material::secret(64).value.into(),
        }));
        self.traces
            .stored
            .push(self.canary("an object's new value", &value(&object)));
        let request = UpdateObjectRequest {
            object: Some(object),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["data".to_owned()],
            }),
            ..Default::default()
        };
        let updated = objects
            .clone()
            .update_object(request)
            .await
            .expect("a changed object")
            .into_inner();
        let request = v1::DeleteObjectRequest {
            name: updated.name,
            ..Default::default()
        };
        objects.clone().delete_object(request).await.expect("a deletion");

        let ephemeral = create_ephemeral_key(&self.client, &self.ring, KeySpec::AES_256, HOUR).await;
        let token = ephemeral.expect("an ephemeral key").token;
        let request = RenewEphemeralKeyRequest {
            token: token.clone(),
            lifetime: Some(prost_types::Duration {
                seconds: HOUR,
                nanos: 0,
            }),
        };
        let renewed = self
            .client
            .keys()
            .renew_ephemeral_key(request)
            .await
            .expect("a new token")
            .into_inner();
        for token in [token, renewed.token] {
            // A token gives the use of its key to its owner, so nobody else is to find it.
            self.traces
                .stored
                .push(self.canary("an ephemeral key's tag", &token[token.len() - 32..]));
            let request = EncryptRequest {
                key_token: token,
                plaintext: self.secret("a plaintext under an ephemeral key", 64),
                ..Default::default()
            };
            self.client.crypto().encrypt(request).await.expect("a ciphertext");
        }
    }
}

const UNWRAP: &[(KeyOperation, Mechanism)] = &[(KeyOperation::Unwrap, Mechanism::AesKwp)];

const WRAP: &[(KeyOperation, Mechanism)] = &[(KeyOperation::Wrap, Mechanism::AesKwp)];

const HOUR: i64 = 3600;

//! A gRPC server that answers as a gateway would, as far as the program can tell.

use portcullis_client::{
    Code, Status,
    v1::{
        cluster_service_server::{ClusterService, ClusterServiceServer},
        crypto_service_server::{CryptoService, CryptoServiceServer},
        decrypt_request, encrypt_request,
        key_service_server::{KeyService, KeyServiceServer},
        sign_request, verify_request, *,
    },
};
use std::{path::Path, time::Duration};
use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::{Empty, wrappers::UnixListenerStream};
use tonic::{Request, Response, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

/// A running server. It stops when dropped.
pub(crate) struct Gateway(JoinHandle<()>);

impl Gateway {
    pub(crate) fn start(socket: &Path) -> Self {
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).expect("a socket"));
        let serve = Server::builder()
            .add_service(KeyServiceServer::new(Answers))
            .add_service(CryptoServiceServer::new(Answers).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(ClusterServiceServer::new(Answers))
            .serve_with_incoming(incoming);
        Self(tokio::spawn(async { serve.await.expect("served") }))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes methods that this server does not serve.
macro_rules! not_served {
    ($($method:ident: $request:ty => $answer:ty,)*) => {$(
        fn $method<'life, 'call>(
            &'life self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<$answer>, Status>> + Send + 'call>>
        where
            'life: 'call,
            Self: 'call,
        {
            Box::pin(async { Err(failure(Code::Unimplemented, "METHOD_NOT_AVAILABLE", "not served")) })
        }
    )*};
}

struct Answers;

#[tonic::async_trait]
impl KeyService for Answers {
    async fn create_key_ring(&self, request: Request<CreateKeyRingRequest>) -> Result<Response<KeyRing>, Status> {
        let request = request.into_inner();
        if request.key_ring_id == "taken" {
            return Err(failure(
                Code::AlreadyExists,
                "KEY_RING_EXISTS",
                "keyRings/taken exists already",
            ));
        }
        let labels = request.key_ring.unwrap_or_default().labels;
        Ok(Response::new(KeyRing {
            name: format!("keyRings/{}", request.key_ring_id),
            labels,
            ..Default::default()
        }))
    }

    /// Two pages.
    async fn list_key_rings(
        &self,
        request: Request<ListKeyRingsRequest>,
    ) -> Result<Response<ListKeyRingsResponse>, Status> {
        let (id, next) = match request.get_ref().page_token.as_str() {
            "" => ("first", "more"),
            _ => ("second", ""),
        };
        let ring = KeyRing {
            name: format!("keyRings/{id}"),
            ..Default::default()
        };
        Ok(Response::new(ListKeyRingsResponse {
            key_rings: vec![ring],
            next_page_token: next.into(),
            ..Default::default()
        }))
    }

    /// What was asked for. A resident key is on one member; a key with the id `later` cannot be made now.
    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<Key>, Status> {
        let request = request.into_inner();
        if request.key_id == "later" {
            let mut details = details("HSM_UNAVAILABLE");
            details.set_retry_info(Some(Duration::from_secs(2)));
            return Err(Status::with_error_details(
                Code::Unavailable,
                "no member is ready",
                details,
            ));
        }
        let name = format!("{}/keys/{}", request.parent, request.key_id);
        let key = request.key.unwrap_or_default();
        let resident = key.protection() == KeyProtection::Resident;
        let primary = KeyVersion {
            name: format!("{name}/versions/1"),
            state: KeyVersionState::Active as i32,
            members: if resident { vec![request.member] } else { Vec::new() },
            single_replica: resident,
            ..Default::default()
        };
        Ok(Response::new(Key {
            name,
            primary_version: 1,
            primary: Some(primary),
            ..key
        }))
    }

    /// A key that signs with ECDSA and SHA-256.
    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<Key>, Status> {
        let name = request.into_inner().name;
        if name.ends_with("/nope") {
            return Err(failure(
                Code::NotFound,
                "KEY_NOT_FOUND",
                &format!("{name} does not exist"),
            ));
        }
        let permitted_uses = vec![PermittedUse {
            operation: KeyOperation::Sign as i32,
            mechanism: Mechanism::EcdsaSha256 as i32,
        }];
        let primary = KeyVersion {
            name: format!("{name}/versions/1"),
            ..Default::default()
        };
        Ok(Response::new(Key {
            name,
            permitted_uses,
            primary: Some(primary),
            ..Default::default()
        }))
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let parent = request.into_inner().parent;
        let key = Key {
            name: format!("{parent}/keys/tls"),
            r#type: KeyType::EcP256 as i32,
            purpose: KeyPurpose::SignVerify as i32,
            protection: KeyProtection::Wrapped as i32,
            primary_version: 1,
            primary: Some(KeyVersion {
                state: KeyVersionState::Active as i32,
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(Response::new(ListKeysResponse {
            keys: vec![key],
            unauthentic: vec![format!("{parent}/keys/forged")],
            ..Default::default()
        }))
    }

    async fn get_key_version(&self, request: Request<GetKeyVersionRequest>) -> Result<Response<KeyVersion>, Status> {
        Ok(Response::new(KeyVersion {
            name: request.into_inner().name,
            state: KeyVersionState::Disabled as i32,
            state_reason: "under review".into(),
            ..Default::default()
        }))
    }

    async fn get_public_key(&self, request: Request<GetPublicKeyRequest>) -> Result<Response<PublicKey>, Status> {
        let request = request.into_inner();
        let public_key: &[u8] = match request.format() {
            PublicKeyFormat::Der => &[0x30, 0x00],
            _ => b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        };
        Ok(Response::new(PublicKey {
            name: request.name,
            public_key: public_key.into(),
            ..Default::default()
        }))
    }

    not_served! {
        get_key_ring: GetKeyRingRequest => KeyRing,
        update_key_ring: UpdateKeyRingRequest => KeyRing,
        update_key: UpdateKeyRequest => Key,
        rotate_key: RotateKeyRequest => Key,
        set_primary_version: SetPrimaryVersionRequest => Key,
        list_key_versions: ListKeyVersionsRequest => ListKeyVersionsResponse,
        activate_key_version: ChangeKeyVersionStateRequest => KeyVersion,
        disable_key_version: ChangeKeyVersionStateRequest => KeyVersion,
        enable_key_version: ChangeKeyVersionStateRequest => KeyVersion,
        deactivate_key_version: ChangeKeyVersionStateRequest => KeyVersion,
        mark_key_version_compromised: ChangeKeyVersionStateRequest => KeyVersion,
        schedule_key_version_destruction: ScheduleKeyVersionDestructionRequest => KeyVersion,
        cancel_key_version_destruction: ChangeKeyVersionStateRequest => KeyVersion,
        get_json_web_key_set: GetJsonWebKeySetRequest => JsonWebKeySet,
        create_alias: CreateAliasRequest => Alias,
        update_alias: UpdateAliasRequest => Alias,
        delete_alias: DeleteAliasRequest => DeleteAliasResponse,
        list_aliases: ListAliasesRequest => ListAliasesResponse,
        list_mechanisms: ListMechanismsRequest => ListMechanismsResponse,
        create_import_job: CreateImportJobRequest => ImportJob,
        get_import_job: GetImportJobRequest => ImportJob,
        import_key_version: ImportKeyVersionRequest => KeyVersion,
        export_key_version: ExportKeyVersionRequest => ExportKeyVersionResponse,
        create_recipient: CreateRecipientRequest => Recipient,
        get_recipient: GetRecipientRequest => Recipient,
        list_recipients: ListRecipientsRequest => ListRecipientsResponse,
        delete_recipient: DeleteRecipientRequest => DeleteRecipientResponse,
        create_ephemeral_key: CreateEphemeralKeyRequest => EphemeralKey,
        renew_ephemeral_key: RenewEphemeralKeyRequest => EphemeralKey,
        revoke_ephemeral_keys: RevokeEphemeralKeysRequest => RevokeEphemeralKeysResponse,
    }
}

#[tonic::async_trait]
impl CryptoService for Answers {
    type PipelineStream = Empty<Result<PipelineResponse, Status>>;

    /// A signature is what was signed, with `M` before a message and `D` before a digest.
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let request = request.into_inner();
        let signature = match request.input.clone() {
            Some(sign_request::Input::Message(message)) => [b"M", &*message].concat(),
            Some(sign_request::Input::Digest(digest)) => [b"D", &*digest].concat(),
            None => return Err(failure(Code::InvalidArgument, "INPUT_MISSING", "nothing to sign")),
        };
        Ok(Response::new(SignResponse {
            signature: signature.into(),
            name: format!("{}/versions/1", request.name),
            mechanism: request.mechanism,
            encoding: request.encoding,
            ..Default::default()
        }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        let request = request.into_inner();
        let expected = match request.input.clone() {
            Some(verify_request::Input::Message(message)) => [b"M", &*message].concat(),
            Some(verify_request::Input::Digest(digest)) => [b"D", &*digest].concat(),
            None => return Err(failure(Code::InvalidArgument, "INPUT_MISSING", "nothing to verify")),
        };
        Ok(Response::new(VerifyResponse {
            valid: request.signature == expected,
            name: format!("{}/versions/1", request.name),
            state: KeyVersionState::Compromised as i32,
            ..Default::default()
        }))
    }

    /// A ciphertext is the plaintext backwards, behind the associated data and a zero byte.
    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let request = request.into_inner();
        let mut ciphertext = match request.authenticated {
            Some(encrypt_request::Authenticated::AssociatedData(data)) => data.to_vec(),
            Some(encrypt_request::Authenticated::EncryptionContext(context)) => text_of(&context),
            None => Vec::new(),
        };
        ciphertext.push(0);
        ciphertext.extend(request.plaintext.iter().rev());
        let name = format!("{}/versions/1", request.name);
        Ok(Response::new(EncryptResponse {
            ciphertext_crc32c: crc32c::crc32c(&ciphertext),
            ciphertext: ciphertext.into(),
            name,
            verified_plaintext_crc32c: true,
            verified_associated_data_crc32c: true,
            ..Default::default()
        }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let request = request.into_inner();
        let mut expected = match request.authenticated {
            Some(decrypt_request::Authenticated::AssociatedData(data)) => data.to_vec(),
            Some(decrypt_request::Authenticated::EncryptionContext(context)) => text_of(&context),
            None => Vec::new(),
        };
        expected.push(0);
        let Some(reversed) = request.ciphertext.strip_prefix(&*expected) else {
            return Err(failure(
                Code::InvalidArgument,
                "DECRYPTION_FAILED",
                "the ciphertext does not decrypt",
            ));
        };
        let plaintext: Vec<u8> = reversed.iter().rev().copied().collect();
        Ok(Response::new(DecryptResponse {
            plaintext_crc32c: crc32c::crc32c(&plaintext),
            plaintext: plaintext.into(),
            name: format!("{}/versions/1", request.name),
            used_primary: true,
            verified_ciphertext_crc32c: true,
            verified_associated_data_crc32c: true,
            ..Default::default()
        }))
    }

    /// Bytes that count up.
    async fn generate_random(
        &self,
        request: Request<GenerateRandomRequest>,
    ) -> Result<Response<GenerateRandomResponse>, Status> {
        let data = (0..=u8::MAX)
            .cycle()
            .take(request.get_ref().length_bytes as usize)
            .collect();
        Ok(Response::new(GenerateRandomResponse {
            data,
            ..Default::default()
        }))
    }

    async fn pipeline(&self, _: Request<Streaming<PipelineRequest>>) -> Result<Response<Self::PipelineStream>, Status> {
        Err(failure(Code::Unimplemented, "METHOD_NOT_AVAILABLE", "not served"))
    }

    not_served! {
        re_encrypt: ReEncryptRequest => ReEncryptResponse,
        generate_data_key: GenerateDataKeyRequest => GenerateDataKeyResponse,
        mac_sign: MacSignRequest => MacSignResponse,
        mac_verify: MacVerifyRequest => MacVerifyResponse,
        asymmetric_decrypt: AsymmetricDecryptRequest => AsymmetricDecryptResponse,
        derive_shared_secret: DeriveSharedSecretRequest => DeriveSharedSecretResponse,
        batch_sign: BatchSignRequest => BatchSignResponse,
        batch_verify: BatchVerifyRequest => BatchVerifyResponse,
        batch_encrypt: BatchEncryptRequest => BatchEncryptResponse,
        batch_decrypt: BatchDecryptRequest => BatchDecryptResponse,
        batch_re_encrypt: BatchReEncryptRequest => BatchReEncryptResponse,
        batch_mac_sign: BatchMacSignRequest => BatchMacSignResponse,
        batch_mac_verify: BatchMacVerifyRequest => BatchMacVerifyResponse,
        batch_generate_data_key: BatchGenerateDataKeyRequest => BatchGenerateDataKeyResponse,
    }
}

#[tonic::async_trait]
impl ClusterService for Answers {
    async fn list_members(&self, _: Request<ListMembersRequest>) -> Result<Response<ListMembersResponse>, Status> {
        let member = Member {
            name: "members/a".into(),
            state: MemberState::Ready as i32,
            ..Default::default()
        };
        Ok(Response::new(ListMembersResponse {
            members: vec![member],
            domain_epoch: 1,
            domain_fingerprint: "5f3a".into(),
        }))
    }

    not_served! {
        get_member: GetMemberRequest => Member,
        drain_member: DrainMemberRequest => Member,
        resume_member: ResumeMemberRequest => Member,
        roll_members: RollMembersRequest => RollMembersResponse,
    }
}

fn failure(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, details(reason))
}

fn details(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, "portcullis.v1", [("request_id".to_owned(), "0190".to_owned())])
}

fn text_of(context: &EncryptionContext) -> Vec<u8> {
    let mut pairs: Vec<_> = context
        .values
        .iter()
        .map(|(name, value)| format!("{name}={value};"))
        .collect();
    pairs.sort();
    pairs.concat().into_bytes()
}

const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

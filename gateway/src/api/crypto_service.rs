//! `CryptoService`: what keys do.

use super::{
    Api, ApiError, Reason, call::Call, convert, key_service::find_version, lookup::find_key,
    not_available::not_available,
};
use crate::{
    crypto::{
        checksum::crc32c,
        ciphertext::{Authenticated, Ciphertext, Header, Suite},
        signature::{self, Encoding, Input},
    },
    keys::{
        directory::{KeyRecord, VersionRecord},
        name::KeyOrVersionName,
    },
    policy::{Action, Circumstances},
};
use portcullis_hsm::algorithm::{Family, Mechanism, Operation};
use portcullis_proto::v1::{self, crypto_service_server::CryptoService};
use std::{collections::BTreeMap, pin::Pin, sync::Arc};
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl CryptoService for Api {
    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::Sign, request)?;
        let result = sign(&mut call, request).await;
        call.conclude(result)
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::Verify, request)?;
        let result = verify(&mut call, request).await;
        call.conclude(result)
    }

    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Result<Response<v1::EncryptResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::Encrypt, request)?;
        let result = encrypt(&mut call, request).await;
        call.conclude(result)
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Result<Response<v1::DecryptResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::Decrypt, request)?;
        let result = decrypt(&mut call, request).await;
        call.conclude(result)
    }

    async fn generate_random(
        &self,
        request: Request<v1::GenerateRandomRequest>,
    ) -> Result<Response<v1::GenerateRandomResponse>, Status> {
        let (mut call, request) = Call::begin(&self.0, Action::Random, request)?;
        let result = generate_random(&mut call, request).await;
        call.conclude(result)
    }

    not_available! {
        re_encrypt(v1::ReEncryptRequest) -> v1::ReEncryptResponse;
        generate_data_key(v1::GenerateDataKeyRequest) -> v1::GenerateDataKeyResponse;
        mac_sign(v1::MacSignRequest) -> v1::MacSignResponse;
        mac_verify(v1::MacVerifyRequest) -> v1::MacVerifyResponse;
        asymmetric_decrypt(v1::AsymmetricDecryptRequest) -> v1::AsymmetricDecryptResponse;
        derive_shared_secret(v1::DeriveSharedSecretRequest) -> v1::DeriveSharedSecretResponse;
        batch_sign(v1::BatchSignRequest) -> v1::BatchSignResponse;
        batch_verify(v1::BatchVerifyRequest) -> v1::BatchVerifyResponse;
        batch_encrypt(v1::BatchEncryptRequest) -> v1::BatchEncryptResponse;
        batch_decrypt(v1::BatchDecryptRequest) -> v1::BatchDecryptResponse;
        batch_re_encrypt(v1::BatchReEncryptRequest) -> v1::BatchReEncryptResponse;
        batch_mac_sign(v1::BatchMacSignRequest) -> v1::BatchMacSignResponse;
        batch_mac_verify(v1::BatchMacVerifyRequest) -> v1::BatchMacVerifyResponse;
        batch_generate_data_key(v1::BatchGenerateDataKeyRequest) -> v1::BatchGenerateDataKeyResponse;
    }

    type PipelineStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::PipelineResponse, Status>> + Send + 'static>>;

    not_available! {
        pipeline(Streaming<v1::PipelineRequest>) -> Self::PipelineStream;
    }
}

async fn sign(call: &mut Call, request: v1::SignRequest) -> Result<v1::SignResponse, ApiError> {
    let (record, number) = lookup(call, &request.name).await?;
    let (version, mechanism) = authorise_signing(call, &record, number, request.mechanism)?;
    call.uses(record.key.name.version(version.row.number), Some(mechanism));
    let encoding = convert::encoding(request.encoding)?;
    let input = signing_input(call, mechanism, request.input.as_ref().map(sign_input))?;
    let verified = verify_checksum("input", raw(input), request.input_crc32c)?;
    require_state(&record, version, Operation::Sign)?;
    let encodes = matches!(version.token.key_type.family(), Family::Ec);
    let mut response = v1::SignResponse {
        name: record.key.name.version(version.row.number),
        mechanism: mechanism.number().into(),
        encoding: match (encodes, encoding) {
            (false, _) => v1::SignatureEncoding::Unspecified,
            (true, Encoding::Der) => v1::SignatureEncoding::Der,
            (true, Encoding::P1363) => v1::SignatureEncoding::P1363,
        }
        .into(),
        verified_input_crc32c: verified,
        ..v1::SignResponse::default()
    };
    if request.dry_run {
        return Ok(response);
    }
    let hashed;
    let data = match (input, mechanism.signature_hash()) {
        (Input::Message(message), Some(hash)) => {
            hashed = signature::digest(hash, message);
            hashed.as_slice()
        }
        (input, _) => raw(input),
    };
    let (made, member) = call
        .gateway()
        .cluster
        .sign(&version.handle, mechanism, data, call.deadline())
        .await?;
    call.note_member(member);
    let made = match (encodes, encoding) {
        (true, Encoding::Der) => signature::p1363_to_der(version.token.key_type, &made).ok_or_else(|| {
            ApiError::new(
                Reason::Internal,
                "an HSM member returned a signature of the wrong length",
            )
        })?,
        _ => made,
    };
    response.signature_crc32c = crc32c(&made);
    response.signature = made.into();
    Ok(response)
}

async fn verify(call: &mut Call, request: v1::VerifyRequest) -> Result<v1::VerifyResponse, ApiError> {
    let (record, number) = lookup(call, &request.name).await?;
    let (version, mechanism) = authorise_signing(call, &record, number, request.mechanism)?;
    call.uses(record.key.name.version(version.row.number), Some(mechanism));
    let encoding = convert::encoding(request.encoding)?;
    let input = signing_input(call, mechanism, request.input.as_ref().map(verify_input))?;
    let verified_input_crc32c = verify_checksum("input", raw(input), request.input_crc32c)?;
    let verified_signature_crc32c = verify_checksum("signature", &request.signature, request.signature_crc32c)?;
    let token = &version.token;
    let valid = signature::verify(
        token.key_type,
        mechanism,
        &token.public_key,
        input,
        &request.signature,
        encoding,
    )
    .map_err(|error| match error {
        signature::VerifyError::Unsupported(..) => ApiError::new(Reason::MechanismUnsupported, error.to_string()),
        signature::VerifyError::PublicKey => ApiError::new(Reason::Internal, error.to_string()),
    })?;
    Ok(v1::VerifyResponse {
        valid,
        name: record.key.name.version(version.row.number),
        state: version.row.state as i32,
        verified_input_crc32c,
        verified_signature_crc32c,
        mechanism: mechanism.number().into(),
    })
}

async fn encrypt(call: &mut Call, request: v1::EncryptRequest) -> Result<v1::EncryptResponse, ApiError> {
    let (record, number) = lookup(call, &request.name).await?;
    let limit = call.gateway().limits().payload;
    let authenticated = match request.authenticated {
        None => Authenticated::Data(Vec::new()),
        Some(v1::encrypt_request::Authenticated::AssociatedData(data)) => associated_data(&data, limit)?,
        Some(v1::encrypt_request::Authenticated::EncryptionContext(context)) => convert::context(context, limit)?,
    };
    authorise_cipher(call, &record, number, &authenticated)?;
    let version = find_version(&record, number)?;
    call.uses(record.key.name.version(version.row.number), Some(Mechanism::AesGcm));
    let header = ciphertext_header(&record, version, Operation::Encrypt)?;
    require_length("plaintext", &request.plaintext, limit)?;
    let verified_plaintext_crc32c = verify_checksum("plaintext", &request.plaintext, request.plaintext_crc32c)?;
    let verified_associated_data_crc32c = verify_associated_data(&authenticated, request.associated_data_crc32c)?;
    note_context(call, &authenticated);
    require_state(&record, version, Operation::Encrypt)?;
    let mut response = v1::EncryptResponse {
        name: record.key.name.version(version.row.number),
        verified_plaintext_crc32c,
        verified_associated_data_crc32c,
        ..v1::EncryptResponse::default()
    };
    if request.dry_run {
        return Ok(response);
    }
    let (before, after) = (header.to_bytes(), authenticated.to_bytes());
    let cluster = Arc::clone(&call.gateway().cluster);
    let (encrypted, member) = cluster
        .encrypt(&version.handle, &before, &after, &request.plaintext, call.deadline())
        .await?;
    call.note_member(member);
    let ciphertext = header.assemble(&encrypted.nonce, &encrypted.ciphertext);
    response.ciphertext_crc32c = crc32c(&ciphertext);
    response.ciphertext = ciphertext.into();
    Ok(response)
}

async fn decrypt(call: &mut Call, request: v1::DecryptRequest) -> Result<v1::DecryptResponse, ApiError> {
    let (record, number) = lookup(call, &request.name).await?;
    let limit = call.gateway().limits().payload;
    let authenticated = match request.authenticated {
        None => Authenticated::Data(Vec::new()),
        Some(v1::decrypt_request::Authenticated::AssociatedData(data)) => associated_data(&data, limit)?,
        Some(v1::decrypt_request::Authenticated::EncryptionContext(context)) => convert::context(context, limit)?,
    };
    // The version comes from the ciphertext.
    let parts = Ciphertext::parse(&request.ciphertext);
    let used = number.or(parts.as_ref().map(|parts| parts.header.version));
    authorise_cipher(call, &record, used, &authenticated)?;
    require_length(
        "ciphertext",
        &request.ciphertext,
        limit + crate::crypto::ciphertext::OVERHEAD,
    )?;
    let verified_ciphertext_crc32c = verify_checksum("ciphertext", &request.ciphertext, request.ciphertext_crc32c)?;
    let verified_associated_data_crc32c = verify_associated_data(&authenticated, request.associated_data_crc32c)?;
    note_context(call, &authenticated);
    require_use(&record, record.primary(), Operation::Decrypt, Mechanism::AesGcm)?;
    // A version of another key, or of none, is as wrong as a broken ciphertext.
    let parts = parts.ok_or_else(ApiError::decryption_failed)?;
    let named = number.unwrap_or(parts.header.version);
    let version = record
        .version(parts.header.version)
        .filter(|version| parts.header.key_uid == record.key.uid && version.row.number == named)
        .ok_or_else(ApiError::decryption_failed)?;
    call.uses(record.key.name.version(version.row.number), Some(Mechanism::AesGcm));
    if ciphertext_header(&record, version, Operation::Decrypt)? != parts.header {
        return Err(ApiError::decryption_failed());
    }
    require_state(&record, version, Operation::Decrypt)?;
    let mut response = v1::DecryptResponse {
        name: record.key.name.version(version.row.number),
        used_primary: version.row.number == record.key.primary_version,
        verified_ciphertext_crc32c,
        verified_associated_data_crc32c,
        ..v1::DecryptResponse::default()
    };
    if request.dry_run {
        return Ok(response);
    }
    let (before, after) = (parts.header.to_bytes(), authenticated.to_bytes());
    let cluster = Arc::clone(&call.gateway().cluster);
    let (plaintext, member) = cluster
        .decrypt(
            &version.handle,
            &before,
            parts.nonce,
            &after,
            parts.sealed,
            call.deadline(),
        )
        .await?;
    call.note_member(member);
    response.plaintext_crc32c = crc32c(&plaintext);
    response.plaintext = plaintext.into();
    Ok(response)
}

async fn generate_random(
    call: &mut Call,
    request: v1::GenerateRandomRequest,
) -> Result<v1::GenerateRandomResponse, ApiError> {
    call.authorise_gateway("random")?;
    let length = request.length_bytes;
    if !(1..=MAX_RANDOM).contains(&length) {
        return Err(ApiError::field(
            "length_bytes",
            format!("expected 1 to {MAX_RANDOM}, found {length}"),
        ));
    }
    let (data, member) = call.gateway().cluster.random(length, call.deadline()).await?;
    call.note_member(member);
    Ok(v1::GenerateRandomResponse {
        data_crc32c: crc32c(&data),
        data: data.into(),
    })
}

/// The key that a call names, and the number of the version, if one is named. The call is not authorised yet.
async fn lookup(call: &mut Call, name: &str) -> Result<(Arc<KeyRecord>, Option<u32>), ApiError> {
    let name = KeyOrVersionName::parse(name)?;
    Ok((find_key(call, &name.key).await?, name.version))
}

/// Authorises a signature or its check; returns the version and the mechanism. What is wrong with the caller's choice of them is
/// told only to those who may use the key.
fn authorise_signing<'r>(
    call: &mut Call,
    record: &'r KeyRecord,
    number: Option<u32>,
    chosen: i32,
) -> Result<(&'r VersionRecord, Mechanism), ApiError> {
    let found = find_version(record, number)
        .and_then(|version| signing_mechanism(version, chosen).map(|mechanism| (version, mechanism)));
    let circumstances = Circumstances {
        mechanism: found.as_ref().ok().map(|(_, mechanism)| *mechanism),
        encryption_context: None,
        primary_version: Some(is_primary(record, number)),
    };
    call.authorise_key(named(record, number), record.facts(), circumstances)?;
    found
}

/// Authorises an encryption or decryption.
fn authorise_cipher(
    call: &mut Call,
    record: &KeyRecord,
    number: Option<u32>,
    authenticated: &Authenticated,
) -> Result<(), ApiError> {
    let circumstances = Circumstances {
        mechanism: Some(Mechanism::AesGcm),
        encryption_context: match authenticated {
            Authenticated::Context(context) => Some(context),
            Authenticated::Data(_) => None,
        },
        primary_version: Some(is_primary(record, number)),
    };
    call.authorise_key(named(record, number), record.facts(), circumstances)
}

fn is_primary(record: &KeyRecord, number: Option<u32>) -> bool {
    number.is_none_or(|number| number == record.key.primary_version)
}

fn named(record: &KeyRecord, number: Option<u32>) -> String {
    match number {
        Some(number) => record.key.name.version(number),
        None => record.key.name.to_string(),
    }
}

/// The mechanism to sign or verify with: the caller's, if the key permits it, else the only one that the key permits.
fn signing_mechanism(version: &VersionRecord, chosen: i32) -> Result<Mechanism, ApiError> {
    let permitted: Vec<Mechanism> = version.token.uses.mechanisms(Operation::Sign).collect();
    let names = permitted.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let mismatch = |message: String| ApiError::new(Reason::AlgorithmMismatch, message).with("permitted", names.clone());
    match (convert::mechanism(chosen)?, permitted.as_slice()) {
        (_, []) => Err(mismatch(format!(
            "a key of type {} with these uses does not sign",
            version.token.key_type
        ))),
        (Some(chosen), permitted) if permitted.contains(&chosen) => Ok(chosen),
        (Some(chosen), _) => Err(mismatch(format!(
            "the key does not permit {chosen}; it permits {names}"
        ))),
        (None, [only]) => Ok(*only),
        (None, _) => Err(mismatch(format!(
            "the key permits several mechanisms ({names}): name one"
        ))),
    }
}

fn sign_input(input: &v1::sign_request::Input) -> Input<'_> {
    match input {
        v1::sign_request::Input::Digest(digest) => Input::Digest(digest),
        v1::sign_request::Input::Message(message) => Input::Message(message),
    }
}

fn verify_input(input: &v1::verify_request::Input) -> Input<'_> {
    match input {
        v1::verify_request::Input::Digest(digest) => Input::Digest(digest),
        v1::verify_request::Input::Message(message) => Input::Message(message),
    }
}

/// Checks what is to be signed: a digest has its hash's length, a message is not too long.
fn signing_input<'a>(call: &Call, mechanism: Mechanism, input: Option<Input<'a>>) -> Result<Input<'a>, ApiError> {
    match (input, mechanism.signature_hash()) {
        (None, _) => Err(ApiError::field("input", "expected a digest or a message")),
        (Some(Input::Digest(_)), None) => {
            let message = format!("{mechanism} signs messages, not digests: send the message");
            Err(ApiError::new(Reason::AlgorithmMismatch, message))
        }
        (Some(Input::Digest(digest)), Some(hash)) if digest.len() != hash.length() => {
            let message = format!(
                "{mechanism} takes a {hash} digest of {} bytes; the digest has {}",
                hash.length(),
                digest.len()
            );
            Err(ApiError::new(Reason::DigestLengthMismatch, message)
                .with("hash", hash.to_string())
                .with("expected_length", hash.length().to_string())
                .with("actual_length", digest.len().to_string()))
        }
        (Some(input), _) => {
            require_length("message", raw(input), call.gateway().limits().payload)?;
            Ok(input)
        }
    }
}

fn raw(input: Input<'_>) -> &[u8] {
    match input {
        Input::Digest(bytes) | Input::Message(bytes) => bytes,
    }
}

/// The head of ciphertexts of a version, if the key may be used so.
fn ciphertext_header(record: &KeyRecord, version: &VersionRecord, operation: Operation) -> Result<Header, ApiError> {
    require_use(record, version, operation, Mechanism::AesGcm)?;
    let suite = Suite::of(version.token.key_type)
        .ok_or_else(|| ApiError::new(Reason::Internal, "a key that permits AES_GCM is no AES key"))?;
    Ok(Header {
        key_uid: record.key.uid,
        version: version.row.number,
        suite,
    })
}

fn require_use(
    record: &KeyRecord,
    version: &VersionRecord,
    operation: Operation,
    mechanism: Mechanism,
) -> Result<(), ApiError> {
    if version.token.uses.permit(operation, mechanism) {
        return Ok(());
    }
    let permitted = version
        .token
        .uses
        .iter()
        .map(|one| one.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let message = format!(
        "{} does not permit {operation} with {mechanism}; it permits {permitted}",
        record.key.name
    );
    Err(ApiError::new(Reason::AlgorithmMismatch, message).with("permitted", permitted))
}

fn require_state(record: &KeyRecord, version: &VersionRecord, operation: Operation) -> Result<(), ApiError> {
    let state = version.row.state;
    if state.permits(operation) {
        return Ok(());
    }
    let name = record.key.name.version(version.row.number);
    Err(ApiError::new(
        Reason::KeyStateForbidsOperation,
        format!("{name} is {state}, which does not permit {operation}"),
    )
    .with("version", name)
    .with("state", state.name()))
}

fn require_length(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), ApiError> {
    if bytes.len() <= limit {
        return Ok(());
    }
    let message = format!("the {what} has {} bytes; at most {limit} were expected", bytes.len());
    Err(ApiError::new(Reason::PayloadTooLarge, message)
        .with("limit", limit.to_string())
        .with("actual", bytes.len().to_string()))
}

fn associated_data(data: &[u8], limit: usize) -> Result<Authenticated, ApiError> {
    require_length("associated data", data, limit)?;
    Ok(Authenticated::Data(data.to_vec()))
}

/// Checks a checksum, if one came; says whether one did.
fn verify_checksum(what: &'static str, bytes: &[u8], expected: Option<u32>) -> Result<bool, ApiError> {
    match expected {
        None => Ok(false),
        Some(expected) if expected == crc32c(bytes) => Ok(true),
        Some(_) => Err(ApiError::new(
            Reason::ChecksumMismatch,
            format!("the {what} does not have the CRC32C that came with it: it was garbled on the way"),
        )
        .with("field", what)),
    }
}

fn verify_associated_data(authenticated: &Authenticated, expected: Option<u32>) -> Result<bool, ApiError> {
    match (authenticated, expected) {
        (Authenticated::Data(data), expected) => verify_checksum("associated_data", data, expected),
        (Authenticated::Context(_), None) => Ok(false),
        (Authenticated::Context(_), Some(_)) => Err(ApiError::field(
            "associated_data_crc32c",
            "an encryption context has no checksum",
        )),
    }
}

fn note_context(call: &mut Call, authenticated: &Authenticated) {
    let none = BTreeMap::new();
    call.note_context(match authenticated {
        Authenticated::Context(context) => context,
        Authenticated::Data(_) => &none,
    });
}

const MAX_RANDOM: u32 = 65_536;

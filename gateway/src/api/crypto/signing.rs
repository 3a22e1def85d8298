//! Signatures, made in an HSM and checked in software.

use super::{
    super::{
        ApiError, Reason,
        call::Call,
        convert,
        lookup::{find_given, require_public_key},
        target::{Wish, authorise},
    },
    CryptoRequest,
    payload::{require_length, verify_checksum},
};
use crate::{
    cluster::key_use::PublicKey,
    crypto::{
        checksum::crc32c,
        rsa,
        signature::{self, Encoding, Input},
    },
    policy::Action,
};
use portcullis_hsm::algorithm::{Family, Mechanism, Operation};
use portcullis_proto::v1;

impl CryptoRequest for v1::SignRequest {
    type Response = v1::SignResponse;

    fn action(&self) -> Action {
        Action::Sign
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        sign(call, self).await
    }
}

impl CryptoRequest for v1::VerifyRequest {
    type Response = v1::VerifyResponse;

    fn action(&self) -> Action {
        Action::Verify
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        verify(call, self).await
    }
}

async fn sign(call: &mut Call, request: v1::SignRequest) -> Result<v1::SignResponse, ApiError> {
    let (record, number) = find_given(call, &request.name, &request.key_token).await?;
    let wish = Wish::new(&record, Operation::Sign, request.mechanism).with_version(number);
    let target = authorise(call, &record, wish)?;
    call.note_check_only(request.dry_run);
    let (version, mechanism) = (target.version, target.mechanism);
    let encoding = convert::encoding(request.encoding)?;
    let input = signing_input(call, mechanism, request.input.as_ref().map(sign_input))?;
    let verified = verify_checksum("input", raw(input), request.input_crc32c)?;
    if mechanism == Mechanism::RsaRaw && !rsa::is_below_modulus(version.public_key(), raw(input)) {
        let found = raw(input).len();
        let message = format!(
            "{mechanism} signs a number below the modulus in as many bytes as that has; found {found} bytes that are no such number"
        );
        return Err(ApiError::field("message", message));
    }
    let material = target.material(call, "")?;
    let encodes = matches!(record.profile.key_type.family(), Family::Ec);
    let mut response = v1::SignResponse {
        name: target.name(),
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
    let public_key = PublicKey {
        key_type: record.profile.key_type,
        info: require_public_key(&record, version)?,
    };
    version.uses.note();
    let (made, member) = call
        .gateway()
        .cluster
        .sign(&material.handle, mechanism, data, public_key, call.errand())
        .await?;
    call.note_member(member);
    let made = match (encodes, encoding) {
        (true, Encoding::Der) => signature::p1363_to_der(record.profile.key_type, &made).ok_or_else(|| {
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
    let (record, number) = find_given(call, &request.name, &request.key_token).await?;
    let wish = Wish::new(&record, Operation::Sign, request.mechanism).with_version(number);
    let target = authorise(call, &record, wish)?;
    let (version, mechanism) = (target.version, target.mechanism);
    let encoding = convert::encoding(request.encoding)?;
    let input = signing_input(call, mechanism, request.input.as_ref().map(verify_input))?;
    let verified_input_crc32c = verify_checksum("input", raw(input), request.input_crc32c)?;
    let verified_signature_crc32c = verify_checksum("signature", &request.signature, request.signature_crc32c)?;
    let valid = signature::verify(
        record.profile.key_type,
        mechanism,
        require_public_key(&record, version)?,
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
        name: target.name(),
        state: version.state() as i32,
        verified_input_crc32c,
        verified_signature_crc32c,
        mechanism: mechanism.number().into(),
    })
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
        (None, _) => Err(ApiError::field(
            "input",
            "expected a digest or a message, found neither",
        )),
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

//! Data keys: drawn and encrypted on one member.

use super::{
    super::{
        ApiError, Reason,
        call::Call,
        lookup::find_given,
        target::{Wish, authorise},
    },
    CryptoRequest,
    encryption::header,
    payload::{GivenData, outgoing, verify_associated_data},
};
use crate::{
    cluster::key_use::{GcmKey, Release},
    crypto::{
        checksum::crc32c,
        rsa::{Recipient, RecipientError},
    },
    policy::Action,
};
use portcullis_hsm::algorithm::{Mechanism, Operation};
use portcullis_proto::v1::{self, generate_data_key_request};

impl CryptoRequest for v1::GenerateDataKeyRequest {
    type Response = v1::GenerateDataKeyResponse;

    fn action(&self) -> Action {
        // Whoever chooses the recipient may be the recipient.
        match self.release {
            Some(generate_data_key_request::Release::WithoutPlaintext(true)) => Action::GenerateSealedDataKey,
            _ => Action::GenerateDataKey,
        }
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let authenticated = GivenData::from(self.authenticated).read(call)?;
        call.note_context(&authenticated);
        let wish = Wish::new(&record, Operation::Encrypt, Mechanism::AesGcm.number().into())
            .with_version(number)
            .authenticating(&authenticated);
        let target = authorise(call, &record, wish)?;
        if !LENGTHS.contains(&self.length_bytes) {
            return Err(ApiError::field(
                "length_bytes",
                format!("expected 16, 24, 32 or 64, found {}", self.length_bytes),
            ));
        }
        call.note_check_only(self.dry_run);
        let verified_associated_data_crc32c =
            verify_associated_data("associated_data", &authenticated, self.associated_data_crc32c)?;
        let recipient = match &self.release {
            Some(generate_data_key_request::Release::RecipientPublicKey(key)) => Some(Recipient::read(key)?),
            _ => None,
        };
        let material = target.material(call, "")?;
        let mut response = v1::GenerateDataKeyResponse {
            name: target.name(),
            verified_associated_data_crc32c,
            ..v1::GenerateDataKeyResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }
        let header = header(&record, target.version)?;
        let key = GcmKey {
            key: &material.handle,
            before_nonce: &header.to_bytes(),
            after_nonce: &authenticated.to_bytes(),
        };
        let release = match call.action() {
            Action::GenerateSealedDataKey => Release::Sealed,
            _ => Release::Plaintext,
        };
        target.count_encryption(call).await?;
        let cluster = &call.gateway().cluster;
        let ((encrypted, plaintext), member) = cluster
            .generate_data_key(key, self.length_bytes, release, call.errand())
            .await?;
        call.note_member(member);
        match (recipient, plaintext) {
            (Some(recipient), Some(plaintext)) => {
                let ciphertext = recipient.encrypt(&plaintext)?;
                response.ciphertext_for_recipient_crc32c = crc32c(&ciphertext);
                response.ciphertext_for_recipient = ciphertext.into();
            }
            (None, Some(plaintext)) => {
                response.plaintext_crc32c = crc32c(&plaintext);
                response.plaintext = outgoing(plaintext);
            }
            (_, None) => {}
        }
        let ciphertext = header.assemble(&encrypted.nonce, &encrypted.ciphertext);
        response.ciphertext_crc32c = crc32c(&ciphertext);
        response.ciphertext = ciphertext.into();
        Ok(response)
    }
}

impl From<RecipientError> for ApiError {
    fn from(error: RecipientError) -> Self {
        match error {
            RecipientError::Failed => Self::new(Reason::Internal, error.to_string()),
            error => Self::field("recipient_public_key", error),
        }
    }
}

const LENGTHS: [u32; 4] = [16, 24, 32, 64];

//! Taking a ciphertext off one key and putting it under another, inside one member.

use super::{
    super::{
        ApiError,
        call::{Call, Second},
        lookup::{find_given, find_second_given},
        target::{Asked, Wish, decide},
    },
    CryptoRequest,
    encryption::{header, opened_by, version_meant},
    payload::{GivenData, require_length, verify_associated_data, verify_checksum},
};
use crate::{
    cluster::key_use::{GcmCiphertext, GcmKey},
    crypto::{
        checksum::crc32c,
        ciphertext::{Ciphertext, OVERHEAD},
    },
    policy::Action,
};
use portcullis_hsm::algorithm::{Mechanism, Operation};
use portcullis_proto::v1;

impl CryptoRequest for v1::ReEncryptRequest {
    type Response = v1::ReEncryptResponse;

    fn action(&self) -> Action {
        Action::ReEncryptFrom
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let gcm = Mechanism::AesGcm.number().into();

        // Both permissions before anything else is said of either key.
        let (source_record, source_number) = find_given(call, &self.source_name, &self.source_key_token).await?;
        let source_data = GivenData::from(self.source_authenticated).read(call)?;
        call.note_context(&source_data);
        let parts = Ciphertext::parse(&self.ciphertext);
        let wish = Wish::new(&source_record, Operation::Decrypt, gcm)
            .with_version(version_meant(&source_record, source_number, parts))
            .authenticating(&source_data);
        let source = decide(call, Asked::Own, &source_record, wish)?;
        let named = match self.destination_name.as_str() {
            "" => "an ephemeral key",
            name => name,
        };
        let second = Second {
            action: Action::ReEncryptTo,
            named: &self.destination_name,
        };
        let (record, number) = find_second_given(call, second, &self.destination_key_token).await?;
        let destination_data = GivenData::from(self.destination_authenticated).read(call)?;
        let wish = Wish::new(&record, Operation::Encrypt, gcm)
            .with_version(number)
            .authenticating(&destination_data);
        let asked = Asked::Second(Second { named, ..second });
        let destination = decide(call, asked, &record, wish)?.target()?;

        call.note_check_only(self.dry_run);
        require_length(
            "ciphertext",
            &self.ciphertext,
            call.gateway().limits().payload + OVERHEAD,
        )?;
        let verified_ciphertext_crc32c = verify_checksum("ciphertext", &self.ciphertext, self.ciphertext_crc32c)?;
        let verified_source_associated_data_crc32c = verify_associated_data(
            "source_associated_data",
            &source_data,
            self.source_associated_data_crc32c,
        )?;
        let verified_destination_associated_data_crc32c = verify_associated_data(
            "destination_associated_data",
            &destination_data,
            self.destination_associated_data_crc32c,
        )?;
        let (source, parts) = opened_by(source, &source_record, source_number, parts)?;
        let source_material = source.material(call, &self.break_glass_reason)?;
        let material = destination.material(call, "")?;
        let mut response = v1::ReEncryptResponse {
            source_name: source.name(),
            destination_name: destination.name(),
            verified_ciphertext_crc32c,
            verified_source_associated_data_crc32c,
            verified_destination_associated_data_crc32c,
            ..v1::ReEncryptResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }

        let header = header(&record, destination.version)?;
        let from = GcmKey {
            key: &source_material.handle,
            before_nonce: &parts.header.to_bytes(),
            after_nonce: &source_data.to_bytes(),
        };
        let to = GcmKey {
            key: &material.handle,
            before_nonce: &header.to_bytes(),
            after_nonce: &destination_data.to_bytes(),
        };
        let ciphertext = GcmCiphertext {
            nonce: parts.nonce,
            sealed: parts.sealed,
        };
        source.version.uses.note();
        destination.count_encryption(call).await?;
        let cluster = &call.gateway().cluster;
        let (encrypted, member) = cluster.re_encrypt(from, ciphertext, to, call.errand()).await?;
        call.note_member(member);
        let ciphertext = header.assemble(&encrypted.nonce, &encrypted.ciphertext);
        response.ciphertext_crc32c = crc32c(&ciphertext);
        response.ciphertext = ciphertext.into();
        Ok(response)
    }
}

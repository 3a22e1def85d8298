//! Taking a ciphertext off one key and putting it under another, inside one member.

use super::{
    super::{ApiError, call::Call, lookup::find_version},
    CryptoRequest,
    encryption::{authorise_decryption, header, version_of},
    payload::{GivenData, require_length, verify_associated_data, verify_checksum},
    target::{self, Wish},
};
use crate::{
    cluster::key_use::{GcmCiphertext, GcmKey},
    crypto::{
        checksum::crc32c,
        ciphertext::{Ciphertext, OVERHEAD},
    },
    policy::{Action, Resource},
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
        let (source_record, source_number) = target::find(call, &self.source_name, &self.source_key_token).await?;
        let source_data = GivenData::from(self.source_authenticated).read(call)?;
        call.note_context(&source_data);
        let parts = Ciphertext::parse(&self.ciphertext);
        let wish = Wish::new(Operation::Decrypt, gcm).authenticating(&source_data);
        authorise_decryption(call, &source_record, source_number, wish, |_| parts)?;
        let (name, token) = (&self.destination_name, &self.destination_key_token);
        let (record, number) = target::find_second(call, Action::ReEncryptTo, name, token).await?;
        let destination_data = GivenData::from(self.destination_authenticated).read(call)?;
        let wish = Wish::new(Operation::Encrypt, gcm).authenticating(&destination_data);
        let circumstances = wish.circumstances(&record, number, Some(Mechanism::AesGcm));
        call.authorise_also(Action::ReEncryptTo, Resource::Key(record.facts()), circumstances)?;
        let version = find_version(&record, number)?;
        call.also_uses(record.key.name.version(version.row.number));
        target::choose_mechanism(&record, wish)?;

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
        let (source_version, parts) = version_of(call, &source_record, source_number, parts)?;
        let source_material = target::require_state(
            call,
            &source_record,
            source_version,
            Operation::Decrypt,
            &self.break_glass_reason,
        )?;
        let material = target::require_state(call, &record, version, Operation::Encrypt, "")?;
        let mut response = v1::ReEncryptResponse {
            source_name: source_record.key.name.version(source_version.row.number),
            destination_name: record.key.name.version(version.row.number),
            verified_ciphertext_crc32c,
            verified_source_associated_data_crc32c,
            verified_destination_associated_data_crc32c,
            ..v1::ReEncryptResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }

        let header = header(&record, version)?;
        let source = GcmKey {
            key: &source_material.handle,
            before_nonce: &parts.header.to_bytes(),
            after_nonce: &source_data.to_bytes(),
        };
        let destination = GcmKey {
            key: &material.handle,
            before_nonce: &header.to_bytes(),
            after_nonce: &destination_data.to_bytes(),
        };
        let ciphertext = GcmCiphertext {
            nonce: parts.nonce,
            sealed: parts.sealed,
        };
        source_version.uses.note();
        target::count_encryption(call, version).await?;
        let cluster = &call.gateway().cluster;
        let (encrypted, member) = cluster
            .re_encrypt(source, ciphertext, destination, call.deadline())
            .await?;
        call.note_member(member);
        let ciphertext = header.assemble(&encrypted.nonce, &encrypted.ciphertext);
        response.ciphertext_crc32c = crc32c(&ciphertext);
        response.ciphertext = ciphertext.into();
        Ok(response)
    }
}

//! Decryption with private keys.

use super::{
    super::{
        ApiError,
        call::Call,
        lookup::find_given,
        target::{Wish, authorise},
    },
    CryptoRequest,
    payload::{outgoing, require_length, verify_checksum},
};
use crate::{
    crypto::{checksum::crc32c, rsa},
    policy::Action,
};
use portcullis_hsm::algorithm::Operation;
use portcullis_proto::v1;

impl CryptoRequest for v1::AsymmetricDecryptRequest {
    type Response = v1::AsymmetricDecryptResponse;

    fn action(&self) -> Action {
        Action::AsymmetricDecrypt
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let wish = Wish::new(&record, Operation::Decrypt, self.mechanism).with_version(number);
        let target = authorise(call, &record, wish)?;
        call.note_check_only(self.dry_run);
        if !record.profile.key_type.is_asymmetric() {
            return Err(ApiError::field(
                "name",
                format!(
                    "expected an RSA key, found one of type {}: call Decrypt for it",
                    record.profile.key_type
                ),
            ));
        }
        require_length("ciphertext", &self.ciphertext, call.gateway().limits().payload)?;
        let verified_ciphertext_crc32c = verify_checksum("ciphertext", &self.ciphertext, self.ciphertext_crc32c)?;
        let material = target.material(call, &self.break_glass_reason)?;
        let mut response = v1::AsymmetricDecryptResponse {
            name: target.name(),
            mechanism: target.mechanism.number().into(),
            verified_ciphertext_crc32c,
            ..v1::AsymmetricDecryptResponse::default()
        };
        // Not of the right form: tokens answer that in many ways, and some of them as if they were broken.
        if !rsa::is_below_modulus(target.version.public_key(), &self.ciphertext) {
            return Err(ApiError::decryption_failed());
        }
        if self.dry_run {
            return Ok(response);
        }
        target.version.uses.note();
        let cluster = &call.gateway().cluster;
        let (plaintext, member) = cluster
            .decrypt_asymmetric(&material.handle, target.mechanism, &self.ciphertext, call.errand())
            .await?;
        call.note_member(member);
        response.plaintext_crc32c = crc32c(&plaintext);
        response.plaintext = outgoing(plaintext);
        Ok(response)
    }
}

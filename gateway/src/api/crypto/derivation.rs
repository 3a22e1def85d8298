//! Agreement on secrets.

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
    crypto::{agreement, checksum::crc32c},
    policy::Action,
};
use portcullis_hsm::algorithm::Operation;
use portcullis_proto::v1;

impl CryptoRequest for v1::DeriveSharedSecretRequest {
    type Response = v1::DeriveSharedSecretResponse;

    fn action(&self) -> Action {
        Action::Derive
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let wish = Wish::new(&record, Operation::Derive, self.mechanism).with_version(number);
        let target = authorise(call, &record, wish)?;
        call.note_check_only(self.dry_run);
        require_length(
            "peer_public_key",
            &self.peer_public_key,
            call.gateway().limits().payload,
        )?;
        let verified_peer_public_key_crc32c =
            verify_checksum("peer_public_key", &self.peer_public_key, self.peer_public_key_crc32c)?;
        let peer_point = agreement::peer_point(record.profile.key_type, &self.peer_public_key)
            .map_err(|error| ApiError::field("peer_public_key", error))?;
        let material = target.material(call, &self.break_glass_reason)?;
        let mut response = v1::DeriveSharedSecretResponse {
            name: target.name(),
            mechanism: target.mechanism.number().into(),
            verified_peer_public_key_crc32c,
            ..v1::DeriveSharedSecretResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }
        target.version.uses.note();
        let cluster = &call.gateway().cluster;
        let (secret, member) = cluster.agree(&material.handle, &peer_point, call.errand()).await?;
        call.note_member(member);
        response.shared_secret_crc32c = crc32c(&secret);
        response.shared_secret = outgoing(secret);
        Ok(response)
    }
}

//! Message authentication codes, made and checked in an HSM.

use super::{
    super::{
        ApiError,
        call::Call,
        lookup::find_given,
        target::{Wish, authorise},
    },
    CryptoRequest,
    payload::{require_length, verify_checksum},
};
use crate::{crypto::checksum::crc32c, policy::Action};
use portcullis_hsm::algorithm::Operation;
use portcullis_proto::v1;

impl CryptoRequest for v1::MacSignRequest {
    type Response = v1::MacSignResponse;

    fn action(&self) -> Action {
        Action::MacSign
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let wish = Wish::new(&record, Operation::MacSign, self.mechanism).with_version(number);
        let target = authorise(call, &record, wish)?;
        call.note_check_only(self.dry_run);
        require_length("data", &self.data, call.gateway().limits().payload)?;
        let verified_data_crc32c = verify_checksum("data", &self.data, self.data_crc32c)?;
        let material = target.material(call, "")?;
        let mut response = v1::MacSignResponse {
            name: target.name(),
            mechanism: target.mechanism.number().into(),
            verified_data_crc32c,
            ..v1::MacSignResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }
        target.version.uses.note();
        let cluster = &call.gateway().cluster;
        let (mac, member) = cluster
            .mac(&material.handle, target.mechanism, &self.data, call.errand())
            .await?;
        call.note_member(member);
        response.mac_crc32c = crc32c(&mac);
        response.mac = mac.into();
        Ok(response)
    }
}

impl CryptoRequest for v1::MacVerifyRequest {
    type Response = v1::MacVerifyResponse;

    fn action(&self) -> Action {
        Action::MacVerify
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        let (record, number) = find_given(call, &self.name, &self.key_token).await?;
        let wish = Wish::new(&record, Operation::MacVerify, self.mechanism).with_version(number);
        let target = authorise(call, &record, wish)?;
        call.note_check_only(self.dry_run);
        let limit = call.gateway().limits().payload;
        require_length("data", &self.data, limit)?;
        require_length("mac", &self.mac, limit)?;
        let verified_data_crc32c = verify_checksum("data", &self.data, self.data_crc32c)?;
        let verified_mac_crc32c = verify_checksum("mac", &self.mac, self.mac_crc32c)?;
        let material = target.material(call, &self.break_glass_reason)?;
        let mut response = v1::MacVerifyResponse {
            name: target.name(),
            state: target.version.state() as i32,
            mechanism: target.mechanism.number().into(),
            verified_data_crc32c,
            verified_mac_crc32c,
            ..v1::MacVerifyResponse::default()
        };
        if self.dry_run {
            return Ok(response);
        }
        target.version.uses.note();
        let cluster = &call.gateway().cluster;
        let (valid, member) = cluster
            .verify_mac(&material.handle, target.mechanism, &self.data, &self.mac, call.errand())
            .await?;
        call.note_member(member);
        response.valid = valid;
        Ok(response)
    }
}

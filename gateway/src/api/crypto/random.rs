//! Random bytes.

use super::{
    super::{ApiError, call::Call},
    CryptoRequest,
    payload::outgoing,
};
use crate::{crypto::checksum::crc32c, policy::Action};
use portcullis_proto::v1;

impl CryptoRequest for v1::GenerateRandomRequest {
    type Response = v1::GenerateRandomResponse;

    fn action(&self) -> Action {
        Action::Random
    }

    async fn run(self, call: &mut Call) -> Result<Self::Response, ApiError> {
        call.names("random");
        call.authorise_gateway()?;
        let length = self.length_bytes;
        if !(1..=MAX_RANDOM).contains(&length) {
            return Err(ApiError::field(
                "length_bytes",
                format!("expected 1 to {MAX_RANDOM}, found {length}"),
            ));
        }
        let (data, member) = call.gateway().cluster.random(length, call.errand()).await?;
        call.note_member(member);
        Ok(v1::GenerateRandomResponse {
            data_crc32c: crc32c(&data),
            data: outgoing(data),
        })
    }
}

const MAX_RANDOM: u32 = 65_536;

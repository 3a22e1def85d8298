//! `CryptoService`: what keys do.
//!
//! Each kind of request implements [`CryptoRequest`] in the file of its family; [`perform`] gives it a call of its own, with
//! policy, state, limits and an audit entry. Single requests, the items of a batch and the operations of a stream are the same
//! from there on.
//!
//! - `signing`, `encryption`, `reencryption`, `mac`, `data_key`, `asymmetric`, `derivation`, `random`: the operations.
//! - `payload`: payloads on their way in and out.
//! - `batch`, `pipeline`: several operations in one request or stream.

mod asymmetric;
mod batch;
mod data_key;
mod derivation;
mod encryption;
mod mac;
mod payload;
mod pipeline;
mod random;
mod reencryption;
mod signing;

use super::{
    Api, ApiError, Gateway,
    call::{Call, Refused},
    caller::Caller,
};
use crate::policy::Action;
use portcullis_proto::v1::{self, crypto_service_server::CryptoService};
use prost::Message;
use std::{pin::Pin, sync::Arc};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// A request of the service, alone or among others.
trait CryptoRequest: Message + Sized + 'static {
    /// What it is answered with.
    type Response: Send + 'static;

    /// What it asks the policy for.
    fn action(&self) -> Action;

    /// Does it, on a call that has decided nothing yet.
    fn run(self, call: &mut Call) -> impl Future<Output = Result<Self::Response, ApiError>> + Send;
}

/// Does one thing for a caller; its audit entry is written when the answer is there.
async fn perform<R: CryptoRequest>(gateway: &Arc<Gateway>, caller: Caller, request: R) -> Result<R::Response, Refused> {
    let is_one_of_several = caller.batch.is_some();
    let result = match Call::of(gateway, caller, request.action(), request.encoded_len()) {
        Ok(mut call) => {
            let result = request.run(&mut call).await;
            call.finish(result).await
        }
        Err(refused) => Err(refused),
    };
    // The end of a request is counted with its status; what is refused inside of one that ends well, here.
    if is_one_of_several && let Err(refused) = &result {
        gateway.telemetry.metrics().refused(refused.reason());
    }
    result
}

async fn answer<R: CryptoRequest>(
    gateway: &Arc<Gateway>,
    request: Request<R>,
) -> Result<Response<R::Response>, Status> {
    let caller = Caller::of(gateway, &request)?;
    let result = perform(gateway, caller, request.into_inner()).await;
    result.map(Response::new).map_err(Refused::into_status)
}

/// The methods of the service: those that answer one request by itself, and those that answer a batch.
macro_rules! methods {
    (
        single { $($single:ident($request:ident) -> $response:ident;)* }
        batch { $($batch:ident($batch_request:ident) -> $batch_response:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl CryptoService for Api {
            $(async fn $single(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                answer(&self.0, request).await
            })*

            $(async fn $batch(
                &self,
                request: Request<v1::$batch_request>,
            ) -> Result<Response<v1::$batch_response>, Status> {
                batch::answer(&self.0, request).await
            })*

            type PipelineStream = Pin<Box<dyn Stream<Item = Result<v1::PipelineResponse, Status>> + Send + 'static>>;

            async fn pipeline(
                &self,
                request: Request<Streaming<v1::PipelineRequest>>,
            ) -> Result<Response<Self::PipelineStream>, Status> {
                Ok(Response::new(Box::pin(pipeline::answer(&self.0, request)?)))
            }
        }
    };
}

methods! {
    single {
        sign(SignRequest) -> SignResponse;
        verify(VerifyRequest) -> VerifyResponse;
        encrypt(EncryptRequest) -> EncryptResponse;
        decrypt(DecryptRequest) -> DecryptResponse;
        re_encrypt(ReEncryptRequest) -> ReEncryptResponse;
        generate_data_key(GenerateDataKeyRequest) -> GenerateDataKeyResponse;
        mac_sign(MacSignRequest) -> MacSignResponse;
        mac_verify(MacVerifyRequest) -> MacVerifyResponse;
        asymmetric_decrypt(AsymmetricDecryptRequest) -> AsymmetricDecryptResponse;
        derive_shared_secret(DeriveSharedSecretRequest) -> DeriveSharedSecretResponse;
        generate_random(GenerateRandomRequest) -> GenerateRandomResponse;
    }
    batch {
        batch_sign(BatchSignRequest) -> BatchSignResponse;
        batch_verify(BatchVerifyRequest) -> BatchVerifyResponse;
        batch_encrypt(BatchEncryptRequest) -> BatchEncryptResponse;
        batch_decrypt(BatchDecryptRequest) -> BatchDecryptResponse;
        batch_re_encrypt(BatchReEncryptRequest) -> BatchReEncryptResponse;
        batch_mac_sign(BatchMacSignRequest) -> BatchMacSignResponse;
        batch_mac_verify(BatchMacVerifyRequest) -> BatchMacVerifyResponse;
        batch_generate_data_key(BatchGenerateDataKeyRequest) -> BatchGenerateDataKeyResponse;
    }
}

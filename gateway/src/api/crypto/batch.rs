//! Several requests of one kind in one: each is done as if it had come alone, and has a result of its own.

use super::{
    super::{
        ApiError, Gateway, Reason,
        call::{Call, Refused},
        caller::Caller,
    },
    CryptoRequest, perform,
};
use crate::telemetry;
use portcullis_proto::v1;
use prost::Message;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

/// A batch of requests of one kind.
pub(super) trait Batch: Message + Sized {
    /// The kind.
    type Item: CryptoRequest + Default;
    /// The answer to the batch.
    type Response;

    /// The requests.
    fn items(self) -> Vec<Self::Item>;

    /// The answer, of a result for each request in their order.
    fn respond(results: Vec<Outcome<Self::Item>>) -> Self::Response;
}

/// What came of one request of a batch.
pub(super) type Outcome<R> = Result<<R as CryptoRequest>::Response, Refused>;

/// Answers a batch.
pub(super) async fn answer<B: Batch>(
    gateway: &Arc<Gateway>,
    request: Request<B>,
) -> Result<Response<B::Response>, Status> {
    let mut caller = Caller::of(gateway, &request)?;
    caller.batch = Some(caller.request);
    let batch = request.into_inner();
    let bytes = batch.encoded_len();
    let items = batch.items();
    if let Err(error) = require_limits(gateway, items.len(), bytes) {
        // No item is looked at; one entry stands for all of them.
        let call = Call::of(gateway, caller, B::Item::default().action(), 0).map_err(Refused::into_status)?;
        return call.conclude(Err(error)).await;
    }
    Ok(Response::new(B::respond(perform_all(gateway, &caller, items).await)))
}

fn require_limits(gateway: &Gateway, items: usize, bytes: usize) -> Result<(), ApiError> {
    if items == 0 {
        return Err(ApiError::field("items", "expected at least one, found none"));
    }
    for (what, found, limit) in [
        ("items", items, gateway.limits().batch_items as usize),
        ("bytes", bytes, gateway.limits().batch_bytes),
    ] {
        if found > limit {
            let message = format!("the batch has {found} {what}; at most {limit} were expected: send several batches");
            return Err(ApiError::new(Reason::PayloadTooLarge, message)
                .with("limit", limit.to_string())
                .with("actual", found.to_string())
                .with("unit", what));
        }
    }
    Ok(())
}

/// Performs requests side by side, so many at once that a batch alone cannot fill the members' queues. When the caller goes away,
/// those that are under way end as cancelled and the others are not begun.
async fn perform_all<R: CryptoRequest>(gateway: &Arc<Gateway>, caller: &Caller, requests: Vec<R>) -> Vec<Outcome<R>> {
    let count = requests.len();
    let queue = Arc::new(Mutex::new(requests.into_iter().enumerate()));
    let mut workers = JoinSet::new();
    for _ in 0..count.min(AT_ONCE) {
        let (gateway, caller, queue) = (Arc::clone(gateway), caller.clone(), Arc::clone(&queue));
        // On the heap from the start: it is large, and is handed on several times.
        workers.spawn(telemetry::follow(Box::pin(async move {
            let mut done = Vec::new();
            loop {
                // Apart from the loop's body, so that the lock is not held there.
                let next = queue.lock().unwrap_or_else(|lock| lock.into_inner()).next();
                let Some((at, request)) = next else { return done };
                let result = perform(&gateway, caller.clone(), request).await;
                done.push((at, result));
            }
        })));
    }
    let mut outcomes: Vec<Option<Outcome<R>>> = (0..count).map(|_| None).collect();
    while let Some(done) = workers.join_next().await {
        for (at, outcome) in done.unwrap_or_default() {
            outcomes[at] = Some(outcome);
        }
    }
    let lost = || {
        let error = ApiError::new(Reason::Internal, "the gateway failed while it did this");
        Err(Refused::new(error, caller.batch.unwrap_or_default()))
    };
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(lost))
        .collect()
}

/// The batches of the API, whose results each have a type of their own.
macro_rules! batches {
    ($($request:ident($item:ident) -> $response:ident, $module:ident;)*) => {
        $(impl Batch for v1::$request {
            type Item = v1::$item;
            type Response = v1::$response;

            fn items(self) -> Vec<Self::Item> {
                self.items
            }

            fn respond(results: Vec<Outcome<Self::Item>>) -> Self::Response {
                use v1::$module::{Result as Row, result::Result as Choice};
                let row = |outcome: Outcome<Self::Item>| Row {
                    result: Some(match outcome {
                        Ok(response) => Choice::Response(response),
                        Err(refused) => Choice::Error(refused.into_operation_error()),
                    }),
                };
                v1::$response {
                    results: results.into_iter().map(row).collect(),
                }
            }
        })*
    };
}

batches! {
    BatchSignRequest(SignRequest) -> BatchSignResponse, batch_sign_response;
    BatchVerifyRequest(VerifyRequest) -> BatchVerifyResponse, batch_verify_response;
    BatchEncryptRequest(EncryptRequest) -> BatchEncryptResponse, batch_encrypt_response;
    BatchDecryptRequest(DecryptRequest) -> BatchDecryptResponse, batch_decrypt_response;
    BatchReEncryptRequest(ReEncryptRequest) -> BatchReEncryptResponse, batch_re_encrypt_response;
    BatchMacSignRequest(MacSignRequest) -> BatchMacSignResponse, batch_mac_sign_response;
    BatchMacVerifyRequest(MacVerifyRequest) -> BatchMacVerifyResponse, batch_mac_verify_response;
    BatchGenerateDataKeyRequest(GenerateDataKeyRequest) -> BatchGenerateDataKeyResponse,
        batch_generate_data_key_response;
}

const AT_ONCE: usize = 64;

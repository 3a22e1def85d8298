//! Those who ask the gateway.

use super::request::Request;
use crate::{closed::Call, operation::BATCH, sample::Outcome};
use portcullis_client::{
    Client, Error, Status, Transport,
    v1::{
        BatchEncryptRequest, BatchMacSignRequest, BatchSignRequest, OperationError, batch_encrypt_response,
        batch_mac_sign_response, batch_sign_response, crypto_service_client::CryptoServiceClient,
    },
};

/// Somebody who asks for the same again and again.
pub(crate) enum Caller {
    Unary(CryptoServiceClient<Transport>, Request),
    BatchSign(CryptoServiceClient<Transport>, BatchSignRequest),
    BatchEncrypt(CryptoServiceClient<Transport>, BatchEncryptRequest),
    BatchMac(CryptoServiceClient<Transport>, BatchMacSignRequest),
    Pipelined(Client, Request),
}

impl Caller {
    pub(crate) fn unary(client: &Client, request: &Request) -> Self {
        Self::Unary(client.crypto(), request.clone())
    }

    pub(super) fn batch(client: &Client, request: &Request) -> Self {
        let crypto = client.crypto();
        match request.clone() {
            Request::Sign(one) => Self::BatchSign(
                crypto,
                BatchSignRequest {
                    items: vec![one; BATCH],
                },
            ),
            Request::Encrypt(one) => Self::BatchEncrypt(
                crypto,
                BatchEncryptRequest {
                    items: vec![one; BATCH],
                },
            ),
            Request::Mac(one) => Self::BatchMac(
                crypto,
                BatchMacSignRequest {
                    items: vec![one; BATCH],
                },
            ),
        }
    }

    /// Shares the connection's stream.
    pub(super) fn pipelined(client: &Client, request: &Request) -> Self {
        Self::Pipelined(client.clone(), request.clone())
    }
}

impl Call for Caller {
    async fn call(&mut self) -> Outcome {
        match self {
            Self::Unary(crypto, Request::Sign(request)) => one(crypto.sign(request.clone()).await),
            Self::Unary(crypto, Request::Encrypt(request)) => one(crypto.encrypt(request.clone()).await),
            Self::Unary(crypto, Request::Mac(request)) => one(crypto.mac_sign(request.clone()).await),
            Self::BatchSign(crypto, request) => match crypto.batch_sign(request.clone()).await {
                Ok(answer) => items(answer.into_inner().results, |result| match result.result {
                    Some(batch_sign_response::result::Result::Response(_)) => Ok(()),
                    Some(batch_sign_response::result::Result::Error(error)) => Err(Some(error)),
                    None => Err(None),
                }),
                Err(status) => refused(status),
            },
            Self::BatchEncrypt(crypto, request) => match crypto.batch_encrypt(request.clone()).await {
                Ok(answer) => items(answer.into_inner().results, |result| match result.result {
                    Some(batch_encrypt_response::result::Result::Response(_)) => Ok(()),
                    Some(batch_encrypt_response::result::Result::Error(error)) => Err(Some(error)),
                    None => Err(None),
                }),
                Err(status) => refused(status),
            },
            Self::BatchMac(crypto, request) => match crypto.batch_mac_sign(request.clone()).await {
                Ok(answer) => items(answer.into_inner().results, |result| match result.result {
                    Some(batch_mac_sign_response::result::Result::Response(_)) => Ok(()),
                    Some(batch_mac_sign_response::result::Result::Error(error)) => Err(Some(error)),
                    None => Err(None),
                }),
                Err(status) => refused(status),
            },
            Self::Pipelined(client, Request::Sign(request)) => shared(client.sign(request.clone()).await),
            Self::Pipelined(client, Request::Encrypt(request)) => shared(client.encrypt(request.clone()).await),
            Self::Pipelined(client, Request::Mac(request)) => shared(client.mac_sign(request.clone()).await),
        }
    }
}

fn one<A>(answer: Result<A, Status>) -> Outcome {
    Outcome::of_one(answer.map(drop).map_err(told))
}

fn shared<A>(answer: Result<A, Error>) -> Outcome {
    Outcome::of_one(answer.map(drop).map_err(|error| reason(&error)))
}

fn items<R>(results: Vec<R>, of: impl Fn(R) -> Result<(), Option<OperationError>>) -> Outcome {
    let mut outcome = Outcome::default();
    let missing = BATCH.saturating_sub(results.len());
    outcome.failed = vec![NO_RESULT.to_owned(); missing];
    for result in results {
        match of(result) {
            Ok(()) => outcome.done += 1,
            Err(Some(error)) => outcome.failed.push(error.reason),
            Err(None) => outcome.failed.push(NO_RESULT.to_owned()),
        }
    }
    outcome
}

/// A batch that failed as a whole is as many operations that were not done.
fn refused(status: Status) -> Outcome {
    Outcome {
        done: 0,
        failed: vec![told(status); BATCH],
    }
}

/// The reason, which is a word, and else the message.
pub(crate) fn told(status: Status) -> String {
    reason(&Error::from(status))
}

fn reason(error: &Error) -> String {
    match error.fault().and_then(portcullis_client::Fault::reason) {
        Some(reason) => reason.to_owned(),
        None => error.to_string(),
    }
}

const NO_RESULT: &str = "no result in the answer";

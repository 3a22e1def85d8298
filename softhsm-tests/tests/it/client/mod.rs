//! The client library against real gateways.

mod certificates;
mod envelopes;
mod examples;
mod repeats;
mod streams;

use portcullis_client::v1::{SignRequest, sign_request::Input};

/// A request to sign a message.
fn signing(key: &str, message: &str) -> SignRequest {
    SignRequest {
        name: key.to_owned(),
        input: Some(Input::Message(message.to_owned().into())),
        ..Default::default()
    }
}

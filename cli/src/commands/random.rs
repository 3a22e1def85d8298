//! `portcullis random`.

use super::delivery::Delivery;
use crate::{
    arguments::RandomArguments,
    console::Console,
    document,
    failure::{Exit, Failure},
};
use portcullis_client::{Client, v1::GenerateRandomRequest};
use serde_json::json;

pub(crate) async fn run(client: &Client, console: Console, arguments: RandomArguments) -> Result<Exit, Failure> {
    let request = GenerateRandomRequest {
        length_bytes: arguments.length,
    };
    let bytes = client.crypto().generate_random(request).await?.into_inner().data;
    if bytes.len() as u64 != u64::from(arguments.length) {
        let found = bytes.len();
        return Err(Failure::Internal(format!(
            "asked for {} random bytes and got {found}",
            arguments.length
        )));
    }
    let text = match (arguments.hex, arguments.base64) {
        (true, _) => Some(hex::encode(&bytes) + "\n"),
        (_, true) => Some(document::base64(&bytes) + "\n"),
        _ => None,
    };
    let delivery = match &text {
        Some(text) => Delivery::text("data", text).with_value(json!(document::base64(&bytes))),
        None => Delivery::binary("data", &bytes),
    };
    delivery.to(
        arguments.out.as_ref(),
        console,
        |path| format!("wrote {} random bytes to {}", arguments.length, path.display()),
        json!({ "length_bytes": arguments.length }),
    )
}

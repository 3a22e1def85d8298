//! `portcullis key export`.

use crate::{
    arguments::ExportArguments,
    commands::delivery::Delivery,
    console::Console,
    document,
    failure::{Exit, Failure},
    words::word,
};
use portcullis_client::{
    Client,
    v1::{ExportKeyVersionRequest, Mechanism, export_key_version_request::Recipient},
};
use serde_json::json;

pub(super) async fn run(client: &Client, console: Console, arguments: &ExportArguments) -> Result<Exit, Failure> {
    let wrapping_key = arguments.wrapping_key.as_ref();
    let recipient = arguments.recipient.as_ref();
    let request = ExportKeyVersionRequest {
        name: arguments.key.to_string(),
        recipient: wrapping_key
            .map(|key| Recipient::WrappingKey(key.to_string()))
            .or_else(|| recipient.map(|recipient| Recipient::RegisteredRecipient(recipient.to_string()))),
        mechanism: arguments.mechanism.unwrap_or(Mechanism::Unspecified) as i32,
    };
    let exported = client.keys().export_key_version(request).await?.into_inner();
    let mechanism = word::<Mechanism>(exported.mechanism);
    let mut document = json!({ "name": exported.name, "mechanism": mechanism });
    if !exported.public_key.is_empty() {
        document["public_key"] = json!(document::base64(&exported.public_key));
    }
    let delivery = Delivery::binary("wrapped_key", &exported.wrapped_key);
    delivery.to(
        arguments.out.as_ref(),
        console,
        |path| format!("wrote {} ({mechanism}) to {}", exported.name, path.display()),
        document,
    )
}

//! `portcullis random`.

use crate::{
    arguments::RandomArguments,
    console::Console,
    document,
    failure::{Exit, Failure},
    output::{Destination, write_file},
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
        (true, _) => Some(hex::encode(&bytes)),
        (_, true) => Some(document::base64(&bytes)),
        _ => None,
    };
    let mut document = json!({ "length_bytes": arguments.length });
    match (&arguments.out, text) {
        (Some(Destination::File(path)), text) => {
            match text {
                Some(text) => write_file(path, format!("{text}\n").as_bytes())?,
                None => write_file(path, &bytes)?,
            }
            document["out"] = json!(path.to_string_lossy());
            let text = format!("wrote {} random bytes to {}", arguments.length, path.display());
            console.result(&text, &document)?;
        }
        (Some(Destination::StandardOutput) | None, text) => {
            document["data"] = json!(document::base64(&bytes));
            match text {
                Some(text) => console.result(&text, &document)?,
                None => console.bytes(&bytes, &document)?,
            }
        }
    }
    Ok(Exit::Done)
}

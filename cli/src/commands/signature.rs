//! `portcullis sign` and `portcullis verify`.

use crate::{
    arguments::{SignArguments, VerifyArguments},
    console::Console,
    document,
    failure::{Exit, Failure},
    message::{Content, Message},
    output::{Destination, write_file},
    words::word,
};
use portcullis_client::{
    Client,
    v1::{KeyVersionState, Mechanism, SignRequest, SignatureEncoding, VerifyRequest, sign_request, verify_request},
};
use serde_json::json;

pub(crate) async fn sign(client: &Client, console: Console, arguments: SignArguments) -> Result<Exit, Failure> {
    let message = Message::read(client, &arguments.key, &arguments.message).await?;
    let input = match message.content {
        Content::Message(message) => sign_request::Input::Message(message.into()),
        Content::Digest(digest) => sign_request::Input::Digest(digest.into()),
    };
    let request = SignRequest {
        name: arguments.key.to_string(),
        input: Some(input),
        mechanism: message.mechanism as i32,
        encoding: arguments.message.encoding.unwrap_or(SignatureEncoding::Unspecified) as i32,
        ..Default::default()
    };
    let answer = client.crypto().sign(request).await?.into_inner();
    let mechanism = word::<Mechanism>(answer.mechanism);
    let mut document = json!({
        "name": answer.name,
        "mechanism": mechanism,
        "encoding": word::<SignatureEncoding>(answer.encoding),
    });
    match &arguments.out {
        Some(Destination::File(path)) => {
            write_file(path, &answer.signature)?;
            document["out"] = json!(path.to_string_lossy());
            let text = format!(
                "wrote a signature by {} ({mechanism}) to {}",
                answer.name,
                path.display()
            );
            console.result(&text, &document)?;
        }
        Some(Destination::StandardOutput) | None => {
            document["signature"] = json!(document::base64(&answer.signature));
            console.bytes(&answer.signature, &document)?;
        }
    }
    Ok(Exit::Done)
}

pub(crate) async fn verify(client: &Client, console: Console, arguments: VerifyArguments) -> Result<Exit, Failure> {
    let signature = arguments
        .signature
        .read(MAX_SIGNATURE_BYTES, "more than any signature")?;
    let message = Message::read(client, &arguments.key, &arguments.message).await?;
    let input = match message.content {
        Content::Message(message) => verify_request::Input::Message(message.into()),
        Content::Digest(digest) => verify_request::Input::Digest(digest.into()),
    };
    let request = VerifyRequest {
        name: arguments.key.to_string(),
        input: Some(input),
        signature: signature.into(),
        mechanism: message.mechanism as i32,
        encoding: arguments.message.encoding.unwrap_or(SignatureEncoding::Unspecified) as i32,
        ..Default::default()
    };
    let answer = client.crypto().verify(request).await?.into_inner();
    let state = word::<KeyVersionState>(answer.state);
    let document = json!({ "valid": answer.valid, "name": answer.name, "state": state });
    console.result(if answer.valid { "valid" } else { "INVALID" }, &document)?;
    if answer.valid && answer.state() != KeyVersionState::Active {
        console.note(&format!(
            "the state of {} is {state}: look twice before you rely on it",
            answer.name
        ));
    }
    Ok(if answer.valid { Exit::Done } else { Exit::NotValid })
}

const MAX_SIGNATURE_BYTES: usize = 64 * 1024;

//! `portcullis sign` and `portcullis verify`.

use super::delivery::Delivery;
use crate::{
    arguments::{SignArguments, VerifyArguments},
    console::Console,
    failure::{Exit, Failure},
    message::{Content, Message},
    words::word,
};
use portcullis_client::{
    Client,
    v1::{KeyVersionState, Mechanism, SignRequest, SignatureEncoding, VerifyRequest, sign_request, verify_request},
};
use serde_json::json;

pub(crate) async fn sign(client: &Client, console: Console, arguments: SignArguments) -> Result<Exit, Failure> {
    let message = Message::read(client, console, &arguments.key, &arguments.message).await?;
    let (name, key_token) = arguments.key.read()?;
    let input = match message.content {
        Content::Message(message) => sign_request::Input::Message(message.into()),
        Content::Digest(digest) => sign_request::Input::Digest(digest.into()),
    };
    let request = SignRequest {
        name,
        key_token,
        input: Some(input),
        mechanism: message.mechanism as i32,
        encoding: arguments.message.encoding.unwrap_or(SignatureEncoding::Unspecified) as i32,
        ..Default::default()
    };
    let answer = client.crypto().sign(request).await?.into_inner();
    let mechanism = word::<Mechanism>(answer.mechanism);
    let document = json!({
        "name": answer.name,
        "mechanism": mechanism,
        "encoding": word::<SignatureEncoding>(answer.encoding),
    });
    let delivery = Delivery::binary("signature", &answer.signature);
    delivery.to(
        arguments.out.as_ref(),
        console,
        |path| {
            format!(
                "wrote a signature by {} ({mechanism}) to {}",
                answer.name,
                path.display()
            )
        },
        document,
    )
}

pub(crate) async fn verify(client: &Client, console: Console, arguments: VerifyArguments) -> Result<Exit, Failure> {
    let signature = arguments
        .signature
        .read(MAX_SIGNATURE_BYTES, "more than any signature")?;
    let message = Message::read(client, console, &arguments.key, &arguments.message).await?;
    let (name, key_token) = arguments.key.read()?;
    let input = match message.content {
        Content::Message(message) => verify_request::Input::Message(message.into()),
        Content::Digest(digest) => verify_request::Input::Digest(digest.into()),
    };
    let request = VerifyRequest {
        name,
        key_token,
        input: Some(input),
        signature: signature.into(),
        mechanism: message.mechanism as i32,
        encoding: arguments.message.encoding.unwrap_or(SignatureEncoding::Unspecified) as i32,
        ..Default::default()
    };
    let answer = client.crypto().verify(request).await?.into_inner();
    let state = word::<KeyVersionState>(answer.state);
    told_validity(console, answer.valid, &answer.name, &state)
}

/// Says whether a signature or authentication code is valid, which the exit code says too.
pub(super) fn told_validity(console: Console, valid: bool, name: &str, state: &str) -> Result<Exit, Failure> {
    let document = json!({ "valid": valid, "name": name, "state": state });
    console.result(if valid { "valid" } else { "INVALID" }, &document)?;
    if valid && state != word::<KeyVersionState>(KeyVersionState::Active as i32) {
        console.note(&format!(
            "the state of {name} is {state}: look twice before you rely on it"
        ));
    }
    Ok(if valid { Exit::Done } else { Exit::NotValid })
}

const MAX_SIGNATURE_BYTES: usize = 64 * 1024;

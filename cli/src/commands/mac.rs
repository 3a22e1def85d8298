//! `portcullis mac`.

use super::delivery::Delivery;
use crate::{
    arguments::{MacCommand, MacSignArguments, MacVerifyArguments},
    console::Console,
    failure::{Exit, Failure},
    message::MAX_MESSAGE_BYTES,
    words::word,
};
use portcullis_client::{
    Client,
    v1::{KeyVersionState, MacSignRequest, MacVerifyRequest, Mechanism},
};
use serde_json::json;

pub(crate) async fn run(client: &Client, console: Console, command: MacCommand) -> Result<Exit, Failure> {
    match command {
        MacCommand::Sign(arguments) => sign(client, console, &arguments).await,
        MacCommand::Verify(arguments) => verify(client, console, &arguments).await,
    }
}

async fn sign(client: &Client, console: Console, arguments: &MacSignArguments) -> Result<Exit, Failure> {
    let message = &arguments.message;
    let (name, key_token) = message.key.read()?;
    let request = MacSignRequest {
        name,
        key_token,
        data: message.input.read(MAX_MESSAGE_BYTES, WHOLE)?.into(),
        mechanism: message.mechanism.unwrap_or(Mechanism::Unspecified) as i32,
        ..Default::default()
    };
    let answer = client.crypto().mac_sign(request).await?.into_inner();
    let mechanism = word::<Mechanism>(answer.mechanism);
    let delivery = Delivery::binary("mac", &answer.mac);
    delivery.to(
        arguments.out.as_ref(),
        console,
        |path| format!("wrote a code by {} ({mechanism}) to {}", answer.name, path.display()),
        json!({ "name": answer.name, "mechanism": mechanism }),
    )
}

async fn verify(client: &Client, console: Console, arguments: &MacVerifyArguments) -> Result<Exit, Failure> {
    let message = &arguments.message;
    message.input.apart_from(&arguments.mac)?;
    let (name, key_token) = message.key.read()?;
    let request = MacVerifyRequest {
        name,
        key_token,
        data: message.input.read(MAX_MESSAGE_BYTES, WHOLE)?.into(),
        mac: arguments
            .mac
            .read(MAX_MAC_BYTES, "more than any authentication code")?
            .into(),
        mechanism: message.mechanism.unwrap_or(Mechanism::Unspecified) as i32,
        ..Default::default()
    };
    let answer = client.crypto().mac_verify(request).await?.into_inner();
    let state = word::<KeyVersionState>(answer.state);
    super::signature::told_validity(console, answer.valid, &answer.name, &state)
}

const WHOLE: &str = "the most that is authenticated at once: an HSM must see all of it";

const MAX_MAC_BYTES: usize = 1024;

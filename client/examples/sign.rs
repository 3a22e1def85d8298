//! Makes a key, signs with it many times at once, and checks a signature.
//!
//! `cargo run -p portcullis-client --example sign -- unix:.portcullis-dev/portcullis.sock`

#![allow(clippy::print_stdout, reason = "it is a program, and says what it did")]

use portcullis_client::{
    Client,
    v1::{
        CreateKeyRequest, CreateKeyRingRequest, Key, KeyType, SignRequest, VerifyRequest, sign_request, verify_request,
    },
};
use std::{error::Error, time::Duration};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).ok_or("usage: sign ENDPOINT")?;
    // Over `https` the second argument has the certificate, its key and the gateway's authorities.
    let client = Client::connect(endpoint.parse()?, None)
        .await?
        .with_deadline(Duration::from_secs(10));

    let ring = client
        .create_key_ring(CreateKeyRingRequest {
            key_ring_id: "example".to_owned(),
            ..Default::default()
        })
        .await?;
    // Repeated after a lost answer, this makes no second key: the client gave it a request id.
    let key = client
        .create_key(CreateKeyRequest {
            parent: ring.name,
            key_id: "release".to_owned(),
            key: Some(Key {
                r#type: KeyType::EcP256 as i32,
                ..Default::default()
            }),
            ..Default::default()
        })
        .await?;

    // All of these share one stream. Clones of the client share its connection.
    let mut signing = JoinSet::new();
    for number in 0..100 {
        let (client, name) = (client.clone(), key.name.clone());
        signing.spawn(async move {
            let message = format!("message {number}");
            let request = SignRequest {
                name,
                input: Some(sign_request::Input::Message(message.clone().into())),
                ..Default::default()
            };
            (message, client.sign(request).await)
        });
    }
    let mut valid = 0;
    while let Some(signed) = signing.join_next().await {
        let (message, answer) = signed?;
        let answer = answer?;
        let checked = client
            .verify(VerifyRequest {
                name: answer.name,
                input: Some(verify_request::Input::Message(message.into())),
                signature: answer.signature,
                ..Default::default()
            })
            .await?;
        valid += u32::from(checked.valid);
    }
    println!("{valid} valid signatures by {}", key.name);
    Ok(())
}

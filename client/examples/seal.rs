//! Seals a file of any size under a key, and opens it again.
//!
//! `cargo run -p portcullis-client --example seal -- ENDPOINT keyRings/demo/keys/files IN SEALED OUT`

#![allow(clippy::print_stdout, reason = "it is a program, and says what it did")]

use portcullis_client::{
    Client,
    envelope::{CacheBounds, Envelopes},
};
use std::error::Error;
use tokio::fs::File;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, key, plain, sealed, opened] = &arguments[..] else {
        return Err("usage: seal ENDPOINT KEY IN SEALED OUT".into());
    };
    let client = Client::connect(endpoint.parse()?, None).await?;

    // `Envelopes::new` has a data key for each message. This one shares them, within bounds, for each key and context.
    let envelopes = Envelopes::with_cache(&client, CacheBounds::default());
    let envelope = envelopes.under(key).with_context([("department", "legal")]);

    let (mut source, mut destination) = (File::open(plain).await?, File::create(sealed).await?);
    let (header, bytes) = envelope.encrypt(&mut source, &mut destination).await?;
    println!("sealed {bytes} bytes under {}", header.version());

    // What is written is authentic, and only complete once this returns.
    let (mut source, mut destination) = (File::open(sealed).await?, File::create(opened).await?);
    let (_, bytes) = envelope.decrypt(&mut source, &mut destination).await?;
    println!("opened {bytes} bytes");

    let small = envelope.encrypt_bytes(b"a secret").await?;
    assert_eq!(envelope.decrypt_bytes(&small).await?.as_slice(), b"a secret");
    Ok(())
}

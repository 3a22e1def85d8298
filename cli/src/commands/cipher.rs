//! `portcullis encrypt` and `portcullis decrypt`.

use crate::{
    arguments::CipherArguments,
    console::Console,
    document,
    failure::{Exit, Failure},
    output::{Destination, write_file},
};
use portcullis_client::{
    Client,
    v1::{DecryptRequest, EncryptRequest, EncryptionContext, decrypt_request, encrypt_request},
};
use serde_json::{Value, json};

pub(crate) async fn encrypt(client: &Client, console: Console, arguments: CipherArguments) -> Result<Exit, Failure> {
    let plaintext = arguments.input.read(
        MAX_PLAINTEXT_BYTES,
        "the most that the gateway encrypts at once; encrypt larger data under a data key of its own",
    )?;
    let request = EncryptRequest {
        name: arguments.key.to_string(),
        plaintext: plaintext.into(),
        authenticated: Authenticated::read(&arguments)?.map(|authenticated| match authenticated {
            Authenticated::Data(data) => encrypt_request::Authenticated::AssociatedData(data.into()),
            Authenticated::Context(context) => encrypt_request::Authenticated::EncryptionContext(context),
        }),
        ..Default::default()
    };
    let answer = client.crypto().encrypt(request).await?.into_inner();
    let document = json!({ "name": answer.name });
    let text = format!("encrypted under {}", answer.name);
    write(
        console,
        &arguments.out,
        "ciphertext",
        &answer.ciphertext,
        &text,
        document,
    )
}

pub(crate) async fn decrypt(client: &Client, console: Console, arguments: CipherArguments) -> Result<Exit, Failure> {
    let ciphertext = arguments
        .input
        .read(MAX_CIPHERTEXT_BYTES, "more than any ciphertext that `encrypt` makes")?;
    let request = DecryptRequest {
        name: arguments.key.to_string(),
        ciphertext: ciphertext.into(),
        authenticated: Authenticated::read(&arguments)?.map(|authenticated| match authenticated {
            Authenticated::Data(data) => decrypt_request::Authenticated::AssociatedData(data.into()),
            Authenticated::Context(context) => decrypt_request::Authenticated::EncryptionContext(context),
        }),
        ..Default::default()
    };
    let answer = client.crypto().decrypt(request).await?.into_inner();
    let document = json!({ "name": answer.name, "used_primary": answer.used_primary });
    let text = format!("decrypted under {}", answer.name);
    let exit = write(console, &arguments.out, "plaintext", &answer.plaintext, &text, document)?;
    if !answer.used_primary {
        console.note("this is not the key's primary version: the data can be encrypted anew");
    }
    Ok(exit)
}

/// What is authenticated with a ciphertext.
enum Authenticated {
    Data(Vec<u8>),
    Context(EncryptionContext),
}

impl Authenticated {
    fn read(arguments: &CipherArguments) -> Result<Option<Self>, Failure> {
        if let Some(text) = &arguments.aad {
            return Ok(Some(Self::Data(text.as_bytes().to_vec())));
        }
        if let Some(file) = &arguments.aad_file {
            file.apart_from(&arguments.input)?;
            return Ok(Some(Self::Data(
                file.read(MAX_PLAINTEXT_BYTES, "the most that is authenticated at once")?,
            )));
        }
        let values = arguments.context()?;
        Ok(if values.is_empty() {
            None
        } else {
            Some(Self::Context(EncryptionContext { values }))
        })
    }
}

fn write(
    console: Console,
    destination: &Destination,
    field: &str,
    bytes: &[u8],
    text: &str,
    mut document: Value,
) -> Result<Exit, Failure> {
    match destination {
        Destination::File(path) => {
            write_file(path, bytes)?;
            document["out"] = json!(path.to_string_lossy());
            console.result(
                &format!("{text}, {} bytes in {}", bytes.len(), path.display()),
                &document,
            )?;
        }
        Destination::StandardOutput => {
            document[field] = json!(document::base64(bytes));
            console.bytes(bytes, &document)?;
        }
    }
    Ok(Exit::Done)
}

const MAX_PLAINTEXT_BYTES: usize = 1024 * 1024;

/// The largest plaintext with room for what the format adds.
const MAX_CIPHERTEXT_BYTES: usize = MAX_PLAINTEXT_BYTES + 4096;

//! `portcullis encrypt` and `portcullis decrypt`.

use crate::{
    arguments::{AuthenticatedArguments, CipherArguments, EncryptArguments},
    console::{Console, Form},
    document,
    failure::{Exit, Failure},
    input::{Source, Start},
    name::KeyTarget,
    output::{Destination, Output},
    progress::{Progress, Unit},
};
use portcullis_client::{
    Client,
    envelope::{Envelope, EnvelopeError, Envelopes, Header},
    v1::{DecryptRequest, EncryptRequest, EncryptionContext, GetKeyRequest, decrypt_request, encrypt_request},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Read, Write},
};
use zeroize::Zeroizing;

pub(crate) async fn encrypt(client: &Client, console: Console, arguments: EncryptArguments) -> Result<Exit, Failure> {
    let EncryptArguments {
        cipher: arguments,
        direct,
    } = arguments;
    let authenticated = Authenticated::read(&arguments.authenticated, Some(&arguments.input))?;
    if direct {
        return encrypt_directly(client, console, &arguments, authenticated).await;
    }
    let mut source = watched(console, &arguments.input, arguments.input.open()?);
    let mut sink = Sink::open(console, &arguments.out)?;
    let envelope = authenticated.envelope(client, arguments.key.to_string());
    let (header, mut writer) = match envelope.seal(&mut sink, None).await {
        Ok(begun) => begun,
        Err(error) => return Err(sink.failure(error)),
    };
    let sealed = match copy(&mut source, &mut writer) {
        Ok(()) => writer.finish().map(drop).map_err(Broken::destination),
        Err(broken) => {
            drop(writer);
            Err(broken)
        }
    };
    // What is shown of its progress goes before the result is said.
    drop(source);
    sealed.map_err(|broken| broken.failure(&arguments.input, &sink))?;
    let document = json!({ "name": header.version().as_str() });
    let text = format!("encrypted under {}", header.version());
    sink.finish(console, "ciphertext", &text, document)
}

pub(crate) async fn decrypt(client: &Client, console: Console, arguments: CipherArguments) -> Result<Exit, Failure> {
    let authenticated = Authenticated::read(&arguments.authenticated, Some(&arguments.input))?;
    let mut source = arguments.input.open()?;
    let start = arguments.input.read_start(&mut source, MAGIC_BYTES - 1)?;
    let beginning = match start {
        Start::Part(beginning) if Header::is_begun_by(&beginning) => beginning,
        Start::Whole(beginning) | Start::Part(beginning) => {
            let source = io::Cursor::new(beginning).chain(source);
            return decrypt_directly(client, console, &arguments, authenticated, source).await;
        }
    };
    let mut source = watched(
        console,
        &arguments.input,
        Box::new(io::Cursor::new(beginning).chain(source)),
    );
    let mut sink = Sink::open(console, &arguments.out)?;
    let envelope = authenticated.envelope(client, own_name(client, &arguments.key).await?);
    let opened = envelope.open(&mut source).await;
    let (header, mut reader) = opened.map_err(|error| Failure::sealed(&arguments.input, error))?;
    let copied = copy(&mut reader, &mut sink);
    let used_primary = reader.used_primary();
    drop(reader);
    drop(source);
    copied.map_err(|broken| broken.failure(&arguments.input, &sink))?;
    let document = json!({ "name": header.version().as_str(), "used_primary": used_primary });
    let text = format!("decrypted under {}", header.version());
    let exit = sink.finish(console, "plaintext", &text, document)?;
    if !used_primary {
        console.note(
            "this is not the key's primary version: `portcullis reencrypt` puts what is encrypted under the primary one",
        );
    }
    Ok(exit)
}

/// Has the gateway encrypt the data itself.
async fn encrypt_directly(
    client: &Client,
    console: Console,
    arguments: &CipherArguments,
    authenticated: Authenticated,
) -> Result<Exit, Failure> {
    let plaintext = arguments.input.read(
        MAX_PLAINTEXT_BYTES,
        "the most that the gateway encrypts at once; without --direct there is no limit",
    )?;
    let request = EncryptRequest {
        name: arguments.key.to_string(),
        plaintext: plaintext.into(),
        authenticated: Some(match authenticated {
            Authenticated::Data(data) => encrypt_request::Authenticated::AssociatedData(data.into()),
            Authenticated::Context(values) => {
                encrypt_request::Authenticated::EncryptionContext(EncryptionContext { values })
            }
        }),
        ..Default::default()
    };
    let answer = client.encrypt(request).await?;
    let mut sink = Sink::open(console, &arguments.out)?;
    sink.take(&answer.ciphertext)?;
    let text = format!("encrypted under {}", answer.name);
    sink.finish(console, "ciphertext", &text, json!({ "name": answer.name }))
}

async fn decrypt_directly(
    client: &Client,
    console: Console,
    arguments: &CipherArguments,
    authenticated: Authenticated,
    mut source: impl Read,
) -> Result<Exit, Failure> {
    let ciphertext = match arguments.input.read_start(&mut source, MAX_CIPHERTEXT_BYTES)? {
        Start::Whole(ciphertext) => ciphertext,
        Start::Part(_) => {
            let words = format!("{} is nothing that `portcullis encrypt` made", arguments.input);
            return Err(Failure::Usage(words));
        }
    };
    let request = DecryptRequest {
        name: arguments.key.to_string(),
        ciphertext: ciphertext.into(),
        authenticated: Some(match authenticated {
            Authenticated::Data(data) => decrypt_request::Authenticated::AssociatedData(data.into()),
            Authenticated::Context(values) => {
                decrypt_request::Authenticated::EncryptionContext(EncryptionContext { values })
            }
        }),
        ..Default::default()
    };
    let answer = client.decrypt(request).await?;
    let mut sink = Sink::open(console, &arguments.out)?;
    sink.take(&answer.plaintext)?;
    let document = json!({ "name": answer.name, "used_primary": answer.used_primary });
    let text = format!("decrypted under {}", answer.name);
    let exit = sink.finish(console, "plaintext", &text, document)?;
    if !answer.used_primary {
        console.note("this is not the key's primary version: the data can be encrypted anew");
    }
    Ok(exit)
}

/// The name by which sealed data knows its key, also where an alias stands for it.
async fn own_name(client: &Client, key: &KeyTarget) -> Result<String, Failure> {
    let name = key.whole_key();
    match key {
        KeyTarget::Alias(_) => Ok(client.keys().get_key(GetKeyRequest { name }).await?.into_inner().name),
        KeyTarget::Key(_) | KeyTarget::Version(_) => Ok(name),
    }
}

/// What is authenticated with data.
pub(super) enum Authenticated {
    Data(Vec<u8>),
    Context(BTreeMap<String, String>),
}

impl Authenticated {
    /// As the command line says; `beside` is what else the command reads.
    pub(super) fn read(arguments: &AuthenticatedArguments, beside: Option<&Source>) -> Result<Self, Failure> {
        if let Some(text) = &arguments.aad {
            return Ok(Self::Data(text.as_bytes().to_vec()));
        }
        if let Some(file) = &arguments.aad_file {
            if let Some(beside) = beside {
                file.apart_from(beside)?;
            }
            let data = file.read(MAX_PLAINTEXT_BYTES, "the most that is authenticated at once")?;
            return Ok(Self::Data(data));
        }
        let context = arguments.encryption_context()?;
        Ok(if context.is_empty() {
            Self::Data(Vec::new())
        } else {
            Self::Context(context)
        })
    }

    pub(super) fn envelope(&self, client: &Client, key: String) -> Envelope {
        let envelope = Envelopes::new(client).under(key);
        match self {
            Self::Data(data) => envelope.with_associated_data(data.clone()),
            Self::Context(context) => envelope.with_context(context.clone()),
        }
    }
}

/// Where a result goes: to a file or pipe as it comes, or, for JSON and terminals, into memory.
enum Sink {
    Output { output: Output, written: u64 },
    Memory(Vec<u8>),
}

impl Sink {
    fn open(console: Console, destination: &Destination) -> Result<Self, Failure> {
        let whole = console.form() == Form::Json || io::stdout().is_terminal();
        Ok(match destination {
            Destination::StandardOutput if whole => Self::Memory(Vec::new()),
            destination => Self::Output {
                output: Output::open(destination)?,
                written: 0,
            },
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write_all(bytes).map_err(|error| self.failure(error.into()))
    }

    /// Says what was done. In JSON on standard output, the bytes are a field.
    fn finish(self, console: Console, field: &str, text: &str, mut document: Value) -> Result<Exit, Failure> {
        match self {
            Self::Memory(bytes) => {
                document[field] = json!(document::base64(&bytes));
                console.bytes(&bytes, &document)?;
            }
            Self::Output { output, written } => {
                let path = output.path().map(ToOwned::to_owned);
                output.finish()?;
                if let Some(path) = path {
                    document["out"] = json!(path.to_string_lossy());
                    console.result(&format!("{text}, {written} bytes in {}", path.display()), &document)?;
                }
            }
        }
        Ok(Exit::Done)
    }

    fn failure(&self, error: EnvelopeError) -> Failure {
        match (error, self) {
            (EnvelopeError::Io(source), Self::Output { output, .. }) => output.failure(source),
            (EnvelopeError::Io(_), Self::Memory(_)) => Failure::Usage(format!(
                "the result is larger than {MAX_CIPHERTEXT_BYTES} bytes, the most for JSON and terminals: give --out FILE"
            )),
            (error, _) => Failure::sealed("standard output", error),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Output { output, written } => {
                let length = output.write(bytes)?;
                *written += length as u64;
                Ok(length)
            }
            Self::Memory(memory) if memory.len() + bytes.len() > MAX_CIPHERTEXT_BYTES => {
                Err(io::ErrorKind::FileTooLarge.into())
            }
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Output { output, .. } => output.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// Which end of a copy failed.
enum Broken {
    Source(Box<EnvelopeError>),
    Destination(Box<EnvelopeError>),
}

impl Broken {
    fn destination(error: EnvelopeError) -> Self {
        Self::Destination(Box::new(error))
    }

    fn failure(self, source: &Source, sink: &Sink) -> Failure {
        match self {
            Self::Source(error) => Failure::sealed(source, *error),
            Self::Destination(error) => sink.failure(*error),
        }
    }
}

/// Copies in pieces: the memory that this takes does not depend on how much there is.
fn copy(source: &mut impl Read, destination: &mut impl Write) -> Result<(), Broken> {
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    loop {
        let length = match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Source(Box::new(error.into()))),
        };
        destination
            .write_all(&piece[..length])
            .map_err(|error| Broken::destination(error.into()))?;
    }
}

/// A source whose progress is shown.
fn watched(console: Console, source: &Source, reader: Box<dyn Read>) -> crate::progress::Watched<Box<dyn Read>> {
    Progress::new(console, Unit::Bytes, source.length()).reading(reader)
}

const MAX_PLAINTEXT_BYTES: usize = 1024 * 1024;

/// The largest plaintext with room for what the formats add.
const MAX_CIPHERTEXT_BYTES: usize = MAX_PLAINTEXT_BYTES + 4096;

/// As many bytes as tell sealed data from ciphertexts of the API.
const MAGIC_BYTES: usize = 16;

const PIECE_BYTES: usize = 64 * 1024;

//! Data of any size, sealed under a key that never leaves the HSMs.
//!
//! The gateway draws a *data key* and gives it twice: in clear, and encrypted under the key. Here the data is sealed under keys
//! made from the clear one, which is then forgotten; the encrypted one stands in the data's [`Header`]. Whoever may use the key
//! has the gateway decrypt it, and opens the data. So data of any size is one small request for the gateway.
//!
//! What is opened is what was sealed: nothing of it was changed, exchanged, dropped or appended, and the context is the one
//! that it was sealed with. Plaintext is released chunk by chunk, each after it was found authentic; only the end says that
//! nothing is missing, so whoever uses the beginning before has to be able to take that back. The format is written down in
//! docs/formats.md.
//!
//! Data keys and plaintexts are wiped from what this module holds. What the transport's and the caller's own buffers held is
//! wiped with them only by an allocator that does so.

mod cache;
mod error;
mod header;
mod stream;
mod suite;

pub use cache::CacheBounds;
pub use error::{EnvelopeError, HeaderError};
pub use header::{Header, Parsed, VersionName};
pub use stream::{OpeningReader, SealingWriter};
pub use suite::MOST_BYTES;

use crate::{
    client::Client,
    error::Error,
    v1::{
        DecryptRequest, EncryptionContext, GenerateDataKeyRequest, ReEncryptRequest, decrypt_request,
        generate_data_key_request, re_encrypt_request,
    },
};
use aws_lc_rs::rand;
use cache::{DataKey, DataKeys, Purpose, data_key_bytes};
use header::MESSAGE_ID_BYTES;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::{Arc, atomic::AtomicU64},
};
use stream::{Chunks, SealedChunks};
use suite::{AuthenticatedDigest, ChunkOpener, ChunkSealer, DATA_KEY_BYTES, MessageKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

/// Makes envelopes over one client, and keeps data keys for them if it is told to.
///
/// Clones share what is kept. It is bound to the client, so that nobody uses a data key that the gateway gave somebody else.
#[derive(Clone)]
pub struct Envelopes {
    client: Client,
    data_keys: Arc<DataKeys>,
}

impl Envelopes {
    /// Envelopes with a data key for each message: nothing is kept.
    pub fn new(client: &Client) -> Self {
        Self::with_cache(
            client,
            CacheBounds {
                entries: 0,
                ..CacheBounds::default()
            },
        )
    }

    /// Envelopes that share data keys within bounds, for each key and context apart.
    ///
    /// Messages under one data key have message keys of their own. Whoever has the data key can open all of them, and the
    /// gateway's audit log has one entry for all.
    pub fn with_cache(client: &Client, bounds: CacheBounds) -> Self {
        Self {
            client: client.clone(),
            data_keys: DataKeys::within(bounds),
        }
    }

    /// Data under a key: the resource name of a key, of a version, or an alias.
    pub fn under(&self, key: impl Into<String>) -> Envelope {
        Envelope {
            envelopes: self.clone(),
            key: key.into(),
            authenticated: Authenticated::Data(Vec::new()),
        }
    }

    /// How many data keys are kept at the moment.
    pub fn kept(&self) -> usize {
        self.data_keys.len()
    }

    /// Wipes the data keys that are kept.
    pub fn forget(&self) {
        self.data_keys.clear();
    }
}

/// Seals and opens data under one key, with what is authenticated with it.
#[derive(Clone)]
pub struct Envelope {
    envelopes: Envelopes,
    key: String,
    authenticated: Authenticated,
}

/// What is authenticated with data, is no part of it, and must be given again to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Authenticated {
    Data(Vec<u8>),
    Context(BTreeMap<String, String>),
}

impl Authenticated {
    /// SHA-256 of the form that docs/formats.md has for the gateway's own ciphertexts.
    fn digest(&self) -> AuthenticatedDigest {
        let mut bytes = Vec::new();
        match self {
            Self::Data(data) => {
                bytes.push(0);
                bytes.extend(data);
            }
            Self::Context(context) => {
                bytes.push(1);
                bytes.extend(length(context.len()));
                for field in context.iter().flat_map(|(name, value)| [name, value]) {
                    bytes.extend(length(field.len()));
                    bytes.extend(field.as_bytes());
                }
            }
        }
        AuthenticatedDigest::of(&bytes)
    }
}

/// A length as the format has it. The gateway takes nothing that is longer than the number can say.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

impl Envelope {
    /// With named values, which the gateway logs and its policy may judge. They must not be secret.
    #[must_use]
    pub fn with_context<N: Into<String>, V: Into<String>>(mut self, context: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs = context.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.authenticated = Authenticated::Context(pairs.collect());
        self
    }

    /// With bytes.
    #[must_use]
    pub fn with_associated_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.authenticated = Authenticated::Data(data.into());
        self
    }

    /// Writes a header, and gives it with a writer that seals what is written to it. A message of which it is said that it has at most
    /// so many bytes may have a data key that is used again; it then cannot have more.
    ///
    /// # Errors
    ///
    /// When the gateway gives no data key, or the destination cannot be written to.
    pub async fn seal<W: Write>(
        &self,
        mut destination: W,
        at_most: Option<u64>,
    ) -> Result<(Header, SealingWriter<W>), EnvelopeError> {
        let (header, sealer) = self.begin(at_most).await?;
        destination.write_all(&header.to_bytes())?;
        let writer = SealingWriter::new(destination, sealer, at_most.unwrap_or(MOST_BYTES));
        Ok((header, writer))
    }

    /// Reads a header, and gives it with a reader of the plaintext.
    ///
    /// # Errors
    ///
    /// When the source cannot be read or holds no sealed data, when it was sealed under another key or with another context,
    /// and when the gateway does not decrypt the data key.
    pub async fn open<R: Read>(&self, mut source: R) -> Result<(Header, OpeningReader<R>), EnvelopeError> {
        let header = Header::read(&mut source)?;
        let reader = self.open_after(&header, source).await?;
        Ok((header, reader))
    }

    /// Gives a reader of the plaintext of which the header was read already.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) does.
    pub async fn open_after<R: Read>(&self, header: &Header, source: R) -> Result<OpeningReader<R>, EnvelopeError> {
        let (opener, used, primary) = self.opener(header).await?;
        Ok(OpeningReader::new(source, opener, Some(used)).by_primary(primary))
    }

    /// Seals all that comes from a source. Returns the header, and how many bytes of plaintext there were.
    ///
    /// # Errors
    ///
    /// When the gateway gives no data key, and when source or destination fail. What was written then has no end.
    pub async fn encrypt(
        &self,
        source: &mut (impl AsyncRead + Unpin),
        destination: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(Header, u64), EnvelopeError> {
        self.encrypt_sized(source, destination, None).await
    }

    async fn encrypt_sized(
        &self,
        source: &mut (impl AsyncRead + Unpin),
        destination: &mut (impl AsyncWrite + Unpin),
        at_most: Option<u64>,
    ) -> Result<(Header, u64), EnvelopeError> {
        let (header, sealer) = self.begin(at_most).await?;
        destination.write_all(&header.to_bytes()).await?;
        let mut chunks = Chunks::new(sealer, at_most.unwrap_or(MOST_BYTES));
        let mut piece = Zeroizing::new(vec![0; suite::CHUNK_BYTES]);
        let mut sealed = 0;
        loop {
            let length = source.read(&mut piece).await?;
            if length == 0 {
                break;
            }
            let mut rest = &piece[..length];
            while !rest.is_empty() {
                if let Some(full) = chunks.full()? {
                    destination.write_all(full).await?;
                    chunks.empty(true);
                }
                let taken = chunks.take(rest)?;
                rest = &rest[taken..];
            }
            sealed += length as u64;
        }
        destination.write_all(chunks.end()?).await?;
        destination.flush().await?;
        Ok((header, sealed))
    }

    /// Opens all that comes from a source. Returns the header, and how many bytes of plaintext there were.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) does, and when what follows the header is not authentic. What was written until then is
    /// authentic, and is not all.
    pub async fn decrypt(
        &self,
        source: &mut (impl AsyncRead + Unpin),
        destination: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(Header, u64), EnvelopeError> {
        let header = Header::read_async(source).await?;
        let (opener, used, _) = self.opener(&header).await?;
        let mut chunks = SealedChunks::new(opener, Some(used));
        let mut plaintext = Zeroizing::default();
        let mut opened = 0;
        loop {
            while chunks.wants() {
                let length = source.read(chunks.space()).await?;
                chunks.came(length);
            }
            chunks.open(&mut plaintext)?;
            if plaintext.is_empty() {
                break;
            }
            destination.write_all(&plaintext).await?;
            opened += plaintext.len() as u64;
        }
        destination.flush().await?;
        Ok((header, opened))
    }

    /// Seals bytes in memory.
    ///
    /// # Errors
    ///
    /// When the gateway gives no data key.
    pub async fn encrypt_bytes(&self, plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let mut sealed = Vec::new();
        let size = Some(plaintext.len() as u64);
        self.encrypt_sized(&mut &*plaintext, &mut sealed, size).await?;
        Ok(sealed)
    }

    /// Opens bytes in memory: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`decrypt`](Self::decrypt) does.
    pub async fn decrypt_bytes(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        // As large as it can become, so that no copy is left behind by growth.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
        self.decrypt(&mut &*sealed, &mut *plaintext).await?;
        Ok(plaintext)
    }

    /// The header with the data key under the key's primary version. The data that follows it is the same.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) does. The gateway does not show the data key for this, so that a header that was made from two is
    /// not found here, but when the data is opened.
    pub async fn rewrap(&self, header: &Header) -> Result<Header, EnvelopeError> {
        let key = self.key_of(header)?;
        let mut request = ReEncryptRequest {
            source_name: key.to_owned(),
            destination_name: key.to_owned(),
            ciphertext: header.encrypted_data_key().to_vec().into(),
            ..Default::default()
        };
        match &self.authenticated {
            Authenticated::Data(data) => {
                use re_encrypt_request::{DestinationAuthenticated, SourceAuthenticated};
                let (source, destination) = (data.clone().into(), data.clone().into());
                request.source_authenticated = Some(SourceAuthenticated::SourceAssociatedData(source));
                request.destination_authenticated =
                    Some(DestinationAuthenticated::DestinationAssociatedData(destination));
            }
            Authenticated::Context(context) => {
                use re_encrypt_request::{DestinationAuthenticated, SourceAuthenticated};
                let context = || EncryptionContext {
                    values: context.clone(),
                };
                request.source_authenticated = Some(SourceAuthenticated::SourceEncryptionContext(context()));
                request.destination_authenticated =
                    Some(DestinationAuthenticated::DestinationEncryptionContext(context()));
            }
        }
        let answer = self.envelopes.client.re_encrypt(request).await?;
        if answer.source_name != header.version().as_str() {
            return Err(EnvelopeError::NotAuthentic);
        }
        Ok(header.rewrapped(version_named(&answer.destination_name)?, answer.ciphertext.to_vec())?)
    }

    /// The header of a new message, and what seals it.
    async fn begin(&self, size: Option<u64>) -> Result<(Header, ChunkSealer), EnvelopeError> {
        let authenticated = self.authenticated.digest();
        let purpose = Purpose::Seal {
            key: self.key.clone(),
            authenticated,
        };
        let data_keys = &self.envelopes.data_keys;
        let (data_key, _) = data_keys.for_message(purpose, size, || self.generate()).await?;
        let mut message_id = [0; MESSAGE_ID_BYTES];
        rand::fill(&mut message_id).map_err(|_| std::io::Error::other("this system has no random numbers"))?;
        let key = MessageKey::derive(&data_key.key, &message_id, authenticated);
        let header = Header::new(
            message_id,
            key.commitment(),
            data_key.version.clone(),
            data_key.encrypted.clone(),
        )?;
        Ok((header, ChunkSealer::new(key)))
    }

    /// What opens the data behind a header, where the bytes are counted that it releases, and whether the data key was under the
    /// primary version.
    async fn opener(&self, header: &Header) -> Result<(ChunkOpener, Arc<AtomicU64>, bool), EnvelopeError> {
        let authenticated = self.authenticated.digest();
        let purpose = Purpose::Open {
            key: self.key.clone(),
            authenticated,
            encrypted: header.encrypted_data_key().to_vec(),
        };
        let data_keys = &self.envelopes.data_keys;
        let (data_key, used) = data_keys
            .for_message(purpose, Some(0), || self.decrypt_data_key(header))
            .await?;
        let key = MessageKey::derive(&data_key.key, &header.message_id, authenticated);
        if data_key.version != *header.version() || !key.matches(&header.commitment) {
            return Err(EnvelopeError::NotAuthentic);
        }
        Ok((ChunkOpener::new(key), used, data_key.primary))
    }

    async fn generate(&self) -> Result<DataKey, EnvelopeError> {
        let request = GenerateDataKeyRequest {
            name: self.key.clone(),
            length_bytes: DATA_KEY_BYTES as u32,
            authenticated: Some(match &self.authenticated {
                Authenticated::Data(data) => {
                    generate_data_key_request::Authenticated::AssociatedData(data.clone().into())
                }
                Authenticated::Context(values) => {
                    generate_data_key_request::Authenticated::EncryptionContext(EncryptionContext {
                        values: values.clone(),
                    })
                }
            }),
            ..Default::default()
        };
        let answer = self.envelopes.client.generate_data_key(request).await?;
        let key = data_key_bytes(&answer.plaintext)?;
        wipe(answer.plaintext);
        Ok(DataKey {
            key,
            version: version_named(&answer.name)?,
            primary: true,
            encrypted: answer.ciphertext.to_vec(),
        })
    }

    async fn decrypt_data_key(&self, header: &Header) -> Result<DataKey, EnvelopeError> {
        let request = DecryptRequest {
            name: self.key_of(header)?.to_owned(),
            ciphertext: header.encrypted_data_key().to_vec().into(),
            authenticated: Some(match &self.authenticated {
                Authenticated::Data(data) => decrypt_request::Authenticated::AssociatedData(data.clone().into()),
                Authenticated::Context(values) => {
                    decrypt_request::Authenticated::EncryptionContext(EncryptionContext { values: values.clone() })
                }
            }),
            ..Default::default()
        };
        let answer = self.envelopes.client.decrypt(request).await?;
        let key = data_key_bytes(&answer.plaintext)?;
        wipe(answer.plaintext);
        Ok(DataKey {
            key,
            version: version_named(&answer.name)?,
            primary: answer.used_primary,
            encrypted: header.encrypted_data_key().to_vec(),
        })
    }

    /// The key to ask for: the one that was given, without a version. It must be the header's, unless it is an alias.
    fn key_of(&self, header: &Header) -> Result<&str, EnvelopeError> {
        let given = self.key.split_once("/versions/").map_or(&*self.key, |(key, _)| key);
        if given.contains("/keys/") && given != header.version().key() {
            return Err(EnvelopeError::OtherKey {
                expected: given.to_owned(),
                found: header.version().key().to_owned(),
            });
        }
        Ok(given)
    }
}

/// A name that the gateway gave.
fn version_named(name: &str) -> Result<VersionName, EnvelopeError> {
    name.parse()
        .map_err(|_| Error::from(tonic::Status::internal("the gateway names no key version")).into())
}

/// Wipes bytes that nobody else has.
fn wipe(bytes: prost::bytes::Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.zeroize();
    }
}

#[cfg(test)]
mod tests;

//! One file under the primary version of its key.

use super::super::cipher::Authenticated;
use crate::{
    failure::Failure,
    files::{Original, Place, Unreplaceable},
};
use portcullis_client::{
    Client,
    envelope::{Envelope, EnvelopeError, Header, HeaderError, OpeningReader, SealingWriter, VersionName},
    v1::{EncryptionContext, ReEncryptRequest, re_encrypt_request},
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};
use uuid::Uuid;

/// What is done to each file.
pub(super) struct Task {
    pub(super) client: Client,
    pub(super) envelope: Envelope,
    pub(super) authenticated: Authenticated,
    /// The key's, which a ciphertext of the API names.
    pub(super) uid: Uuid,
    pub(super) primary: VersionName,
    /// The data too, not its data key alone.
    pub(super) data: bool,
}

/// What became of a file.
pub(super) enum Done {
    /// It was under the primary version before.
    Already,
    /// It was under this version before.
    Reencrypted(VersionName),
    /// It is none that this is about.
    Skipped { code: &'static str, why: String },
    /// It is still under its version, if that is known.
    Failed {
        version: Option<VersionName>,
        failure: Failure,
    },
}

impl Task {
    pub(super) async fn perform(&self, place: Place) -> Done {
        let what = place.path.display().to_string();
        let mut original = match Original::open(place) {
            Ok(original) => original,
            Err(Unreplaceable::Io(source)) => {
                let failure = Failure::Input { what, source };
                return Done::Failed { version: None, failure };
            }
            Err(why) => return failed(None, &what, why.into()),
        };
        let header = match Header::read(original.file()) {
            Ok(header) => header,
            Err(EnvelopeError::Header(HeaderError::NotSealed)) => return self.perform_directly(original, &what).await,
            Err(error) => return failed(None, &what, error.into()),
        };
        let version = header.version().clone();
        if version.key() != self.primary.key() {
            return other_key(&version);
        }
        if version == self.primary {
            return Done::Already;
        }
        let result = if self.data {
            self.exchange_data(original, &header).await
        } else {
            self.exchange_header(original, &header).await
        };
        match result {
            Ok(()) => Done::Reencrypted(version),
            Err(error) => failed(Some(version), &what, error),
        }
    }

    /// Puts the data key under the primary version and copies what follows the header.
    async fn exchange_header(&self, original: Original, header: &Header) -> Result<(), Broken> {
        let new = self.envelope.rewrap(header).await?;
        let length = header.to_bytes().len() as u64;
        original.replace(|old, file| {
            file.write_all(&new.to_bytes())?;
            old.seek(SeekFrom::Start(length))?;
            // Between files the system copies by itself, and shares the blocks where it can.
            io::copy(old, file)?;
            Ok(())
        })
    }

    /// Opens the data and seals it under a data key of its own.
    async fn exchange_data(&self, mut original: Original, header: &Header) -> Result<(), Broken> {
        let length = header.to_bytes().len() as u64;
        // The file is opened once more, because the reader has it until the new one is written.
        let source: File = original.file().try_clone()?;
        let mut reader: OpeningReader<File> = self.envelope.open_after(header, source).await?;
        let mut begun = Vec::new();
        let (_, writer) = self.envelope.seal(&mut begun, None).await?;
        let sealer: SealingWriter<()> = writer.elsewhere(());
        original.replace(move |old, file| {
            file.write_all(&begun)?;
            old.seek(SeekFrom::Start(length))?;
            let mut writer = sealer.elsewhere(&mut *file);
            io::copy(&mut reader, &mut writer).map_err(EnvelopeError::from)?;
            writer.finish()?;
            Ok(())
        })
    }

    /// A ciphertext that the gateway made itself (`encrypt --direct`), or something else.
    async fn perform_directly(&self, mut original: Original, what: &str) -> Done {
        let ciphertext = match read_ciphertext(&mut original) {
            Ok(ciphertext) => ciphertext,
            Err(error) => return failed(None, what, error.into()),
        };
        let version = ciphertext.as_deref().and_then(|bytes| self.version_of(bytes));
        let (Some(ciphertext), Some(version)) = (ciphertext, version) else {
            return Done::Skipped {
                code: "NOT_ENCRYPTED",
                why: format!("it is not encrypted under {}", self.primary.key()),
            };
        };
        if version == self.primary {
            return Done::Already;
        }
        let result = match self.move_ciphertext(ciphertext).await {
            Ok(moved) => original.replace(|_, file| Ok(file.write_all(&moved)?)),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => Done::Reencrypted(version),
            Err(error) => failed(Some(version), what, error),
        }
    }

    /// The version that a ciphertext of the key names: format, uid, version, suite (docs/formats.md).
    fn version_of(&self, ciphertext: &[u8]) -> Option<VersionName> {
        let (header, _) = ciphertext.split_first_chunk::<22>()?;
        let (format, rest) = header.split_first()?;
        let (uid, rest) = rest.split_first_chunk::<16>()?;
        let (number, suite) = rest.split_first_chunk::<4>()?;
        let known = *format == 1 && uid == self.uid.as_bytes() && matches!(suite, [1 | 2]);
        let name = format!("{}/versions/{}", self.primary.key(), u32::from_be_bytes(*number));
        known.then(|| name.parse().ok()).flatten()
    }

    async fn move_ciphertext(&self, ciphertext: Vec<u8>) -> Result<Vec<u8>, Broken> {
        use re_encrypt_request::{DestinationAuthenticated, SourceAuthenticated};
        let (source, destination) = match &self.authenticated {
            Authenticated::Data(data) => (
                SourceAuthenticated::SourceAssociatedData(data.clone().into()),
                DestinationAuthenticated::DestinationAssociatedData(data.clone().into()),
            ),
            Authenticated::Context(context) => {
                let values = || EncryptionContext {
                    values: context.clone(),
                };
                (
                    SourceAuthenticated::SourceEncryptionContext(values()),
                    DestinationAuthenticated::DestinationEncryptionContext(values()),
                )
            }
        };
        let request = ReEncryptRequest {
            source_name: self.primary.key().to_owned(),
            destination_name: self.primary.key().to_owned(),
            ciphertext: ciphertext.into(),
            source_authenticated: Some(source),
            destination_authenticated: Some(destination),
            ..Default::default()
        };
        let answer = self.client.re_encrypt(request).await.map_err(EnvelopeError::from)?;
        Ok(answer.ciphertext.to_vec())
    }
}

/// The whole file, if it is as short as a ciphertext of the API.
fn read_ciphertext(original: &mut Original) -> Result<Option<Vec<u8>>, Unreplaceable> {
    if !(SHORTEST..=LONGEST).contains(&original.length()) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    original.file().rewind()?;
    original.file().take(LONGEST).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn other_key(version: &VersionName) -> Done {
    Done::Skipped {
        code: "OTHER_KEY",
        why: format!("it is under {version}"),
    }
}

fn failed(version: Option<VersionName>, what: &str, error: Broken) -> Done {
    let failure = match error {
        Broken::Envelope(error) => Failure::sealed(what, *error),
        Broken::Replacing(Unreplaceable::Io(source)) => Failure::Output {
            path: what.into(),
            source,
        },
        Broken::Replacing(why) => Failure::Usage(format!("{what}: {why}")),
    };
    Done::Failed { version, failure }
}

/// Why a file was not exchanged.
enum Broken {
    Envelope(Box<EnvelopeError>),
    Replacing(Unreplaceable),
}

impl From<EnvelopeError> for Broken {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Io(error) => Self::Replacing(error.into()),
            error => Self::Envelope(Box::new(error)),
        }
    }
}

impl From<Unreplaceable> for Broken {
    fn from(why: Unreplaceable) -> Self {
        Self::Replacing(why)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        EnvelopeError::from(error).into()
    }
}

/// A ciphertext of nothing, and the longest that a gateway makes.
const SHORTEST: u64 = 50;
const LONGEST: u64 = 2 * 1024 * 1024 + 50;

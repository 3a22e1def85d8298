//! The beginning of sealed data: what is needed to get its data key back.

use super::error::{EnvelopeError, HeaderError};
use std::{fmt, io::Read, str::FromStr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The beginning of sealed data, as docs/formats.md describes it.
///
/// Message id and commitment belong to the data and never change; the version and the encrypted data key are exchanged when
/// the data key is put under another version. Nothing in it is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub(crate) message_id: [u8; MESSAGE_ID_BYTES],
    pub(crate) commitment: [u8; COMMITMENT_BYTES],
    version: VersionName,
    encrypted_data_key: Vec<u8>,
}

/// A header's bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The header is whole, and so long.
    Whole(Header, usize),
    /// At least so many bytes more are needed.
    More(usize),
}

impl Header {
    pub(crate) fn new(
        message_id: [u8; MESSAGE_ID_BYTES],
        commitment: [u8; COMMITMENT_BYTES],
        version: VersionName,
        encrypted_data_key: Vec<u8>,
    ) -> Result<Self, HeaderError> {
        match encrypted_data_key.len() {
            1..=MOST_DATA_KEY_BYTES => Ok(Self {
                message_id,
                commitment,
                version,
                encrypted_data_key,
            }),
            found => Err(HeaderError::Length {
                what: "encrypted data key",
                found,
            }),
        }
    }

    /// The version of the key that encrypts the data key.
    pub fn version(&self) -> &VersionName {
        &self.version
    }

    /// The data key as the gateway encrypted it.
    pub fn encrypted_data_key(&self) -> &[u8] {
        &self.encrypted_data_key
    }

    /// The same data with its data key under another version.
    pub(crate) fn rewrapped(&self, version: VersionName, encrypted_data_key: Vec<u8>) -> Result<Self, HeaderError> {
        Self::new(self.message_id, self.commitment, version, encrypted_data_key)
    }

    /// Whether these bytes are the beginning of sealed data, as far as they go.
    pub fn is_begun_by(bytes: &[u8]) -> bool {
        !bytes.is_empty() && bytes.iter().zip(MAGIC).all(|(found, expected)| found == expected)
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + 8 + self.version.0.len() + self.encrypted_data_key.len());
        bytes.extend(MAGIC);
        bytes.extend([FORMAT, SUITE]);
        bytes.extend(self.message_id);
        bytes.extend(self.commitment);
        for field in [self.version.0.as_bytes(), &self.encrypted_data_key] {
            // Both are at most 1024 bytes long.
            bytes.extend((field.len() as u32).to_be_bytes());
            bytes.extend(field);
        }
        bytes
    }

    /// Reads a header from the beginning of some bytes.
    ///
    /// # Errors
    ///
    /// When they are the beginning of something else, of a format that is not known, or of none that there can be.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
        if !bytes.iter().zip(MAGIC).all(|(found, expected)| found == expected) {
            return Err(HeaderError::NotSealed);
        }
        let mut rest = Rest(bytes);
        let Some(fixed) = rest.take(FIXED_BYTES) else {
            return Ok(Parsed::More(FIXED_BYTES + 4 - bytes.len()));
        };
        let (format, suite) = (fixed[MAGIC.len()], fixed[MAGIC.len() + 1]);
        if format != FORMAT || suite != SUITE {
            return Err(HeaderError::Unknown { format, suite });
        }
        let (mut message_id, mut commitment) = ([0; MESSAGE_ID_BYTES], [0; COMMITMENT_BYTES]);
        message_id.copy_from_slice(&fixed[MAGIC.len() + 2..][..MESSAGE_ID_BYTES]);
        commitment.copy_from_slice(&fixed[FIXED_BYTES - COMMITMENT_BYTES..]);
        let version = match rest.field("key version", MOST_NAME_BYTES)? {
            Ok(name) => std::str::from_utf8(name)
                .map_err(|_| HeaderError::Name)?
                .parse::<VersionName>()?,
            // The length of the field behind it, too.
            Err(more) => return Ok(Parsed::More(more + 4)),
        };
        let encrypted_data_key = match rest.field("encrypted data key", MOST_DATA_KEY_BYTES)? {
            Ok(key) => key.to_vec(),
            Err(more) => return Ok(Parsed::More(more)),
        };
        let header = Self::new(message_id, commitment, version, encrypted_data_key)?;
        Ok(Parsed::Whole(header, bytes.len() - rest.0.len()))
    }

    /// Reads a header and nothing behind it.
    ///
    /// # Errors
    ///
    /// When the source cannot be read, and as [`parse`](Self::parse) does.
    pub fn read(source: &mut impl Read) -> Result<Self, EnvelopeError> {
        let mut bytes = Vec::new();
        loop {
            let more = match Self::parse(&bytes)? {
                Parsed::Whole(header, _) => return Ok(header),
                Parsed::More(more) => more,
            };
            let begun = bytes.len();
            source.by_ref().take(more as u64).read_to_end(&mut bytes)?;
            Self::went_on(&bytes, begun + more)?;
        }
    }

    pub(crate) async fn read_async(source: &mut (impl AsyncRead + Unpin)) -> Result<Self, EnvelopeError> {
        let mut bytes = Vec::new();
        loop {
            let more = match Self::parse(&bytes)? {
                Parsed::Whole(header, _) => return Ok(header),
                Parsed::More(more) => more,
            };
            let begun = bytes.len();
            (&mut *source).take(more as u64).read_to_end(&mut bytes).await?;
            Self::went_on(&bytes, begun + more)?;
        }
    }

    /// Fails where the source ended before so many bytes: with what they are not, or with what is missing.
    fn went_on(bytes: &[u8], expected: usize) -> Result<(), HeaderError> {
        if bytes.len() == expected {
            return Ok(());
        }
        match Self::parse(bytes) {
            Err(error) => Err(error),
            Ok(_) if Self::is_begun_by(bytes) && bytes.len() >= MAGIC.len() => Err(HeaderError::CutOff),
            Ok(_) => Err(HeaderError::NotSealed),
        }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The resource name of a key version: `keyRings/{ring}/keys/{key}/versions/{n}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionName(String);

impl VersionName {
    /// The key's resource name.
    pub fn key(&self) -> &str {
        self.0.rsplit_once(VERSIONS).map_or(&self.0, |(key, _)| key)
    }

    /// The version's number.
    pub fn number(&self) -> u32 {
        let number = self.0.rsplit_once(VERSIONS).and_then(|(_, number)| number.parse().ok());
        number.unwrap_or_default()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VersionName {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let number = text
            .strip_prefix("keyRings/")
            .and_then(|rest| rest.split_once("/keys/"))
            .and_then(|(ring, rest)| rest.split_once(VERSIONS).map(|(key, number)| (ring, key, number)))
            .filter(|(ring, key, _)| is_id(ring) && is_id(key))
            .and_then(|(_, _, number)| number.parse::<u32>().ok().filter(|parsed| parsed.to_string() == number));
        match number {
            Some(1..) if text.len() <= MOST_NAME_BYTES => Ok(Self(text.to_owned())),
            _ => Err(HeaderError::Name),
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// What was not read yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A field with its length before it, or how many bytes are missing.
    fn field(&mut self, what: &'static str, most: usize) -> Result<Result<&'b [u8], usize>, HeaderError> {
        let Some((length, rest)) = self.0.split_first_chunk::<4>() else {
            return Ok(Err(4 - self.0.len()));
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > most {
            return Err(HeaderError::Length { what, found: length });
        }
        match rest.split_at_checked(length) {
            Some((field, rest)) => {
                self.0 = rest;
                Ok(Ok(field))
            }
            None => Ok(Err(length - rest.len())),
        }
    }
}

pub(crate) const MAGIC: &[u8; 16] = b"PORTCULLISSEALED";
pub(crate) const FORMAT: u8 = 1;
pub(crate) const SUITE: u8 = 1;
pub(crate) const MESSAGE_ID_BYTES: usize = 32;
pub(crate) const COMMITMENT_BYTES: usize = 32;
const FIXED_BYTES: usize = MAGIC.len() + 2 + MESSAGE_ID_BYTES + COMMITMENT_BYTES;
const MOST_NAME_BYTES: usize = 1024;
const MOST_DATA_KEY_BYTES: usize = 1024;
const VERSIONS: &str = "/versions/";

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let version = "keyRings/demo/keys/files/versions/12".parse().expect("a name");
        Header::new([7; 32], [9; 32], version, vec![5; 82]).expect("a header")
    }

    #[test]
    fn a_header_is_read_as_it_was_written_however_it_arrives() {
        let header = header();
        let mut bytes = header.to_bytes();
        let length = bytes.len();
        bytes.extend(b"what follows");
        assert_eq!(Header::parse(&bytes), Ok(Parsed::Whole(header.clone(), length)));
        let mut source = &bytes[..];
        assert_eq!(Header::read(&mut source).expect("a header"), header);
        assert_eq!(source, b"what follows");
        for end in 0..length {
            match Header::parse(&bytes[..end]) {
                Ok(Parsed::More(more)) => assert!(more > 0 && end + more <= length, "{end}: {more}"),
                other => panic!("{end}: {other:?}"),
            }
            let expected = if end < MAGIC.len() {
                HeaderError::NotSealed
            } else {
                HeaderError::CutOff
            };
            let error = Header::read(&mut &bytes[..end]).expect_err("it is cut off");
            assert!(
                matches!(error, EnvelopeError::Header(found) if found == expected),
                "{end}"
            );
        }
    }

    #[test]
    fn names_are_of_versions() {
        let name: VersionName = "keyRings/demo/keys/files/versions/12".parse().expect("a name");
        assert_eq!((name.key(), name.number()), ("keyRings/demo/keys/files", 12));
        for text in [
            "",
            "keyRings/demo/keys/files",
            "keyRings/demo/keys/files/versions/0",
            "keyRings/demo/keys/files/versions/01",
            "keyRings/demo/keys/files/versions/+1",
            "keyRings/demo/keys/files/versions/4294967296",
            "keyRings//keys/files/versions/1",
            "keyRings/de mo/keys/files/versions/1",
            "keyRings/demo/keys/files/versions/1/versions/1",
            "keyRings/demo/keys/files\u{1b}/versions/1",
        ] {
            assert_eq!(text.parse::<VersionName>(), Err(HeaderError::Name), "{text}");
        }
    }

    #[test]
    fn another_format_and_lengths_that_cannot_be_are_refused() {
        let good = header().to_bytes();
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            Header::parse(&changed)
        };
        assert_eq!(with(0, b"p"), Err(HeaderError::NotSealed));
        assert_eq!(with(16, &[2]), Err(HeaderError::Unknown { format: 2, suite: 1 }));
        assert_eq!(with(17, &[0]), Err(HeaderError::Unknown { format: 1, suite: 0 }));
        for length in [0_u32, 1025, u32::MAX] {
            let found = length as usize;
            let what = "key version";
            assert_eq!(
                with(82, &length.to_be_bytes()),
                Err(HeaderError::Length { what, found })
            );
            let what = "encrypted data key";
            assert_eq!(
                with(good.len() - 86, &length.to_be_bytes()),
                Err(HeaderError::Length { what, found })
            );
        }
    }
}

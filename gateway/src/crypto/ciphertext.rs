//! The format of ciphertexts. It is for ever: `docs/formats.md` has it byte by byte, with test vectors.
//!
//! ```text
//! 1  format, 0x01
//! 16 the key's uid
//! 4  the version, big-endian
//! 1  suite: 0x01 AES-256-GCM, 0x02 AES-128-GCM
//! 12 nonce
//! n  ciphertext, and 16 bytes of tag
//! ```
//!
//! All that stands before the ciphertext is the start of the associated data; what the caller gave follows.

use portcullis_hsm::{algorithm::KeyType, record::CanonicalWriter};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How a ciphertext was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-256-GCM with a 96-bit nonce and a 128-bit tag.
    Aes256Gcm = 1,
    /// AES-128-GCM with a 96-bit nonce and a 128-bit tag.
    Aes128Gcm = 2,
}

impl Suite {
    /// The suite of a key type.
    pub fn of(key_type: KeyType) -> Option<Self> {
        match key_type {
            KeyType::Aes256 => Some(Self::Aes256Gcm),
            KeyType::Aes128 => Some(Self::Aes128Gcm),
            _ => None,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::Aes128Gcm]
            .into_iter()
            .find(|one| *one as u8 == number)
    }
}

/// The head of a ciphertext, without the nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The key's identity.
    pub key_uid: Uuid,
    /// The version.
    pub version: u32,
    /// How it was made.
    pub suite: Suite,
}

impl Header {
    /// The bytes before the nonce.
    pub fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0] = FORMAT;
        bytes[1..17].copy_from_slice(self.key_uid.as_bytes());
        bytes[17..21].copy_from_slice(&self.version.to_be_bytes());
        bytes[21] = self.suite as u8;
        bytes
    }

    /// The whole ciphertext.
    pub fn assemble(self, nonce: &[u8], sealed: &[u8]) -> Vec<u8> {
        [&self.to_bytes(), nonce, sealed].concat()
    }
}

/// A ciphertext in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ciphertext<'a> {
    /// The head.
    pub header: Header,
    /// The nonce.
    pub nonce: &'a [u8; NONCE_LENGTH],
    /// The encrypted bytes and the tag.
    pub sealed: &'a [u8],
}

impl<'a> Ciphertext<'a> {
    /// Takes a ciphertext apart; `None` if it is not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEADER_LENGTH>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LENGTH>()?;
        if head[0] != FORMAT || sealed.len() < TAG_LENGTH {
            return None;
        }
        let header = Header {
            key_uid: Uuid::from_slice(&head[1..17]).ok()?,
            version: u32::from_be_bytes(head[17..21].try_into().ok()?),
            suite: Suite::from_number(head[21])?,
        };
        Some(Self { header, nonce, sealed })
    }
}

/// What the caller wants authenticated with a ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authenticated {
    /// Bytes; none are the same as an empty string.
    Data(Vec<u8>),
    /// Named values.
    Context(BTreeMap<String, String>),
}

impl Authenticated {
    /// The named values, if it is those.
    pub fn context(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Data(_) => None,
            Self::Context(context) => Some(context),
        }
    }

    /// The associated data after the header and nonce.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Data(data) => CanonicalWriter::new().u8(0).fixed(data).finish(),
            Self::Context(context) => {
                let writer = CanonicalWriter::new().u8(1).u32(context.len() as u32);
                let write = |writer: CanonicalWriter, (key, value): (&String, &String)| {
                    writer.bytes(key.as_bytes()).bytes(value.as_bytes())
                };
                context.iter().fold(writer, write).finish()
            }
        }
    }
}

/// How much longer a ciphertext is than its plaintext.
pub const OVERHEAD: usize = HEADER_LENGTH + NONCE_LENGTH + TAG_LENGTH;

const FORMAT: u8 = 1;
const HEADER_LENGTH: usize = 22;
const NONCE_LENGTH: usize = 12;
/// The length of a tag of AES-GCM.
pub const TAG_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_comes_apart_as_it_was_put_together() {
        let header = Header {
            key_uid: Uuid::from_bytes([7; 16]),
            version: 3,
            suite: Suite::Aes256Gcm,
        };
        let bytes = header.assemble(&[9; 12], &[5; 20]);
        assert_eq!(bytes.len(), 4 + OVERHEAD);
        let parts = Ciphertext::parse(&bytes).expect("a ciphertext");
        assert_eq!(
            (parts.header, parts.nonce, parts.sealed),
            (header, &[9; 12], [5; 20].as_slice())
        );
    }

    #[test]
    fn data_and_context_can_never_be_equal() {
        let context = Authenticated::Context(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let data = Authenticated::Data(context.to_bytes());
        assert_ne!(context.to_bytes(), data.to_bytes());
        assert_eq!(context.to_bytes(), b"\x01\0\0\0\x01\0\0\0\x01a\0\0\0\x01b");
    }
}

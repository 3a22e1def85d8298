//! Messages that the domain's mac key authenticates, and the canonical form in which they are written.
//!
//! Each message is framed with its kind, so that a tag made for one purpose is worth nothing for another. The layout is
//! fixed in `docs/formats.md`.

use crate::{
    pkcs11::{CallMechanism, CallResult, ObjectHandle, Session},
    return_code::ReturnCode,
};
use cryptoki_sys::CKM_SHA256_HMAC;
use subtle::ConstantTimeEq;

/// The length of an HMAC-SHA-256 tag in bytes.
pub const TAG_LENGTH: usize = 32;

/// An HMAC-SHA-256 tag.
pub type Tag = [u8; TAG_LENGTH];

/// What a message is. The numbers are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// The body of a key token, stored or resident.
    KeyToken = 1,
    /// The body of an ephemeral key token.
    EphemeralToken = 2,
    /// A row of the gateway's store.
    Row = 3,
    /// The known-answer message of a probe.
    Probe = 4,
    /// The label inside a domain fingerprint.
    Fingerprint = 5,
}

impl RecordKind {
    /// The kind with this number, if it is known.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::KeyToken,
            Self::EphemeralToken,
            Self::Row,
            Self::Probe,
            Self::Fingerprint,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// The bytes over which the tag of a message is computed.
pub fn framed(kind: RecordKind, message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(PREFIX.len() + 1 + 8 + message.len());
    framed.extend_from_slice(PREFIX);
    framed.push(kind as u8);
    framed.extend_from_slice(&(message.len() as u64).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// Computes the tag of a message inside the HSM.
pub fn authenticate(session: &mut Session, mac: ObjectHandle, kind: RecordKind, message: &[u8]) -> CallResult<Tag> {
    let tag = session.sign(
        CallMechanism::Plain(CKM_SHA256_HMAC),
        mac,
        &framed(kind, message),
        TAG_LENGTH,
    )?;
    tag.try_into().map_err(|_| crate::pkcs11::CallError {
        function: "C_Sign",
        code: ReturnCode::GENERAL_ERROR,
    })
}

/// Checks the tag of a message inside the HSM, in a time that does not depend on where tags differ.
pub fn is_authentic(
    session: &mut Session,
    mac: ObjectHandle,
    kind: RecordKind,
    message: &[u8],
    tag: &[u8],
) -> CallResult<bool> {
    let expected = authenticate(session, mac, kind, message)?;
    Ok(expected.as_slice().ct_eq(tag).into())
}

const PREFIX: &[u8] = b"portcullis mac v1\0";

/// Writes the canonical form: numbers big-endian, byte strings after their length as four bytes.
#[derive(Debug, Default)]
pub struct CanonicalWriter(Vec<u8>);

impl CanonicalWriter {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Adds two bytes.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds four bytes.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds eight bytes.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Adds bytes whose number the reader knows.
    #[must_use]
    pub fn fixed(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a byte string after its length.
    #[must_use]
    pub fn bytes(mut self, value: &[u8]) -> Self {
        // Invariant: what is written here are keys, names and labels, all far below 4 GiB.
        let length = u32::try_from(value.len()).expect("a canonical byte string is shorter than 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The canonical form ended early, or goes on after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// Fewer bytes than a field needs.
    #[error("it ends inside a field")]
    Truncated,
    /// A field has a value that no writer gives it.
    #[error("a field has an unknown value")]
    UnknownValue,
    /// More bytes than all fields.
    #[error("it has bytes after its end")]
    TrailingBytes,
}

/// Reads the canonical form.
#[derive(Debug)]
pub struct CanonicalReader<'a>(&'a [u8]);

impl<'a> CanonicalReader<'a> {
    /// Reads from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CanonicalError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, CanonicalError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, CanonicalError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, CanonicalError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A known number of bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CanonicalError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CanonicalError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    /// A byte string after its length.
    pub fn bytes(&mut self) -> Result<&'a [u8], CanonicalError> {
        let length = self.u32()? as usize;
        let (head, rest) = self.0.split_at_checked(length).ok_or(CanonicalError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// Text after its length.
    pub fn text(&mut self) -> Result<String, CanonicalError> {
        let text = std::str::from_utf8(self.bytes()?);
        Ok(text.map_err(|_| CanonicalError::UnknownValue)?.to_owned())
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), CanonicalError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CanonicalError::TrailingBytes)
        }
    }
}

//! Payloads on their way in and out: limits, checksums, wiping.

use super::super::{ApiError, Reason, call::Call, convert};
use crate::crypto::{checksum::crc32c, ciphertext::Authenticated};
use bytes::Bytes;
use portcullis_proto::v1;
use std::{mem, ops::Deref};
use zeroize::{Zeroize, Zeroizing};

/// A plaintext as it arrived. Its buffer is wiped with it, unless the transport still shares that.
pub(super) struct Plaintext(Bytes);

impl From<Bytes> for Plaintext {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Deref for Plaintext {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        if let Ok(mut alone) = mem::take(&mut self.0).try_into_mut() {
            alone.as_mut().zeroize();
        }
    }
}

/// Secret bytes for an answer, which are wiped when it has been sent.
pub(super) fn outgoing(secret: Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::from_owner(secret)
}

/// Refuses what is longer than a limit.
pub(super) fn require_length(what: &'static str, bytes: &[u8], limit: usize) -> Result<(), ApiError> {
    if bytes.len() <= limit {
        return Ok(());
    }
    let message = format!("the {what} has {} bytes; at most {limit} were expected", bytes.len());
    Err(ApiError::new(Reason::PayloadTooLarge, message)
        .with("limit", limit.to_string())
        .with("actual", bytes.len().to_string()))
}

/// Checks a checksum, if one came; says whether one did.
pub(super) fn verify_checksum(what: &'static str, bytes: &[u8], expected: Option<u32>) -> Result<bool, ApiError> {
    match expected {
        None => Ok(false),
        Some(expected) if expected == crc32c(bytes) => Ok(true),
        Some(_) => Err(ApiError::new(
            Reason::ChecksumMismatch,
            format!("the {what} does not have the CRC32C that came with it: it was garbled on the way, send it again"),
        )
        .with("field", what)),
    }
}

/// What the caller wants authenticated, as any request says it.
pub(super) enum GivenData {
    /// Nothing.
    Nothing,
    /// Bytes.
    Data(Bytes),
    /// Named values.
    Context(v1::EncryptionContext),
}

/// From the `oneof` of a request, which each has under its own name.
macro_rules! given_data {
    ($($module:ident::$oneof:ident { $data:ident, $context:ident };)*) => {
        $(impl From<Option<v1::$module::$oneof>> for GivenData {
            fn from(given: Option<v1::$module::$oneof>) -> Self {
                match given {
                    None => Self::Nothing,
                    Some(v1::$module::$oneof::$data(data)) => Self::Data(data),
                    Some(v1::$module::$oneof::$context(context)) => Self::Context(context),
                }
            }
        })*
    };
}

given_data! {
    encrypt_request::Authenticated { AssociatedData, EncryptionContext };
    decrypt_request::Authenticated { AssociatedData, EncryptionContext };
    generate_data_key_request::Authenticated { AssociatedData, EncryptionContext };
    re_encrypt_request::SourceAuthenticated { SourceAssociatedData, SourceEncryptionContext };
    re_encrypt_request::DestinationAuthenticated { DestinationAssociatedData, DestinationEncryptionContext };
}

impl GivenData {
    /// Whether there is anything to authenticate.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Within its limits.
    pub(super) fn read(self, call: &Call) -> Result<Authenticated, ApiError> {
        let limit = call.gateway().limits().payload;
        match self {
            Self::Nothing => Ok(Authenticated::Data(Vec::new())),
            Self::Data(data) => {
                require_length("associated data", &data, limit)?;
                Ok(Authenticated::Data(data.to_vec()))
            }
            Self::Context(context) => convert::context(context, limit),
        }
    }
}

/// Checks the checksum of associated data; a context has none.
pub(super) fn verify_associated_data(
    field: &'static str,
    authenticated: &Authenticated,
    expected: Option<u32>,
) -> Result<bool, ApiError> {
    match (authenticated, expected) {
        (Authenticated::Data(data), expected) => verify_checksum(field, data, expected),
        (Authenticated::Context(_), None) => Ok(false),
        (Authenticated::Context(_), Some(_)) => Err(ApiError::new(
            Reason::FieldInvalid,
            format!("{field}_crc32c: an encryption context has no checksum: leave it out"),
        )
        .with("field", format!("{field}_crc32c"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_is_what_was_secret() {
        assert_eq!(outgoing(Zeroizing::new(vec![1, 2, 3])), [1, 2, 3][..]);
    }

    #[test]
    fn a_checksum_is_checked_when_it_came() {
        assert_eq!(verify_checksum("input", b"123456789", None), Ok(false));
        assert_eq!(verify_checksum("input", b"123456789", Some(0xe306_9283)), Ok(true));
        let wrong = verify_checksum("input", b"12345678", Some(0xe306_9283)).expect_err("another checksum");
        assert_eq!(wrong.reason(), Reason::ChecksumMismatch);
    }
}

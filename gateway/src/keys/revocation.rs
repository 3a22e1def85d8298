//! Revocations: from when on a principal's ephemeral keys of a ring are good.

use super::document::Document;
use portcullis_hsm::record::{CanonicalError, CanonicalReader, CanonicalWriter};
use sha2::{Digest, Sha256};

/// What is revoked for one principal in a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The principal.
    pub principal: String,
    /// Keys generated before this are revoked: microseconds since 1970-01-01 UTC.
    pub not_before: u64,
}

impl Revocation {
    /// The id of a principal's revocation in each ring.
    pub fn id(principal: &str) -> String {
        hex::encode(Sha256::digest(principal))
    }
}

impl Document for Revocation {
    const KIND: &'static str = "revocation/1";
    const COLLECTION: &'static str = "revocations";

    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        writer.bytes(self.principal.as_bytes()).u64(self.not_before)
    }

    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        Ok(Self {
            principal: reader.text()?,
            not_before: reader.u64()?,
        })
    }
}

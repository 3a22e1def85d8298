//! Import jobs: RSA keys, born in an HSM, for each of which one key is wrapped by whoever brings it.

use super::document::Document;
use portcullis_hsm::{
    algorithm::Mechanism,
    key_token::KeyToken,
    record::{CanonicalError, CanonicalReader, CanonicalWriter},
};
use time::OffsetDateTime;

/// An import job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportJob {
    /// OAEP with its hash.
    pub mechanism: Mechanism,
    /// The key token, with its tag, of the key that unwraps.
    pub token: Vec<u8>,
    /// When it ends, in microseconds since 1970-01-01 UTC.
    pub expires: u64,
    /// What it was used for: the name of the version. An import that is under way has taken it already.
    pub used_for: String,
}

impl ImportJob {
    /// What the token says. The document's tag covers its bytes, and the member that loads it checks its own.
    pub fn key(&self) -> Option<KeyToken> {
        let (body, _) = KeyToken::split(&self.token).ok()?;
        KeyToken::parse(body).ok()
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        super::record::micros(now) >= self.expires
    }
}

impl Document for ImportJob {
    const KIND: &'static str = "import_job/1";
    const COLLECTION: &'static str = "importJobs";

    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        writer
            .u16(self.mechanism.number())
            .u64(self.expires)
            .bytes(self.used_for.as_bytes())
            .bytes(&self.token)
    }

    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        Ok(Self {
            mechanism: Mechanism::from_number(reader.u16()?).ok_or(CanonicalError::UnknownValue)?,
            expires: reader.u64()?,
            used_for: reader.text()?,
            token: reader.bytes()?.to_vec(),
        })
    }
}

//! Aliases: names that stand for a key or a version of the same ring, and can be pointed elsewhere.

use super::{
    document::Document,
    name::{Id, KeyName, KeyOrVersionName},
};
use portcullis_hsm::record::{CanonicalError, CanonicalReader, CanonicalWriter};

/// What an alias stands for, in its own ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The key's id.
    pub key: String,
    /// The version; `None` means whichever is primary.
    pub version: Option<u32>,
}

impl Alias {
    /// The name for which it stands; `None` if no name can be made of what is stored.
    pub fn target(&self, ring: &Id) -> Option<KeyOrVersionName> {
        Some(KeyOrVersionName {
            key: KeyName {
                ring: ring.clone(),
                key: Id::parse(&self.key).ok()?,
            },
            version: self.version,
        })
    }
}

impl Document for Alias {
    const KIND: &'static str = "alias/1";
    const COLLECTION: &'static str = "aliases";

    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        // Versions count from 1, so 0 says that none is named.
        writer.bytes(self.key.as_bytes()).u32(self.version.unwrap_or(0))
    }

    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        Ok(Self {
            key: reader.text()?,
            version: Some(reader.u32()?).filter(|version| *version > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: what is no text was read as other text.
    #[test]
    fn an_alias_of_a_key_that_is_no_text_is_refused() {
        let body = CanonicalWriter::new().bytes(b"sig\xffing").u32(0).finish();
        let read = Alias::read(&mut CanonicalReader::new(&body));
        assert_eq!(read, Err(CanonicalError::UnknownValue));
    }
}

//! Recipients: those outside of this cluster to whom exportable keys may be exported.

use super::document::Document;
use portcullis_hsm::{
    public_key::rsa_components,
    record::{CanonicalError, CanonicalReader, CanonicalWriter},
};
use sha2::{Digest, Sha256};

/// A recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// An RSA public key: SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Who it is, for people.
    pub description: String,
}

impl Recipient {
    /// Says what is wrong with a recipient: its key is no RSA key of 2048 to 8192 bits with an odd exponent above 2^16, or its
    /// description too long.
    pub fn check(&self) -> Result<(), String> {
        let (modulus, exponent) = rsa_components(&self.public_key)
            .map_err(|_| "expected an RSA public key: SubjectPublicKeyInfo in DER".to_owned())?;
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(format!("expected an RSA key of 2048 to 8192 bits, found {bits}"));
        }
        if exponent.len() < 3 || exponent.last().is_none_or(|last| last & 1 == 0) {
            return Err("expected an odd public exponent above 65536, as 65537".to_owned());
        }
        if self.description.len() > 255 || self.description.chars().any(char::is_control) {
            return Err("expected a description of at most 255 bytes without control characters".to_owned());
        }
        Ok(())
    }

    /// SHA-256 of the public key, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.public_key))
    }
}

impl Document for Recipient {
    const KIND: &'static str = "recipient/1";
    const COLLECTION: &'static str = "recipients";

    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        writer.bytes(&self.public_key).bytes(self.description.as_bytes())
    }

    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        Ok(Self {
            public_key: reader.bytes()?.to_vec(),
            description: reader.text()?,
        })
    }
}

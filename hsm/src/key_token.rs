//! Key tokens: the form in which a key version is stored outside the HSM.
//!
//! A token binds the wrapped key to everything that decides what it is and may do, under a tag by the domain's mac key:
//! a PKCS#11 token itself would unwrap an elliptic-curve key as a generic secret. A resident version has a token too,
//! with nothing wrapped in it. The layout is fixed in `docs/formats.md`, with test vectors.

use crate::{
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses, UsesError},
    record::{CanonicalError, CanonicalReader, CanonicalWriter, TAG_LENGTH, Tag},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How a version's secret half is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// Wrapped in the token under the domain's seal key: it can never be wrapped again.
    Sealed = 1,
    /// Wrapped in the token under the domain's portable key: it may be exported under another HSM key.
    Portable = 2,
    /// A token object on a member; the token only names it.
    Resident = 3,
}

impl Storage {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Sealed, Self::Portable, Self::Resident]
            .into_iter()
            .find(|one| *one as u8 == number)
    }
}

/// Where a key came from. A key that was not born in an HSM may never wrap others for export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Generated in an HSM.
    Generated = 1,
    /// Imported wrapped.
    ImportedWrapped = 2,
    /// Imported in clear.
    ImportedClear = 3,
}

impl Origin {
    /// The origin with this number, if it is known.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Generated, Self::ImportedWrapped, Self::ImportedClear]
            .into_iter()
            .find(|one| *one as u8 == number)
    }
}

/// A key version outside the HSM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyToken {
    /// The domain epoch whose keys wrap and authenticate it.
    pub epoch: u32,
    /// The key's identity.
    pub uid: Uuid,
    /// The version's number, from 1.
    pub version: u32,
    /// What the key is.
    pub key_type: KeyType,
    /// How the secret half is kept.
    pub storage: Storage,
    /// Where it came from.
    pub origin: Origin,
    /// What it may do.
    pub uses: PermittedUses,
    /// The wrapped key (RFC 5649). A resident version has none: here stand the 16 bytes of its making, or nothing where it was made before
    /// makings had a name.
    pub wrapped: Vec<u8>,
    /// SubjectPublicKeyInfo in DER; empty for secret keys.
    pub public_key: Vec<u8>,
}

/// Why bytes are not a key token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The bytes do not have the layout.
    #[error("the key token is malformed: {0}")]
    Layout(#[from] CanonicalError),
    /// A format that this version does not know.
    #[error("the key token has the unknown format {0}")]
    Format(u8),
    /// A field has a value that no token has.
    #[error("the key token is malformed: {0} has an unknown value")]
    Field(&'static str),
    /// The uses are not a valid set in canonical order.
    #[error("the key token is malformed: {0}")]
    Uses(#[from] UsesError),
}

/// Identifies the exact bytes of a token: SHA-256 of all of them.
pub type TokenDigest = [u8; 32];

/// The digest under which a member keeps a loaded token.
pub fn token_digest(sealed: &[u8]) -> TokenDigest {
    Sha256::digest(sealed).into()
}

impl KeyToken {
    /// The canonical form without its tag.
    pub fn body(&self) -> Vec<u8> {
        let body = CanonicalWriter::new()
            .u8(FORMAT)
            .u32(self.epoch)
            .fixed(self.uid.as_bytes())
            .u32(self.version)
            .u16(self.key_type.number())
            .u8(self.storage as u8)
            .u8(self.origin as u8);
        // The secret's true length, because RFC 5649 as some tokens do it pads to eight bytes.
        let secret_length = self.key_type.secret_length().unwrap_or(0) as u16;
        write_uses(body, &self.uses)
            .u16(secret_length)
            .bytes(&self.wrapped)
            .bytes(&self.public_key)
            .finish()
    }

    /// The body with its tag at the end: what is stored.
    pub fn sealed(&self, tag: &Tag) -> Vec<u8> {
        let mut sealed = self.body();
        sealed.extend_from_slice(tag);
        sealed
    }

    /// Splits stored bytes into the body and the tag to be checked over it.
    pub fn split(sealed: &[u8]) -> Result<(&[u8], &[u8]), TokenError> {
        let at = sealed.len().checked_sub(TAG_LENGTH).ok_or(CanonicalError::Truncated)?;
        Ok(sealed.split_at(at))
    }

    /// Reads a body. What it says may be believed only after its tag was checked.
    pub fn parse(body: &[u8]) -> Result<Self, TokenError> {
        let mut reader = CanonicalReader::new(body);
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(TokenError::Format(format));
        }
        let epoch = reader.u32()?;
        let uid = Uuid::from_bytes(reader.array()?);
        let version = reader.u32()?;
        if version == 0 {
            return Err(TokenError::Field("the version"));
        }
        let key_type = KeyType::from_number(reader.u16()?).ok_or(TokenError::Field("the key type"))?;
        let storage = Storage::from_number(reader.u8()?).ok_or(TokenError::Field("the storage"))?;
        let origin = Origin::from_number(reader.u8()?).ok_or(TokenError::Field("the origin"))?;
        let uses = read_uses(&mut reader, key_type)?;
        if usize::from(reader.u16()?) != key_type.secret_length().unwrap_or(0) {
            return Err(TokenError::Field("the secret length"));
        }
        let wrapped = reader.bytes()?.to_vec();
        let public_key = reader.bytes()?.to_vec();
        reader.finish()?;
        let fits = match storage {
            Storage::Resident => [0, MAKING_LENGTH].contains(&wrapped.len()),
            Storage::Sealed | Storage::Portable => !wrapped.is_empty(),
        };
        if !fits {
            return Err(TokenError::Field("the wrapped key"));
        }
        if public_key.is_empty() == key_type.is_asymmetric() {
            return Err(TokenError::Field("the public key"));
        }
        Ok(Self {
            epoch,
            uid,
            version,
            key_type,
            storage,
            origin,
            uses,
            wrapped,
            public_key,
        })
    }

    /// What the version's objects are called on their token, where it is resident.
    pub fn resident_name(&self) -> ResidentName {
        ResidentName {
            uid: self.uid,
            version: self.version,
            making: Uuid::from_slice(&self.wrapped).ok(),
        }
    }
}

/// What the objects of a resident version are called on their token.
///
/// A number can be given twice, where the gateway's database was an old one in between. The making is new each time, so that no
/// object of another making is ever taken for this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResidentName {
    /// The key's identity.
    pub uid: Uuid,
    /// The version's number.
    pub version: u32,
    /// Which making of the version it is; none for what was made before makings had a name.
    pub making: Option<Uuid>,
}

impl ResidentName {
    /// The `CKA_ID`: 16 bytes of uid, 4 of version, 16 of making.
    pub fn object_id(&self) -> Vec<u8> {
        let id = CanonicalWriter::new().fixed(self.uid.as_bytes()).u32(self.version);
        match &self.making {
            Some(making) => id.fixed(making.as_bytes()).finish(),
            None => id.finish(),
        }
    }

    /// The `CKA_LABEL`, for people.
    pub fn label(&self) -> String {
        format!("{}/{}", self.uid, self.version)
    }
}

/// Writes uses as tokens have them: their number, then each as operation and mechanism.
pub(crate) fn write_uses(writer: CanonicalWriter, uses: &PermittedUses) -> CanonicalWriter {
    uses.iter()
        .fold(writer.u16(uses.iter().len() as u16), |writer, permitted_use| {
            writer
                .u8(permitted_use.operation.number())
                .u16(permitted_use.mechanism.number())
        })
}

/// Reads uses in their canonical order.
pub(crate) fn read_uses(reader: &mut CanonicalReader<'_>, key_type: KeyType) -> Result<PermittedUses, TokenError> {
    let mut listed = Vec::new();
    for _ in 0..reader.u16()? {
        let operation = Operation::from_number(reader.u8()?).ok_or(TokenError::Field("an operation"))?;
        let mechanism = Mechanism::from_number(reader.u16()?).ok_or(TokenError::Field("a mechanism"))?;
        listed.push(PermittedUse { operation, mechanism });
    }
    if !listed.is_sorted_by(|a, b| a < b) {
        return Err(TokenError::Field("the order of the uses"));
    }
    Ok(PermittedUses::new(key_type, listed)?)
}

const FORMAT: u8 = 1;
const MAKING_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> KeyToken {
        KeyToken {
            epoch: 1,
            uid: Uuid::from_bytes(*b"0123456789abcdef"),
            version: 7,
            key_type: KeyType::EcP256,
            storage: Storage::Sealed,
            origin: Origin::Generated,
            uses: PermittedUses::new(
                KeyType::EcP256,
                [PermittedUse::new(Operation::Sign, Mechanism::EcdsaSha256)],
            )
            .expect("the use fits"),
            wrapped: vec![0xaa; 80],
            public_key: vec![0xbb; 91],
        }
    }

    #[test]
    fn a_body_reads_back() {
        let token = example();
        assert_eq!(KeyToken::parse(&token.body()), Ok(token));
    }

    #[test]
    fn a_resident_token_has_nothing_wrapped() {
        let token = KeyToken {
            storage: Storage::Resident,
            ..example()
        };
        assert_eq!(
            KeyToken::parse(&token.body()),
            Err(TokenError::Field("the wrapped key"))
        );
        for (wrapped, making) in [(Vec::new(), None), (vec![0x11; 16], Some(Uuid::from_bytes([0x11; 16])))] {
            let token = KeyToken {
                storage: Storage::Resident,
                wrapped,
                ..example()
            };
            assert_eq!(token.resident_name().making, making);
            assert_eq!(token.resident_name().object_id().len(), 20 + token.wrapped.len());
            assert_eq!(KeyToken::parse(&token.body()), Ok(token));
        }
    }

    #[test]
    fn uses_out_of_order_are_refused() {
        let mut token = example();
        token.uses = PermittedUses::new(
            KeyType::EcP256,
            [
                PermittedUse::new(Operation::Sign, Mechanism::EcdsaSha256),
                PermittedUse::new(Operation::Derive, Mechanism::Ecdh),
            ],
        )
        .expect("the uses fit");
        let body = token.body();
        let at = body
            .windows(3)
            .position(|window| window == [1, 0, 1])
            .expect("the first use");
        let mut swapped = body.clone();
        swapped[at..at + 6].rotate_left(3);
        assert_eq!(
            KeyToken::parse(&swapped),
            Err(TokenError::Field("the order of the uses"))
        );
    }
}

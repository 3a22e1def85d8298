//! Ephemeral key tokens: a key that is not stored. Its owner keeps the token, and it is worth something until it expires.
//!
//! The tag is of another kind than that of a stored key token and the format number is another, so that neither can stand for
//! the other. Whether the caller is the owner, the ring, the time and revocations are the gateway's to check; that the token
//! says what its maker said is the HSM's. The layout is fixed in `docs/formats.md`, with test vectors.

use crate::{
    algorithm::{KeyType, PermittedUses},
    key_token::{KeyToken, Origin, Storage, TokenError, read_uses, write_uses},
    record::{CanonicalReader, CanonicalWriter, Tag},
};
use uuid::Uuid;

/// A key that is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralToken {
    /// The domain epoch whose keys wrap and authenticate it.
    pub epoch: u32,
    /// The key's identity; a renewal keeps it.
    pub uid: Uuid,
    /// What the key is.
    pub key_type: KeyType,
    /// Which domain key wraps it; never resident.
    pub storage: Storage,
    /// What it may do.
    pub uses: PermittedUses,
    /// The principal that may use it.
    pub owner: String,
    /// The id of the key ring whose policy decides.
    pub ring: String,
    /// When the key was generated, in microseconds since 1970-01-01 UTC; a renewal keeps it.
    pub created: u64,
    /// When the token ends.
    pub expires: u64,
    /// The wrapped key (RFC 5649).
    pub wrapped: Vec<u8>,
    /// SubjectPublicKeyInfo in DER; empty for secret keys.
    pub public_key: Vec<u8>,
}

impl EphemeralToken {
    /// Whether stored or received bytes claim to be an ephemeral token. Which key authenticates them follows from this.
    pub fn is_claimed_by(sealed: &[u8]) -> bool {
        sealed.first() == Some(&FORMAT)
    }

    /// The canonical form without its tag.
    pub fn body(&self) -> Vec<u8> {
        let body = CanonicalWriter::new()
            .u8(FORMAT)
            .u32(self.epoch)
            .fixed(self.uid.as_bytes())
            .u16(self.key_type.number())
            .u8(self.storage as u8);
        write_uses(body, &self.uses)
            .bytes(self.owner.as_bytes())
            .bytes(self.ring.as_bytes())
            .u64(self.created)
            .u64(self.expires)
            .u16(self.key_type.secret_length().unwrap_or(0) as u16)
            .bytes(&self.wrapped)
            .bytes(&self.public_key)
            .finish()
    }

    /// The body with its tag at the end: what the owner keeps.
    pub fn sealed(&self, tag: &Tag) -> Vec<u8> {
        let mut sealed = self.body();
        sealed.extend_from_slice(tag);
        sealed
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
        let key_type = KeyType::from_number(reader.u16()?).ok_or(TokenError::Field("the key type"))?;
        let storage = match reader.u8()? {
            1 => Storage::Sealed,
            2 => Storage::Portable,
            _ => return Err(TokenError::Field("the storage")),
        };
        let uses = read_uses(&mut reader, key_type)?;
        let owner = text(&mut reader, TokenError::Field("the owner"))?;
        let ring = text(&mut reader, TokenError::Field("the key ring"))?;
        let created = reader.u64()?;
        let expires = reader.u64()?;
        if expires <= created {
            return Err(TokenError::Field("the end"));
        }
        if usize::from(reader.u16()?) != key_type.secret_length().unwrap_or(0) {
            return Err(TokenError::Field("the secret length"));
        }
        let wrapped = reader.bytes()?.to_vec();
        let public_key = reader.bytes()?.to_vec();
        reader.finish()?;
        if wrapped.is_empty() {
            return Err(TokenError::Field("the wrapped key"));
        }
        if public_key.is_empty() == key_type.is_asymmetric() {
            return Err(TokenError::Field("the public key"));
        }
        Ok(Self {
            epoch,
            uid,
            key_type,
            storage,
            uses,
            owner,
            ring,
            created,
            expires,
            wrapped,
            public_key,
        })
    }

    /// The key as a member loads it.
    pub fn key(&self) -> KeyToken {
        KeyToken {
            epoch: self.epoch,
            uid: self.uid,
            version: 0,
            key_type: self.key_type,
            storage: self.storage,
            origin: Origin::Generated,
            uses: self.uses.clone(),
            wrapped: self.wrapped.clone(),
            public_key: self.public_key.clone(),
        }
    }
}

fn text(reader: &mut CanonicalReader<'_>, wrong: TokenError) -> Result<String, TokenError> {
    match std::str::from_utf8(reader.bytes()?) {
        Ok(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(wrong),
    }
}

/// No format of stored key tokens will have this number.
const FORMAT: u8 = 0x81;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::{Mechanism, Operation, PermittedUse};

    fn example() -> EphemeralToken {
        let uses = [
            PermittedUse::new(Operation::MacSign, Mechanism::HmacSha256),
            PermittedUse::new(Operation::MacVerify, Mechanism::HmacSha256),
        ];
        EphemeralToken {
            epoch: 1,
            uid: Uuid::from_bytes(*b"0123456789abcdef"),
            key_type: KeyType::HmacSha256,
            storage: Storage::Sealed,
            uses: PermittedUses::new(KeyType::HmacSha256, uses).expect("the uses fit"),
            owner: "unix:uid=1000".to_owned(),
            ring: "payments".to_owned(),
            created: 10,
            expires: 20,
            wrapped: vec![7; 40],
            public_key: Vec::new(),
        }
    }

    #[test]
    fn a_body_reads_back_and_is_no_key_token() {
        let token = example();
        assert_eq!(EphemeralToken::parse(&token.body()), Ok(token.clone()));
        assert_eq!(KeyToken::parse(&token.body()), Err(TokenError::Format(FORMAT)));
        assert!(EphemeralToken::is_claimed_by(&token.body()));
        let stored = KeyToken {
            version: 1,
            ..token.key()
        };
        assert_eq!(EphemeralToken::parse(&stored.body()), Err(TokenError::Format(1)));
    }

    #[test]
    fn a_token_without_an_owner_or_that_never_lived_is_refused() {
        let nobody = EphemeralToken {
            owner: String::new(),
            ..example()
        };
        assert_eq!(
            EphemeralToken::parse(&nobody.body()),
            Err(TokenError::Field("the owner"))
        );
        let never = EphemeralToken {
            expires: 10,
            ..example()
        };
        assert_eq!(EphemeralToken::parse(&never.body()), Err(TokenError::Field("the end")));
    }
}

//! Ephemeral keys: generated like wrapped ones, but named, bound and ended by a token that their owner keeps.

use super::{Member, NewKey};
use crate::{
    Error,
    ephemeral_token::EphemeralToken,
    key_token::{KeyToken, Storage},
    pkcs11::Session,
    record::{self, RecordKind},
    template::Extraction,
};

/// To whom an ephemeral key belongs, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// The principal that may use it.
    pub owner: String,
    /// The id of the key ring.
    pub ring: String,
    /// When it begins, in microseconds since 1970-01-01 UTC.
    pub created: u64,
    /// When it ends.
    pub expires: u64,
}

impl Member {
    /// Generates an ephemeral key and returns its token with the tag. The version of `new` does not matter.
    pub fn generate_ephemeral(&self, session: &mut Session, new: &NewKey, tenure: Tenure) -> Result<Vec<u8>, Error> {
        let exportable = match new.storage {
            Storage::Sealed => Extraction::Forbidden,
            Storage::Portable => Extraction::Allowed,
            Storage::Resident => return Err(Error::Refused("an ephemeral key is never resident".to_owned())),
        };
        self.check_generation(new)?;
        let (wrapped, public_key) = self.generate_wrapped(session, new.key_type, exportable)?;
        let token = EphemeralToken {
            epoch: self.domain()?.epoch(),
            uid: new.uid,
            key_type: new.key_type,
            storage: new.storage,
            uses: new.uses.clone(),
            owner: tenure.owner,
            ring: tenure.ring,
            created: tenure.created,
            expires: tenure.expires,
            wrapped,
            public_key,
        };
        self.seal_ephemeral(session, &token)
    }

    /// A token for the same key with another end. The gateway has decided that it may have that.
    pub fn renew_ephemeral(&self, session: &mut Session, sealed: &[u8], expires: u64) -> Result<Vec<u8>, Error> {
        let (body, tag) = KeyToken::split(sealed)?;
        if !self.is_authentic(session, RecordKind::EphemeralToken, body, tag)? {
            return Err(Error::NotAuthentic("the ephemeral key token"));
        }
        let token = EphemeralToken {
            expires,
            ..EphemeralToken::parse(body)?
        };
        self.seal_ephemeral(session, &token)
    }

    fn seal_ephemeral(&self, session: &mut Session, token: &EphemeralToken) -> Result<Vec<u8>, Error> {
        let body = token.body();
        // What would not be read again is not made.
        EphemeralToken::parse(&body)?;
        let tag = record::authenticate(session, self.domain()?.mac(), RecordKind::EphemeralToken, &body)?;
        Ok(token.sealed(&tag))
    }
}

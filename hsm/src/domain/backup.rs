//! The domain wrapped under a key that the custodians have in shares, and the way back.
//!
//! The domain itself never is outside of an HSM in clear. The backup key is, in this process, when it is drawn and when the shares
//! come together again; whoever has it and the backup has the domain.

use super::{
    DomainKey, DomainKeys, Fingerprint, OriginDomain, TrustedKey, WRAPPED_CAPACITY,
    clone::{named_for, unwrap_all},
};
use crate::{
    Error,
    algorithm::KeyType,
    object_id::ObjectId,
    pkcs11::{Attribute, CallMechanism, Session},
    record::{CanonicalReader, CanonicalWriter},
    template::{self, Extraction, Lifetime, Usage},
};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use cryptoki_sys::*;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// An AES-256 key that wraps a backup. It is split among custodians and kept nowhere.
pub struct BackupKey(Zeroizing<[u8; 32]>);

impl BackupKey {
    /// Draws a key from the token's random generator and the operating system's, both of which would have to be bad, and from
    /// what people threw, if they did.
    pub fn draw(session: &mut Session, thrown: Option<&[u8]>) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; 32]);
        let mut more = Zeroizing::new([0; 32]);
        session.generate_random(key.as_mut_slice())?;
        SystemRandom::new()
            .fill(more.as_mut_slice())
            .map_err(|_| Error::Refused("the operating system gives no random bytes".to_owned()))?;
        mix(&mut key, &more);
        if let Some(thrown) = thrown {
            mix(&mut key, &Zeroizing::new(Sha256::digest(thrown).into()));
        }
        Ok(Self(key))
    }

    /// The key that shares gave.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key itself, to be split.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Names the key: it stands in the backup, so that another key is known before it is tried. Of 256 random bits it tells
    /// nothing.
    pub fn id(&self) -> [u8; 32] {
        let parts = Zeroizing::new(
            CanonicalWriter::new()
                .bytes(b"portcullis backup key v1")
                .bytes(self.0.as_slice())
                .finish(),
        );
        Sha256::digest(parts.as_slice()).into()
    }

    /// Trusts the key on the origin token, as a key of the session that can only wrap. The session is the security officer's.
    pub fn trust(&self, session: &mut Session, key_wrap: CK_MECHANISM_TYPE) -> Result<TrustedKey, Error> {
        let usage = Usage {
            wrap: true,
            ..Usage::NONE
        };
        // Not private: the security officer sees no private objects.
        let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, usage)
            .with(Attribute::flag(CKA_PRIVATE, false))
            .with(Attribute::secret(CKA_VALUE, self.0.as_slice()))
            .with(Attribute::flag(CKA_TRUSTED, true));
        Ok(TrustedKey {
            handle: session.create_object(&template::frozen(template, &[key_wrap]))?,
        })
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BackupKey")
    }
}

/// A domain wrapped under a backup key. It may be copied freely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainBackup {
    /// The domain's epoch.
    pub epoch: u32,
    /// The domain's fingerprint.
    pub fingerprint: Fingerprint,
    /// Which backup key it is wrapped under ([`BackupKey::id`]).
    pub backup_key: [u8; 32],
    wrapped: [Vec<u8>; 3],
}

/// What a restored domain becomes.
#[derive(Debug, Clone, Copy)]
pub enum RestoreAs {
    /// The domain on an origin token: it can be cloned to members.
    Origin,
    /// The sealed domain of a member.
    Member,
}

impl OriginDomain {
    /// Wraps the domain under a backup key, which the security officer has trusted in this session. The session is the user's.
    pub fn back_up(&self, session: &mut Session, key: &BackupKey, trusted: &TrustedKey) -> Result<DomainBackup, Error> {
        let fingerprint = self.fingerprint(session)?;
        let mut wrap = |key| {
            session.wrap_key(
                CallMechanism::Plain(self.key_wrap),
                trusted.handle,
                key,
                WRAPPED_CAPACITY,
            )
        };
        let [seal, portable, mac] = self.keys;
        Ok(DomainBackup {
            epoch: self.epoch,
            fingerprint,
            backup_key: key.id(),
            wrapped: [wrap(seal)?, wrap(portable)?, wrap(mac)?],
        })
    }
}

impl DomainBackup {
    /// Unwraps the domain on a token as the objects of a ceremony's step, and compares its fingerprint. The session is the user's.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is another backup key; [`Error::DomainExists`] when the token has keys of this epoch, as an origin
    /// or as a member: nothing is changed then. After another failure, and when the fingerprint is another
    /// ([`Error::NotAuthentic`]), what was made is destroyed again.
    pub fn restore(
        &self,
        session: &mut Session,
        key: &BackupKey,
        key_wrap: CK_MECHANISM_TYPE,
        restore_as: RestoreAs,
        id: &ObjectId,
    ) -> Result<Fingerprint, Error> {
        if key.id() != self.backup_key {
            return Err(Error::Refused(
                "the shares give another key than the one under which the backup was made: they are of another set"
                    .to_owned(),
            ));
        }
        OriginDomain::refuse_if_present(session, self.epoch, key_wrap)?;
        let usage = Usage {
            unwrap: true,
            ..Usage::NONE
        };
        let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, usage)
            .with(Attribute::secret(CKA_VALUE, key.0.as_slice()));
        let unwrapping = session.create_object(&template::frozen(template, &[key_wrap]))?;
        let templates = DomainKey::ALL.map(|key| match restore_as {
            RestoreAs::Origin => key.origin_template(self.epoch, key_wrap, id),
            RestoreAs::Member => named_for(key.member_template(self.epoch, key_wrap), id),
        });
        let wrapped = self.wrapped.each_ref().map(Vec::as_slice);
        let unwrapped = unwrap_all(session, CallMechanism::Plain(key_wrap), unwrapping, wrapped, &templates);
        let forgotten = session.destroy_object(unwrapping);
        let compare = || -> Result<Fingerprint, Error> {
            unwrapped?;
            forgotten?;
            let fingerprint = match restore_as {
                RestoreAs::Origin => OriginDomain::find(session, self.epoch, key_wrap)?.fingerprint(session)?,
                RestoreAs::Member => DomainKeys::find(session, self.epoch, Some(key_wrap))?.fingerprint(session)?,
            };
            if fingerprint == self.fingerprint {
                Ok(fingerprint)
            } else {
                Err(Error::NotAuthentic("the restored domain"))
            }
        };
        compare().map_err(|error| match id.destroy(session) {
            Ok(_) => error,
            Err(left) => left,
        })
    }

    /// The backup as it is kept: `docs/formats.md` has it byte by byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [seal, portable, mac] = &self.wrapped;
        let mut bytes = CanonicalWriter::new()
            .bytes(BACKUP)
            .u32(self.epoch)
            .fixed(self.fingerprint.as_bytes())
            .fixed(&self.backup_key)
            .bytes(seal)
            .bytes(portable)
            .bytes(mac)
            .finish();
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads a backup.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it was damaged. That it is authentic is shown by restoring it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Refused("the backup of the domain is damaged: use another copy of it".to_owned());
        let (content, digest) = bytes.split_last_chunk::<32>().ok_or_else(damaged)?;
        if Sha256::digest(content).as_slice() != digest {
            return Err(damaged());
        }
        let mut reader = CanonicalReader::new(content);
        let mut read = || {
            if reader.bytes()? != BACKUP {
                return Err(crate::record::CanonicalError::UnknownValue);
            }
            Ok(Self {
                epoch: reader.u32()?,
                fingerprint: Fingerprint::from_bytes(reader.array()?),
                backup_key: reader.array()?,
                wrapped: [
                    reader.bytes()?.to_vec(),
                    reader.bytes()?.to_vec(),
                    reader.bytes()?.to_vec(),
                ],
            })
        };
        let backup = read().map_err(|_| damaged())?;
        reader.finish().map_err(|_| damaged())?;
        Ok(backup)
    }
}

fn mix(key: &mut [u8; 32], more: &[u8; 32]) {
    for (byte, other) in key.iter_mut().zip(more) {
        *byte ^= other;
    }
}

const BACKUP: &[u8] = b"portcullis domain backup v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_read_as_it_was_written_and_any_damage_is_seen() {
        let backup = DomainBackup {
            epoch: 3,
            fingerprint: Fingerprint::from_bytes([1; 32]),
            backup_key: [2; 32],
            wrapped: [vec![3; 40], vec![4; 40], vec![5; 40]],
        };
        let bytes = backup.to_bytes();
        assert_eq!(DomainBackup::from_bytes(&bytes).expect("a backup"), backup);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(DomainBackup::from_bytes(&damaged).is_err(), "byte {at}");
            assert!(DomainBackup::from_bytes(&bytes[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_backup_key_is_not_shown_and_has_a_name() {
        let key = BackupKey::from_bytes(Zeroizing::new([0xab; 32]));
        assert_eq!(format!("{key:?}"), "BackupKey");
        assert_ne!(key.id(), BackupKey::from_bytes(Zeroizing::new([0xac; 32])).id());
    }
}

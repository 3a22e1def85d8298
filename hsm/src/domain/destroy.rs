//! The end of a domain on one token.

use super::{DomainKey, find_labelled, resident};
use crate::{Error, pkcs11::Session};

/// Destroys every key of an epoch, as an origin's, as a member's and of a resident domain, whatever ceremony made them; looks that
/// none is left, and returns how many there were. The session is the user's.
///
/// # Errors
///
/// [`Error::NotDestroyed`] when the token still shows one.
pub fn destroy_epoch(session: &mut Session, epoch: u32) -> Result<usize, Error> {
    let members = DomainKey::ALL.map(|key| key.label(epoch));
    let origins = DomainKey::ALL.map(|key| key.origin_label(epoch));
    let mut destroyed = 0;
    for label in members.iter().chain(&origins).chain([&resident::label(epoch)]) {
        // The search gives two at a time.
        for _ in 0..MOST_COPIES {
            let found = find_labelled(session, label)?;
            if found.is_empty() {
                break;
            }
            for key in found {
                session.destroy_object(key)?;
                destroyed += 1;
            }
        }
        if !find_labelled(session, label)?.is_empty() {
            return Err(Error::NotDestroyed);
        }
    }
    Ok(destroyed)
}

/// No ceremony leaves more than one key of a label.
const MOST_COPIES: usize = 16;

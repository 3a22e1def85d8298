//! The domain of a token that cannot hold a seal key: a mac key alone, born on the token and never anywhere else.

use super::{DomainKey, DomainKeys, named};
use crate::{
    Error,
    pkcs11::{Attribute, CallMechanism, Session},
    record::TAG_LENGTH,
    template::{self, Lifetime},
};
use cryptoki_sys::*;

/// Makes a resident domain on a token that has no domain of this epoch.
///
/// # Errors
///
/// [`Error::DomainExists`] when the token has one of either kind; nothing is changed then.
pub fn create_resident(session: &mut Session, epoch: u32) -> Result<DomainKeys, Error> {
    match DomainKeys::find(session, epoch, None) {
        Err(Error::NoDomain(_)) => {}
        Ok(_) | Err(Error::TokenSelection(_) | Error::Unsupported(_)) => return Err(Error::DomainExists(epoch)),
        Err(error) => return Err(error),
    }
    // The mac key's template is the same in both kinds of domain; it does not wrap, so the mechanism does not matter.
    let template = named(
        DomainKey::Mac
            .template(Lifetime::Token, CKM_SHA256_HMAC)
            .with(Attribute::number(CKA_VALUE_LEN, TAG_LENGTH as u64)),
        &label(epoch),
    );
    let mechanism = CallMechanism::Plain(template::generation_mechanism(DomainKey::Mac.key_type()));
    session.generate_key(mechanism, &template)?;
    DomainKeys::find(session, epoch, None)
}

/// The `CKA_LABEL` and, as bytes, the `CKA_ID` of the one key. Another than in a sealing domain, so that a sealing domain that
/// lost keys is never taken for a resident one.
pub(super) fn label(epoch: u32) -> String {
    format!("portcullis-resident-domain-{epoch}-mac")
}

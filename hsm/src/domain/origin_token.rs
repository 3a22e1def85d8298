//! The domain on its origin token: kept offline, extractable, and only under a key that the security officer trusts.
//!
//! The online members hold sealed copies, which nobody can wrap again. This one copy can be wrapped, so that members can join; it
//! takes the user's PIN and the security officer's, and the custodians have the latter in shares.

use super::{
    Canary, DomainKey, DomainKeys, Fingerprint, OaepHash, WRAPPED_CAPACITY, WrappedDomain,
    clone::{rsa_public_key, wrap_all},
    find_labelled, fingerprint_of, named,
};
use crate::{
    Error,
    object_id::ObjectId,
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session, Template},
    refusal::{lets_copy, was_allowed},
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;

/// The keys of one epoch on their origin token.
#[derive(Debug, Clone, Copy)]
pub struct OriginDomain {
    pub(super) epoch: u32,
    pub(super) keys: [ObjectHandle; 3],
    pub(super) key_wrap: CK_MECHANISM_TYPE,
}

impl OriginDomain {
    /// Generates the three keys as the token objects of a ceremony's step; the session is the user's. `key_wrap` is the token's
    /// mechanism for RFC 5649.
    ///
    /// # Errors
    ///
    /// [`Error::DomainExists`] when the token has keys of this epoch, as an origin or as a member; nothing is changed then.
    /// After another failure what was made is destroyed again.
    pub fn create(
        session: &mut Session,
        epoch: u32,
        key_wrap: CK_MECHANISM_TYPE,
        id: &ObjectId,
    ) -> Result<Self, Error> {
        Self::refuse_if_present(session, epoch, key_wrap)?;
        let mut make = || -> Result<(), Error> {
            for key in DomainKey::ALL {
                let key_type = key.key_type();
                // Invariant: the key types of a domain are secret keys.
                let length = key_type.secret_length().expect("domain keys are secret keys");
                let template = key
                    .origin_template(epoch, key_wrap, id)
                    .without(CKA_MODIFIABLE)
                    .with(Attribute::number(CKA_VALUE_LEN, length as u64))
                    .with(Attribute::flag(CKA_MODIFIABLE, false));
                let mechanism = CallMechanism::Plain(template::generation_mechanism(key_type));
                session.generate_key(mechanism, &template)?;
            }
            Ok(())
        };
        let made = make();
        made.and_then(|()| Self::find(session, epoch, key_wrap))
            .map_err(|error| match id.destroy(session) {
                Ok(_) => error,
                Err(left) => left,
            })
    }

    /// Finds the keys of an epoch, and looks that they are what an origin's are.
    ///
    /// # Errors
    ///
    /// [`Error::NoDomain`] when the token has none of them; [`Error::TokenSelection`] when one is missing or there several times;
    /// [`Error::NotAuthentic`] when one of them has another attribute than it was made with.
    pub fn find(session: &mut Session, epoch: u32, key_wrap: CK_MECHANISM_TYPE) -> Result<Self, Error> {
        let mut keys = Vec::new();
        let mut counts = Vec::new();
        for key in DomainKey::ALL {
            let found = find_labelled(session, &key.origin_label(epoch))?;
            counts.push(found.len());
            keys.extend(found.first().copied());
        }
        match (counts.as_slice(), <[ObjectHandle; 3]>::try_from(keys)) {
            ([0, 0, 0], _) => Err(Error::NoDomain(epoch)),
            ([1, 1, 1], Ok(keys)) => {
                for key in keys {
                    for (attribute, expected) in ORIGIN_ATTRIBUTES {
                        if session.attribute(key, attribute, 1)? != [u8::from(expected)] {
                            return Err(Error::NotAuthentic("a domain key on the origin token"));
                        }
                    }
                }
                Ok(Self { epoch, keys, key_wrap })
            }
            (counts, _) => Err(Error::TokenSelection(format!(
                "the token holds {counts:?} seal, portable and mac keys of the origin of domain epoch {epoch} (2 means 2 or more); \
                 expected one of each"
            ))),
        }
    }

    /// The epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The domain's fingerprint: the same as that of each member.
    pub fn fingerprint(&self, session: &mut Session) -> Result<Fingerprint, Error> {
        let [seal, portable, mac] = self.keys;
        fingerprint_of(session, self.epoch, mac, [seal, portable], self.key_wrap)
    }

    /// Wraps the three keys to a member's transport key, which the security officer has trusted in this session.
    pub fn wrap_to(
        &self,
        session: &mut Session,
        transport: &TrustedKey,
        oaep_hash: OaepHash,
    ) -> Result<WrappedDomain, Error> {
        wrap_all(session, self.epoch, self.keys, transport.handle, oaep_hash)
    }

    pub(super) fn refuse_if_present(
        session: &mut Session,
        epoch: u32,
        key_wrap: CK_MECHANISM_TYPE,
    ) -> Result<(), Error> {
        match DomainKeys::find(session, epoch, Some(key_wrap)) {
            Err(Error::NoDomain(_)) => {}
            Ok(_) | Err(Error::TokenSelection(_)) => return Err(Error::DomainExists(epoch)),
            Err(error) => return Err(error),
        }
        match Self::find(session, epoch, key_wrap) {
            Err(Error::NoDomain(_)) => Ok(()),
            Ok(_) | Err(Error::TokenSelection(_) | Error::NotAuthentic(_)) => Err(Error::DomainExists(epoch)),
            Err(error) => Err(error),
        }
    }
}

impl DomainKey {
    /// The `CKA_LABEL` of the key on the origin token: another than on a member, so that neither is taken for the other.
    pub(super) fn origin_label(self, epoch: u32) -> String {
        format!("portcullis-origin-{epoch}-{}", self.name())
    }

    /// The template of the key on the origin token: it can be fingerprinted, and wrapped under a trusted key.
    pub(super) fn origin_template(self, epoch: u32, key_wrap: CK_MECHANISM_TYPE, id: &ObjectId) -> Template {
        let (usage, mechanism) = match self {
            Self::Seal | Self::Portable => {
                let wrap = Usage {
                    wrap: true,
                    ..Usage::NONE
                };
                (wrap, key_wrap)
            }
            Self::Mac => {
                let sign = Usage {
                    sign: true,
                    ..Usage::NONE
                };
                (sign, CKM_SHA256_HMAC)
            }
        };
        let template = template::key(self.key_type(), Lifetime::Token, Extraction::Allowed, usage)
            .with(Attribute::flag(CKA_WRAP_WITH_TRUSTED, true));
        named(template::frozen(template, &[mechanism]), &self.origin_label(epoch))
            .with(Attribute::bytes(CKA_ID, *id.as_bytes()))
    }
}

/// A key of the session that the security officer has vouched for (`CKA_TRUSTED`): under it alone an origin's keys can be wrapped.
#[derive(Debug)]
pub struct TrustedKey {
    pub(super) handle: ObjectHandle,
}

impl TrustedKey {
    /// Trusts a member's transport key (SubjectPublicKeyInfo in DER). The session is the security officer's; the key can only
    /// wrap, only by OAEP, and lives as long as the session: a copy, which could outlive it, cannot be made.
    ///
    /// Whoever holds the private half can choose the templates of what it unwraps, so people have made sure whose key it is.
    pub fn transport(session: &mut Session, transport_key: &[u8]) -> Result<Self, Error> {
        let (modulus, exponent) = rsa_public_key(transport_key)?;
        let template = template::wrapping_public_key(&modulus, &exponent)
            .with(Attribute::flag(CKA_TRUSTED, true))
            .with(Attribute::flag(CKA_COPYABLE, false))
            .with(Attribute::flag(CKA_MODIFIABLE, false));
        Ok(Self {
            handle: session.create_object(&template)?,
        })
    }

    /// Wraps a worthless key to the member's transport key: what comes back shows that the member's HSM has the private half, and
    /// that hash, templates and logins are right, before the domain goes the same way. The session is the user's.
    pub fn send_canary(
        &self,
        session: &mut Session,
        oaep_hash: OaepHash,
        key_wrap: CK_MECHANISM_TYPE,
    ) -> Result<(Vec<u8>, Canary), Error> {
        let template = super::canary::template(Extraction::Allowed, key_wrap)
            .without(CKA_MODIFIABLE)
            .with(Attribute::flag(CKA_WRAP_WITH_TRUSTED, true))
            .with(Attribute::number(CKA_VALUE_LEN, 32))
            .with(Attribute::flag(CKA_MODIFIABLE, false));
        let key = session.generate_key(CallMechanism::Plain(CKM_AES_KEY_GEN), &template)?;
        let canary = Canary::of(session, key, key_wrap)?;
        let wrapped = session.wrap_key(oaep_hash.call(), self.handle, key, WRAPPED_CAPACITY)?;
        session.destroy_object(key)?;
        Ok((wrapped, canary))
    }

    /// Tries what must fail with it, whoever is logged in: to copy it, because the copy would be trusted too, and to change it.
    /// Returns what the token allowed, in words; nothing where all is well.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the token failed, so that it is not known what it would have refused.
    pub fn try_forbidden(&self, session: &mut Session) -> Result<Vec<String>, Error> {
        let mut allowed = Vec::new();
        if lets_copy(session, self.handle)? {
            allowed.push("copy the trusted key".to_owned());
        }
        for (how, attribute) in [("able to encrypt", CKA_ENCRYPT), ("modifiable", CKA_MODIFIABLE)] {
            let template = Template::new([Attribute::flag(attribute, true)]);
            if was_allowed(session.set_attributes(self.handle, &template))? {
                allowed.push(format!("make the trusted key {how}"));
            }
        }
        Ok(allowed)
    }

    /// Destroys it before its session ends.
    pub fn destroy(self, session: &mut Session) -> Result<(), Error> {
        Ok(session.destroy_object(self.handle)?)
    }
}

/// What an origin's keys are, beside their uses.
const ORIGIN_ATTRIBUTES: [(CK_ATTRIBUTE_TYPE, bool); 9] = [
    (CKA_SENSITIVE, true),
    (CKA_EXTRACTABLE, true),
    (CKA_WRAP_WITH_TRUSTED, true),
    (CKA_MODIFIABLE, false),
    (CKA_COPYABLE, false),
    (CKA_ENCRYPT, false),
    (CKA_DECRYPT, false),
    (CKA_UNWRAP, false),
    (CKA_DERIVE, false),
];

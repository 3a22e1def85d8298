//! How a domain is born on one member and comes to the others.

use super::{DomainKey, DomainKeys, WRAPPED_CAPACITY};
use crate::{
    Error,
    algorithm::{KeyType, Mechanism},
    object_id::ObjectId,
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session, Template},
    public_key::{read_public_key, rsa_components},
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;
use std::fmt;

/// The hash of RSA-OAEP between two members. SHA-256 is preferred; some tokens have SHA-1 only, which is not known to be
/// weak in this use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-256 with MGF1-SHA-256.
    Sha256,
    /// SHA-1 with MGF1-SHA-1.
    Sha1,
}

impl OaepHash {
    /// The hash of an OAEP mechanism; `None` for other mechanisms.
    pub fn of(mechanism: Mechanism) -> Option<Self> {
        match mechanism {
            Mechanism::RsaOaepSha256 => Some(Self::Sha256),
            Mechanism::RsaOaepSha1 => Some(Self::Sha1),
            _ => None,
        }
    }

    pub(crate) fn call(self) -> CallMechanism<'static> {
        match self {
            Self::Sha256 => CallMechanism::Oaep {
                hash: CKM_SHA256,
                mask: CKG_MGF1_SHA256,
            },
            Self::Sha1 => CallMechanism::Oaep {
                hash: CKM_SHA_1,
                mask: CKG_MGF1_SHA1,
            },
        }
    }
}

impl fmt::Display for OaepHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha1 => "SHA-1",
        })
    }
}

/// The three keys on their way to one member, each encrypted by RSA-OAEP to its transport key.
#[derive(Debug, Clone)]
pub struct WrappedDomain {
    /// The domain's epoch.
    pub epoch: u32,
    /// The hash that was used.
    pub oaep_hash: OaepHash,
    /// The seal key.
    pub seal: Vec<u8>,
    /// The portable key.
    pub portable: Vec<u8>,
    /// The mac key.
    pub mac: Vec<u8>,
}

/// A domain at its birth: session objects of one session, which can do nothing but be wrapped.
#[derive(Debug)]
pub struct Origin {
    epoch: u32,
    keys: [ObjectHandle; 3],
}

impl Origin {
    /// Generates the three keys of an epoch.
    pub fn create(session: &mut Session, epoch: u32) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for key in DomainKey::ALL {
            let key_type = key.key_type();
            // Invariant: both key types of a domain are secret keys.
            let length = key_type.secret_length().expect("domain keys are secret keys");
            let template = template::key(key_type, Lifetime::Session, Extraction::Allowed, Usage::NONE)
                .with(Attribute::number(CKA_VALUE_LEN, length as u64));
            let mechanism = CallMechanism::Plain(template::generation_mechanism(key_type));
            keys.push(session.generate_key(mechanism, &template)?);
        }
        // Invariant: one key was pushed for each of the three.
        let keys = keys.try_into().expect("three keys were generated");
        Ok(Self { epoch, keys })
    }

    /// Wraps the three keys to a member's transport key (SubjectPublicKeyInfo in DER).
    ///
    /// Whoever holds the private half can choose the templates of what it unwraps, so the caller has made sure whose
    /// key it is.
    pub fn wrap_to(
        &self,
        session: &mut Session,
        transport_key: &[u8],
        oaep_hash: OaepHash,
    ) -> Result<WrappedDomain, Error> {
        let (modulus, exponent) = rsa_public_key(transport_key)?;
        let transport = session.create_object(&template::wrapping_public_key(&modulus, &exponent))?;
        let wrapped = wrap_all(session, self.epoch, self.keys, transport, oaep_hash);
        session.destroy_object(transport)?;
        wrapped
    }

    /// Destroys the origin's keys: from now on only the members' copies exist.
    pub fn destroy(self, session: &mut Session) -> Result<(), Error> {
        for key in self.keys {
            session.destroy_object(key)?;
        }
        Ok(())
    }
}

/// A member's key for receiving a domain: a session pair that can only unwrap, and only sensitive keys.
#[derive(Debug)]
pub struct Transport {
    public: ObjectHandle,
    private: ObjectHandle,
    public_key: Vec<u8>,
}

impl Transport {
    /// Generates the pair (RSA-3072).
    pub fn generate(session: &mut Session) -> Result<Self, Error> {
        let usage = Usage {
            unwrap: true,
            ..Usage::NONE
        };
        let private = template::key(KEY_TYPE, Lifetime::Session, Extraction::Forbidden, usage)
            .with(Attribute::attributes(CKA_UNWRAP_TEMPLATE, common_template()));
        let (public, private) = session.generate_key_pair(
            CallMechanism::Plain(template::generation_mechanism(KEY_TYPE)),
            &template::public_half(KEY_TYPE, Lifetime::Session),
            &template::frozen(private, &[CKM_RSA_PKCS_OAEP]),
        )?;
        let public_key = read_public_key(session, KEY_TYPE, public)?;
        Ok(Self {
            public,
            private,
            public_key,
        })
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn private(&self) -> ObjectHandle {
        self.private
    }

    /// What the token says of the private half.
    pub fn facts(&self, session: &mut Session) -> Result<TransportFacts, Error> {
        let mut is =
            |attribute| -> Result<bool, Error> { Ok(session.attribute(self.private, attribute, 1)? == [CK_TRUE]) };
        Ok(TransportFacts {
            local: is(CKA_LOCAL)?,
            sensitive: is(CKA_SENSITIVE)?,
            always_sensitive: is(CKA_ALWAYS_SENSITIVE)?,
            extractable: is(CKA_EXTRACTABLE)?,
            never_extractable: is(CKA_NEVER_EXTRACTABLE)?,
            modifiable: is(CKA_MODIFIABLE)?,
        })
    }

    /// Unwraps a domain as token objects with their final templates. `key_wrap` is the token's mechanism for RFC 5649.
    ///
    /// # Errors
    ///
    /// [`Error::DomainExists`] when the token has keys of this epoch; nothing is changed then. After another failure
    /// what was made is destroyed again.
    pub fn receive(
        &self,
        session: &mut Session,
        wrapped: &WrappedDomain,
        key_wrap: CK_MECHANISM_TYPE,
    ) -> Result<DomainKeys, Error> {
        self.receive_with(session, wrapped, key_wrap, |template| template)
    }

    /// The same, as the objects of a ceremony's step.
    pub fn receive_in_step(
        &self,
        session: &mut Session,
        wrapped: &WrappedDomain,
        key_wrap: CK_MECHANISM_TYPE,
        id: &ObjectId,
    ) -> Result<DomainKeys, Error> {
        self.receive_with(session, wrapped, key_wrap, |template| named_for(template, id))
    }

    fn receive_with(
        &self,
        session: &mut Session,
        wrapped: &WrappedDomain,
        key_wrap: CK_MECHANISM_TYPE,
        name: impl Fn(Template) -> Template,
    ) -> Result<DomainKeys, Error> {
        match DomainKeys::find(session, wrapped.epoch, Some(key_wrap)) {
            Err(Error::NoDomain(_)) => {}
            Ok(_) | Err(Error::TokenSelection(_)) => return Err(Error::DomainExists(wrapped.epoch)),
            Err(error) => return Err(error),
        }
        let templates = DomainKey::ALL.map(|key| name(key.member_template(wrapped.epoch, key_wrap)));
        let keys = [&wrapped.seal, &wrapped.portable, &wrapped.mac].map(Vec::as_slice);
        let made = unwrap_all(session, wrapped.oaep_hash.call(), self.private, keys, &templates)?;
        match DomainKeys::find(session, wrapped.epoch, Some(key_wrap)) {
            Ok(found) => Ok(found),
            Err(error) => {
                destroy_all(session, &made)?;
                Err(error)
            }
        }
    }

    /// Destroys the pair.
    pub fn destroy(self, session: &mut Session) -> Result<(), Error> {
        session.destroy_object(self.private)?;
        session.destroy_object(self.public)?;
        Ok(())
    }
}

/// What a token says of the private half of a transport key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFacts {
    /// `CKA_LOCAL`: it was generated on the token.
    pub local: bool,
    /// `CKA_SENSITIVE`.
    pub sensitive: bool,
    /// `CKA_ALWAYS_SENSITIVE`.
    pub always_sensitive: bool,
    /// `CKA_EXTRACTABLE`.
    pub extractable: bool,
    /// `CKA_NEVER_EXTRACTABLE`.
    pub never_extractable: bool,
    /// `CKA_MODIFIABLE`.
    pub modifiable: bool,
}

/// Modulus and exponent of a transport key.
pub(super) fn rsa_public_key(transport_key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    rsa_components(transport_key)
        .map_err(|error| Error::Refused(format!("the transport key is not an RSA public key: {error}")))
}

/// Wraps the three keys of a domain under one.
pub(super) fn wrap_all(
    session: &mut Session,
    epoch: u32,
    keys: [ObjectHandle; 3],
    transport: ObjectHandle,
    oaep_hash: OaepHash,
) -> Result<WrappedDomain, Error> {
    let [seal, portable, mac] = keys.map(|key| session.wrap_key(oaep_hash.call(), transport, key, WRAPPED_CAPACITY));
    Ok(WrappedDomain {
        epoch,
        oaep_hash,
        seal: seal?,
        portable: portable?,
        mac: mac?,
    })
}

/// Unwraps the three keys of a domain; after a failure what was made is destroyed again.
pub(super) fn unwrap_all(
    session: &mut Session,
    mechanism: CallMechanism<'_>,
    unwrapping: ObjectHandle,
    wrapped: [&[u8]; 3],
    templates: &[Template; 3],
) -> Result<Vec<ObjectHandle>, Error> {
    let mut made = Vec::new();
    for (wrapped, template) in wrapped.into_iter().zip(templates) {
        match session.unwrap_key(mechanism, unwrapping, wrapped, template) {
            Ok(handle) => made.push(handle),
            Err(error) => {
                destroy_all(session, &made)?;
                return Err(error.into());
            }
        }
    }
    Ok(made)
}

/// Destroys what was made, all that can be: the first failure is told when every one was tried.
fn destroy_all(session: &mut Session, made: &[ObjectHandle]) -> Result<(), Error> {
    let mut failure = Ok(());
    for handle in made {
        failure = failure.and(session.destroy_object(*handle));
    }
    Ok(failure?)
}

/// The template with the `CKA_ID` of a ceremony's step.
pub(super) fn named_for(template: Template, id: &ObjectId) -> Template {
    template.with(Attribute::bytes(CKA_ID, *id.as_bytes()))
}

/// What all three domain keys have in common and the transport key therefore forces.
///
/// It cannot force the seal key's own unwrap template: tokens refuse nested templates. So the joining member is trusted
/// at the moment of joining.
fn common_template() -> Template {
    Template::new([
        Attribute::flag(CKA_SENSITIVE, true),
        Attribute::flag(CKA_EXTRACTABLE, false),
        Attribute::flag(CKA_ENCRYPT, false),
        Attribute::flag(CKA_DECRYPT, false),
        Attribute::flag(CKA_DERIVE, false),
    ])
}

const KEY_TYPE: KeyType = KeyType::Rsa3072;

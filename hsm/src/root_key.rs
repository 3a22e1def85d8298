//! A root key on a token of its own, whose user PIN nobody knows: it is random, and custodians have it in shares.
//!
//! The key is a token object that can sign by the mechanisms it was made for and nothing else, and was never extractable. Who may
//! use it, and how often, is decided by who has the PIN; the token knows no other rule.

use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation, PermittedUse, PermittedUses},
    object_id::ObjectId,
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session, Template},
    public_key::read_public_key,
    refusal::{lets_copy, was_allowed},
    template::{self, Extraction, Lifetime, Usage, allowed_mechanisms},
};
use cryptoki_sys::*;

/// What to make.
#[derive(Debug, Clone)]
pub struct NewRootKey {
    /// The `CKA_ID` of both halves.
    pub id: ObjectId,
    /// The `CKA_LABEL` of both halves.
    pub label: String,
    /// RSA or a curve for ECDSA.
    pub key_type: KeyType,
    /// The mechanisms by which it signs.
    pub mechanisms: Vec<Mechanism>,
}

/// A root key on its token.
#[derive(Debug, Clone)]
pub struct RootKey {
    private: ObjectHandle,
    key_type: KeyType,
    public_key: Vec<u8>,
}

impl NewRootKey {
    /// Generates the pair; the session is the user's.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the token has objects of the id, or the mechanisms do not fit the type; nothing is changed then.
    /// After another failure what was made is destroyed again.
    pub fn create(&self, session: &mut Session) -> Result<RootKey, Error> {
        let signs = |mechanism: &Mechanism| PermittedUse::new(Operation::Sign, *mechanism);
        let uses = PermittedUses::new(self.key_type, self.mechanisms.iter().map(signs))
            .map_err(|error| Error::Refused(error.to_string()))?;
        if !self.key_type.is_asymmetric() {
            return Err(Error::Refused(format!(
                "a root key of type {} cannot sign",
                self.key_type
            )));
        }
        if let [first, ..] = self.id.find(session)?.as_slice() {
            return Err(Error::Refused(format!(
                "the token has the object \"{}\" of this step already; adopt it or destroy it",
                first.label
            )));
        }
        let named = |template: Template| {
            template
                .with(Attribute::bytes(CKA_LABEL, self.label.as_bytes()))
                .with(Attribute::bytes(CKA_ID, *self.id.as_bytes()))
        };
        let private = template::key(self.key_type, Lifetime::Token, Extraction::Forbidden, Usage::of(&uses));
        let made = session.generate_key_pair(
            CallMechanism::Plain(template::generation_mechanism(self.key_type)),
            &named(template::public_half(self.key_type, Lifetime::Token)),
            &template::frozen(named(private), &allowed_mechanisms(&uses)),
        );
        made.map_err(Error::from)
            .and_then(|_| RootKey::find(session, &self.id, self.key_type))
            .map_err(|error| match self.id.destroy(session) {
                Ok(_) => error,
                Err(left) => left,
            })
    }
}

impl RootKey {
    /// Finds a key by its id, and looks that its private half is what it was made as; the session is the user's.
    ///
    /// # Errors
    ///
    /// [`Error::ResidentMissing`] when it is not there; [`Error::NotAuthentic`] when there are several, or its attributes are others.
    pub fn find(session: &mut Session, id: &ObjectId, key_type: KeyType) -> Result<Self, Error> {
        let private = find_half(session, id, key_type, CKO_PRIVATE_KEY)?;
        let public = find_half(session, id, key_type, CKO_PUBLIC_KEY)?;
        for (attribute, expected) in ATTRIBUTES {
            if session.attribute(private, attribute, 1)? != [u8::from(expected)] {
                return Err(Error::NotAuthentic("a root key"));
            }
        }
        Ok(Self {
            private,
            key_type,
            public_key: read_public_key(session, key_type, public)?,
        })
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Its type.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// Signs a digest, or the message where the mechanism does not hash; the session is the user's. RSA: the signature as it is;
    /// ECDSA: both numbers, each as long as the field (PKCS#11 3.0 section 6.3.1).
    pub fn sign(&self, session: &mut Session, mechanism: Mechanism, data: &[u8]) -> Result<Vec<u8>, Error> {
        let input = template::signing_input(mechanism, data);
        let call = template::signing_call(mechanism);
        Ok(session.sign(call, self.private, &input, SIGNATURE_CAPACITY)?)
    }

    /// Tries what must fail: reading, wrapping, changing and copying the private half. Returns what the token allowed, in words;
    /// nothing where all is well.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the token failed or lost the login, so that it is not known what it would have refused.
    pub fn try_forbidden(&self, session: &mut Session) -> Result<Vec<String>, Error> {
        let mut allowed = Vec::new();
        let mut attempt = |what: &str, worked: Result<bool, Error>| -> Result<(), Error> {
            if worked? {
                allowed.push(what.to_owned());
            }
            Ok(())
        };
        let value = if matches!(self.key_type.family(), crate::algorithm::Family::Rsa(_)) {
            CKA_PRIVATE_EXPONENT
        } else {
            CKA_VALUE
        };
        // A token may answer with nothing instead of refusing.
        let read = match session.attribute(self.private, value, 1024) {
            Ok(value) => Ok(!value.is_empty()),
            Err(error) => was_allowed::<()>(Err(error)),
        };
        attempt("read the private value", read)?;
        for (what, attribute, value) in [
            ("make it extractable", CKA_EXTRACTABLE, true),
            ("make it not sensitive", CKA_SENSITIVE, false),
            ("make it modifiable", CKA_MODIFIABLE, true),
            ("make it able to decrypt", CKA_DECRYPT, true),
            ("make it able to derive", CKA_DERIVE, true),
        ] {
            let template = Template::new([Attribute::flag(attribute, value)]);
            attempt(what, was_allowed(session.set_attributes(self.private, &template)))?;
        }
        attempt("copy it", lets_copy(session, self.private))?;
        let usage = Usage {
            wrap: true,
            ..Usage::NONE
        };
        let own = session.generate_key(
            CallMechanism::Plain(CKM_AES_KEY_GEN),
            &template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, usage)
                .with(Attribute::number(CKA_VALUE_LEN, 32)),
        )?;
        for mechanism in [CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP] {
            let wrapped = session.wrap_key(
                CallMechanism::Plain(mechanism),
                own,
                self.private,
                crate::domain::WRAPPED_CAPACITY,
            );
            attempt("wrap it under a key of one's own", was_allowed(wrapped))?;
        }
        session.destroy_object(own)?;
        Ok(allowed)
    }
}

fn find_half(
    session: &mut Session,
    id: &ObjectId,
    key_type: KeyType,
    class: CK_OBJECT_CLASS,
) -> Result<ObjectHandle, Error> {
    let template = Template::new([
        Attribute::number(CKA_CLASS, class),
        Attribute::number(CKA_KEY_TYPE, template::pkcs11_key_type(key_type)),
        Attribute::flag(CKA_TOKEN, true),
        Attribute::bytes(CKA_ID, *id.as_bytes()),
    ]);
    match session.find_objects(&template, 2)?.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::ResidentMissing),
        _ => Err(Error::NotAuthentic("a root key that is on its token several times")),
    }
}

/// What the private half of a root key is, beside its uses.
const ATTRIBUTES: [(CK_ATTRIBUTE_TYPE, bool); 9] = [
    (CKA_LOCAL, true),
    (CKA_SENSITIVE, true),
    (CKA_ALWAYS_SENSITIVE, true),
    (CKA_EXTRACTABLE, false),
    (CKA_NEVER_EXTRACTABLE, true),
    (CKA_MODIFIABLE, false),
    (CKA_DECRYPT, false),
    (CKA_UNWRAP, false),
    (CKA_DERIVE, false),
];

/// More than an RSA-4096 signature has.
const SIGNATURE_CAPACITY: usize = 1024;

//! Keys that live on a member as token objects: never extractable, found by a `CKA_ID` that the gateway chose.
//!
//! Because the id is chosen before, and for this one making of the key, a create can be repeated after a lost reply: it finds what
//! it made and adopts that, and nothing that was ever made before.

use crate::{
    Error,
    algorithm::{KeyType, PermittedUses},
    key_token::{KeyToken, ResidentName},
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session, Template},
    public_key::read_public_key,
    template::{self, Extraction, Lifetime, Usage, allowed_mechanisms},
};
use cryptoki_sys::*;

/// Finds or generates the pair or secret key of a version; returns the public key in DER, empty for secret keys.
///
/// # Errors
///
/// [`Error::NotAuthentic`] when the token holds more than one object of the id: somebody else made one of them.
pub fn adopt_or_create(
    session: &mut Session,
    name: ResidentName,
    key_type: KeyType,
    uses: &PermittedUses,
) -> Result<Vec<u8>, Error> {
    let id = name.object_id();
    let present = find_by_id(session, &id, secret_class(key_type), key_type)?;
    if present.is_empty() {
        // What a create left half-made, such as a public key without its private half.
        destroy(session, name)?;
        create(session, name, key_type, uses)?;
    }
    if !key_type.is_asymmetric() {
        return Ok(Vec::new());
    }
    match find_by_id(session, &id, CKO_PUBLIC_KEY, key_type)?.as_slice() {
        [public] => Ok(read_public_key(session, key_type, *public)?),
        _ => Err(SEVERAL),
    }
}

/// The private or secret key of an authentic resident token.
pub fn find_private(session: &mut Session, token: &KeyToken) -> Result<ObjectHandle, Error> {
    let id = token.resident_name().object_id();
    match find_by_id(session, &id, secret_class(token.key_type), token.key_type)?.as_slice() {
        [handle] => Ok(*handle),
        [] => Err(Error::ResidentMissing),
        _ => Err(SEVERAL),
    }
}

/// Whether the token holds the private or secret key of a version.
pub fn is_present(session: &mut Session, name: ResidentName, key_type: KeyType) -> Result<bool, Error> {
    let found = find_by_id(session, &name.object_id(), secret_class(key_type), key_type)?;
    Ok(!found.is_empty())
}

/// Destroys every object of a version and looks that none is left; none before is success.
pub fn destroy(session: &mut Session, name: ResidentName) -> Result<(), Error> {
    let template = Template::new([
        Attribute::flag(CKA_TOKEN, true),
        Attribute::bytes(CKA_ID, name.object_id()),
    ]);
    for object in session.find_objects(&template, 16)? {
        session.destroy_object(object)?;
    }
    if session.find_objects(&template, 1)?.is_empty() {
        Ok(())
    } else {
        Err(Error::NotDestroyed)
    }
}

const SEVERAL: Error = Error::NotAuthentic("a resident key that is on its token several times");

fn create(session: &mut Session, name: ResidentName, key_type: KeyType, uses: &PermittedUses) -> Result<(), Error> {
    let (label, id) = (name.label(), name.object_id());
    let named = |template: Template| {
        template
            .with(Attribute::bytes(CKA_LABEL, label.as_bytes()))
            .with(Attribute::bytes(CKA_ID, id.clone()))
    };
    let secret = template::frozen(
        named(template::key(
            key_type,
            Lifetime::Token,
            Extraction::Forbidden,
            Usage::of(uses),
        )),
        &allowed_mechanisms(uses),
    );
    let mechanism = CallMechanism::Plain(template::generation_mechanism(key_type));
    match key_type.secret_length() {
        Some(length) => {
            session.generate_key(mechanism, &secret.with(Attribute::number(CKA_VALUE_LEN, length as u64)))?;
        }
        None => {
            let public = named(template::public_half(key_type, Lifetime::Token));
            session.generate_key_pair(mechanism, &public, &secret)?;
        }
    }
    Ok(())
}

fn find_by_id(
    session: &mut Session,
    id: &[u8],
    class: CK_OBJECT_CLASS,
    key_type: KeyType,
) -> Result<Vec<ObjectHandle>, Error> {
    let template = Template::new([
        Attribute::number(CKA_CLASS, class),
        Attribute::number(CKA_KEY_TYPE, template::pkcs11_key_type(key_type)),
        Attribute::flag(CKA_TOKEN, true),
        Attribute::bytes(CKA_ID, id),
    ]);
    Ok(session.find_objects(&template, 2)?)
}

fn secret_class(key_type: KeyType) -> CK_OBJECT_CLASS {
    if key_type.is_asymmetric() {
        CKO_PRIVATE_KEY
    } else {
        CKO_SECRET_KEY
    }
}

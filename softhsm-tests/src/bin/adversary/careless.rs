//! A domain as nobody should make it, so that the matrix of forbidden deeds can be seen to find what is allowed.

use crate::{formats::AES_256, token::Token};
use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
};
use serde_json::{Value, json};

/// Destroys the domain's keys, which the user may, and makes others under their names that may do everything.
pub(crate) fn run(job: &Value) -> anyhow::Result<Value> {
    let token = Token::open(job)?;
    let session = &token.session;
    for name in ["seal", "portable", "mac"] {
        session.destroy_object(token.domain_key(name)?)?;
        let (mechanism, key_type) = match name {
            "mac" => (Mechanism::GenericSecretKeyGen, KeyType::GENERIC_SECRET),
            _ => (Mechanism::AesKeyGen, KeyType::AES),
        };
        let mut template = everything_allowed(key_type);
        template.push(Attribute::Token(true));
        template.push(Attribute::Label(format!("portcullis-domain-1-{name}").into()));
        session.generate_key(&mechanism, &template)?;
    }
    let mut template = everything_allowed(KeyType::AES);
    template.push(Attribute::Token(false));
    let key = session.generate_key(&Mechanism::AesKeyGen, &template)?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, token.domain_key("seal")?, key)?;
    let body = [
        &[1][..],
        &1u32.to_be_bytes(),
        b"0123456789abcdef",
        &1u32.to_be_bytes(),
        &AES_256.to_be_bytes(),
        // Sealed; generated; two uses: encrypt and decrypt by GCM.
        &[1, 1, 0, 2, 2, 0, 64, 3, 0, 64],
        &32u16.to_be_bytes(),
        &u32::try_from(wrapped.len())?.to_be_bytes(),
        &wrapped,
        &0u32.to_be_bytes(),
    ]
    .concat();
    let framed = [
        b"portcullis mac v1\0\x01",
        &(body.len() as u64).to_be_bytes()[..],
        &body,
    ]
    .concat();
    let tag = session.sign(&Mechanism::Sha256Hmac, token.domain_key("mac")?, &framed)?;
    Ok(json!({ "key_token": hex::encode([body, tag].concat()) }))
}

fn everything_allowed(key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::ValueLen(32.into()),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Sign(true),
        Attribute::Verify(true),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Derive(true),
    ]
}

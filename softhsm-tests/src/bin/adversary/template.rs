//! Templates, and the attributes that `cryptoki` has no words for.

use crate::formats::{AES_256, EC_P256, HMAC_SHA256, KeyToken, RSA_2048};
use anyhow::bail;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};

/// An attribute whose value is a template (`CKA_UNWRAP_TEMPLATE`): an array of `CK_ATTRIBUTE`, each a type, a pointer and a
/// length in 8 bytes.
///
/// The values are leaked, so that the pointers stay valid; this program is short-lived.
pub(crate) fn unwrap_template(flags: &[(u64, bool)]) -> Attribute {
    const UNWRAP_TEMPLATE: u64 = 0x4000_0212;
    let mut array = Vec::new();
    for (kind, value) in flags {
        let value: &'static mut u8 = Box::leak(Box::new(u8::from(*value)));
        array.extend(kind.to_ne_bytes());
        array.extend((std::ptr::from_mut(value) as usize as u64).to_ne_bytes());
        array.extend(1u64.to_ne_bytes());
    }
    Attribute::VendorDefined((AttributeType::VendorDefined(UNWRAP_TEMPLATE), array))
}

pub(crate) const SENSITIVE: u64 = 0x103;
pub(crate) const EXTRACTABLE: u64 = 0x162;

/// How a key is to be protected when it is unwrapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protection {
    pub(crate) sensitive: Option<bool>,
    pub(crate) extractable: Option<bool>,
}

impl Protection {
    /// What the seal key demands.
    pub(crate) const FULL: Self = Self {
        sensitive: Some(true),
        extractable: Some(false),
    };
}

/// The template by which the key of a token is unwrapped.
pub(crate) fn of_token(token: &KeyToken, protection: Protection) -> anyhow::Result<Vec<Attribute>> {
    let (class, key_type, usage) = match token.key_type {
        RSA_2048 => (ObjectClass::PRIVATE_KEY, KeyType::RSA, vec![Attribute::Sign(true)]),
        EC_P256 => (ObjectClass::PRIVATE_KEY, KeyType::EC, vec![Attribute::Sign(true)]),
        AES_256 => (
            ObjectClass::SECRET_KEY,
            KeyType::AES,
            vec![Attribute::Encrypt(true), Attribute::Decrypt(true)],
        ),
        HMAC_SHA256 => (
            ObjectClass::SECRET_KEY,
            KeyType::GENERIC_SECRET,
            vec![Attribute::Sign(true)],
        ),
        other => bail!("no template for key type {other}"),
    };
    let mut template = vec![
        Attribute::Class(class),
        Attribute::KeyType(key_type),
        Attribute::Token(false),
        Attribute::Private(true),
    ];
    template.extend(protection.sensitive.map(Attribute::Sensitive));
    template.extend(protection.extractable.map(Attribute::Extractable));
    template.extend(usage);
    Ok(template)
}

//! New keys, from the standard's templates.

use super::known::{ARRIVING, BROUGHT, KNOWN};
use crate::{
    config::NewKeys,
    error::{Error, Result},
    mechanism::Mechanism,
    software::public_key::{ED25519, ED25519_BY_NAME, P256, P384, P521, PublicKey},
    template::Template,
};
use cryptoki_sys::*;
use portcullis_proto::v1::{KeyOperation, KeyType, Mechanism as Gateway, PermittedUse};

/// A key that a caller wants.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) key_type: KeyType,
    pub(crate) uses: Vec<PermittedUse>,
    /// A token object, and not a session's.
    pub(crate) is_stored: bool,
    pub(crate) is_exportable: bool,
    pub(crate) id: Vec<u8>,
    pub(crate) label: String,
}

impl Wanted {
    /// From the templates of `C_GenerateKeyPair`.
    pub(crate) fn pair(mechanism: &Mechanism, public: &Template, private: &Template, allowed: NewKeys) -> Result<Self> {
        mechanism.without_parameters()?;
        let key_type = match mechanism.kind {
            CKM_RSA_PKCS_KEY_PAIR_GEN => {
                if public
                    .bytes(CKA_PUBLIC_EXPONENT)
                    .is_some_and(|exponent| !is_65537(exponent))
                {
                    return Err(Error::new(CKR_ATTRIBUTE_VALUE_INVALID, "the public exponent is 65537"));
                }
                match public.number(CKA_MODULUS_BITS)? {
                    Some(2048) => KeyType::Rsa2048,
                    Some(3072) => KeyType::Rsa3072,
                    Some(4096) => KeyType::Rsa4096,
                    Some(_) => return Err(CKR_KEY_SIZE_RANGE.into()),
                    None => return Err(incomplete("CKA_MODULUS_BITS")),
                }
            }
            CKM_EC_KEY_PAIR_GEN => match curve(public, private)? {
                P256 => KeyType::EcP256,
                P384 => KeyType::EcP384,
                P521 => KeyType::EcP521,
                _ => return Err(CKR_CURVE_NOT_SUPPORTED.into()),
            },
            CKM_EC_EDWARDS_KEY_PAIR_GEN => match curve(public, private)? {
                ED25519 | ED25519_BY_NAME => KeyType::Ed25519,
                _ => return Err(CKR_CURVE_NOT_SUPPORTED.into()),
            },
            _ => return Err(mechanism.invalid()),
        };
        require(public, CKA_CLASS, CKO_PUBLIC_KEY)?;
        require(private, CKA_CLASS, CKO_PRIVATE_KEY)?;
        for template in [public, private] {
            template.has_only(KNOWN)?;
        }
        let is_stored = private.flag(CKA_TOKEN)?.unwrap_or(false);
        // The public half of a stored key is stored, whatever its template says: it belongs to the key.
        if public.flag(CKA_TOKEN)?.unwrap_or(false) && !is_stored {
            return Err(Error::new(
                CKR_TEMPLATE_INCONSISTENT,
                "a public key is kept no longer than its private key",
            ));
        }
        let uses = pair_uses(key_type, private, allowed)?;
        Self::new(key_type, uses, private, Some(public), is_stored)
    }

    /// From the template of `C_GenerateKey`.
    pub(crate) fn secret(mechanism: &Mechanism, template: &Template, allowed: NewKeys) -> Result<Self> {
        mechanism.without_parameters()?;
        require(template, CKA_CLASS, CKO_SECRET_KEY)?;
        template.has_only(KNOWN)?;
        let length = template.number(CKA_VALUE_LEN)?;
        let key_type = match (mechanism.kind, length) {
            (_, None) => return Err(incomplete("CKA_VALUE_LEN")),
            (CKM_AES_KEY_GEN, Some(16)) => KeyType::Aes128,
            (CKM_AES_KEY_GEN, Some(32)) => KeyType::Aes256,
            (CKM_GENERIC_SECRET_KEY_GEN, Some(32)) => KeyType::HmacSha256,
            (CKM_GENERIC_SECRET_KEY_GEN, Some(48)) => KeyType::HmacSha384,
            (CKM_GENERIC_SECRET_KEY_GEN, Some(64)) => KeyType::HmacSha512,
            (CKM_AES_KEY_GEN | CKM_GENERIC_SECRET_KEY_GEN, Some(_)) => return Err(CKR_KEY_SIZE_RANGE.into()),
            _ => return Err(mechanism.invalid()),
        };
        let is_stored = template.flag(CKA_TOKEN)?.unwrap_or(false);
        let uses = secret_uses(key_type, template, allowed)?;
        Self::new(key_type, uses, template, None, is_stored)
    }

    fn new(
        key_type: KeyType,
        uses: Vec<PermittedUse>,
        template: &Template,
        other: Option<&Template>,
        is_stored: bool,
    ) -> Result<Self> {
        if template.flag(CKA_SENSITIVE)? == Some(false) {
            return Err(Error::new(
                CKR_TEMPLATE_INCONSISTENT,
                "every key of an HSM is sensitive: CKA_SENSITIVE must be true (pkcs11-tool: --sensitive)",
            ));
        }
        for flag in [CKA_SIGN_RECOVER, CKA_ALWAYS_AUTHENTICATE, CKA_TRUSTED] {
            if template.flag(flag)? == Some(true) {
                return Err(Error::new(
                    CKR_TEMPLATE_INCONSISTENT,
                    format!("the attribute {flag:#x} cannot be true here"),
                ));
            }
        }
        let id = template
            .bytes(CKA_ID)
            .or_else(|| other.and_then(|other| other.bytes(CKA_ID)))
            .unwrap_or_default();
        let label = match template.text(CKA_LABEL)? {
            Some(label) => Some(label),
            None => other.map(|other| other.text(CKA_LABEL)).transpose()?.flatten(),
        };
        Ok(Self {
            key_type,
            uses,
            is_stored,
            is_exportable: template.flag(CKA_EXTRACTABLE)?.unwrap_or(false),
            id: id.to_vec(),
            label: label.unwrap_or_default().to_owned(),
        })
    }
}

/// A key that a caller brings in clear: what it shall be.
pub(crate) fn brought(key_type: KeyType, template: &Template) -> Result<Wanted> {
    template.has_only(BROUGHT)?;
    let uses = match template.number(CKA_CLASS)? {
        Some(CKO_SECRET_KEY) => secret_uses(key_type, template, NewKeys::default())?,
        _ => pair_uses(key_type, template, NewKeys::default())?,
    };
    Wanted::new(key_type, uses, template, None, true)
}

/// A key that comes in wrapped, in so many bytes: what it shall be.
pub(crate) fn arriving(length: usize, public_key: &[u8], template: &Template) -> Result<Wanted> {
    template.has_only(ARRIVING)?;
    if template.flag(CKA_TOKEN)? != Some(true) {
        return Err(Error::new(
            CKR_TEMPLATE_INCONSISTENT,
            "a key that is unwrapped is stored: CKA_TOKEN must be true",
        ));
    }
    let class = template.number(CKA_CLASS)?.ok_or_else(|| incomplete("CKA_CLASS"))?;
    let kind = template
        .number(CKA_KEY_TYPE)?
        .ok_or_else(|| incomplete("CKA_KEY_TYPE"))?;
    // The layout has eight bytes more than the key, which is filled up to whole blocks of eight.
    let filled = length.saturating_sub(8);
    let value = template.number(CKA_VALUE_LEN)?.map_or(filled, |length| length as usize);
    let public = PublicKey::read(public_key).and_then(|public| public.key_type());
    let key_type = match (class, kind, value) {
        (CKO_SECRET_KEY, CKK_AES, 16) => KeyType::Aes128,
        (CKO_SECRET_KEY, CKK_AES, 32) => KeyType::Aes256,
        (CKO_SECRET_KEY, CKK_GENERIC_SECRET, 32) => KeyType::HmacSha256,
        (CKO_SECRET_KEY, CKK_GENERIC_SECRET, 48) => KeyType::HmacSha384,
        (CKO_SECRET_KEY, CKK_GENERIC_SECRET, 64) => KeyType::HmacSha512,
        // As long as PKCS#8 with all its parts is.
        (CKO_PRIVATE_KEY, CKK_RSA, _) if public.is_none() => match filled {
            1190..=1250 => KeyType::Rsa2048,
            1760..=1830 => KeyType::Rsa3072,
            2330..=2410 => KeyType::Rsa4096,
            _ => return Err(CKR_WRAPPED_KEY_LEN_RANGE.into()),
        },
        (CKO_PRIVATE_KEY, CKK_RSA | CKK_EC | CKK_EC_EDWARDS, _) => public.ok_or_else(|| {
            Error::new(
                CKR_TEMPLATE_INCOMPLETE,
                "the template lacks CKA_PUBLIC_KEY_INFO: an HSM does not tell the public half of what it unwrapped",
            )
        })?,
        (CKO_SECRET_KEY, CKK_AES | CKK_GENERIC_SECRET, _) => return Err(CKR_WRAPPED_KEY_LEN_RANGE.into()),
        _ => return Err(CKR_TEMPLATE_INCONSISTENT.into()),
    };
    let uses = match class {
        CKO_SECRET_KEY => secret_uses(key_type, template, NewKeys::default())?,
        _ => pair_uses(key_type, template, NewKeys::default())?,
    };
    Wanted::new(key_type, uses, template, None, true)
}

fn pair_uses(key_type: KeyType, template: &Template, allowed: NewKeys) -> Result<Vec<PermittedUse>> {
    use Gateway::{
        EcdsaSha256, EcdsaSha384, EcdsaSha512, RsaOaepSha1, RsaOaepSha256, RsaPkcs1Encryption, RsaPkcs1Sha256,
        RsaPkcs1Sha384, RsaPkcs1Sha512, RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaRaw,
    };
    let is_rsa = matches!(key_type, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096);
    let is_curve = matches!(key_type, KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521);
    let asked = |flag| template.flag(flag).map(|flag| flag == Some(true));
    let (decrypts, unwraps, derives) = (asked(CKA_DECRYPT)?, asked(CKA_UNWRAP)?, asked(CKA_DERIVE)?);
    // Nothing said means that it signs.
    let signs = template.flag(CKA_SIGN)?.unwrap_or(!decrypts && !derives);
    let mut uses = Vec::new();
    let mut permit = |operation: KeyOperation, mechanisms: &[Gateway]| {
        uses.extend(mechanisms.iter().map(|mechanism| PermittedUse {
            operation: operation.into(),
            mechanism: (*mechanism).into(),
        }));
    };
    if signs && is_rsa {
        permit(
            KeyOperation::Sign,
            &[
                RsaPkcs1Sha256,
                RsaPkcs1Sha384,
                RsaPkcs1Sha512,
                RsaPssSha256,
                RsaPssSha384,
                RsaPssSha512,
            ],
        );
        let by_name = template
            .numbers(CKA_ALLOWED_MECHANISMS)?
            .is_some_and(|named| named.contains(&CKM_RSA_X_509));
        if allowed.raw_rsa || by_name {
            permit(KeyOperation::Sign, &[RsaRaw]);
        }
    } else if signs && is_curve {
        permit(KeyOperation::Sign, &[EcdsaSha256, EcdsaSha384, EcdsaSha512]);
    } else if signs {
        permit(KeyOperation::Sign, &[Gateway::Ed25519]);
    }
    // Wrapping by RSA is decryption of a short secret to whoever may use the key; it is not carried yet.
    if decrypts && is_rsa {
        permit(KeyOperation::Decrypt, &[RsaOaepSha1, RsaOaepSha256]);
        if allowed.rsa_pkcs1_decryption {
            permit(KeyOperation::Decrypt, &[RsaPkcs1Encryption]);
        }
    }
    if derives && is_curve {
        permit(KeyOperation::Derive, &[Gateway::Ecdh]);
    }
    let of_another_type = [(decrypts, is_rsa), (unwraps, is_rsa), (derives, is_curve)];
    if of_another_type.contains(&(true, false)) || uses.is_empty() {
        return Err(Error::new(
            CKR_TEMPLATE_INCONSISTENT,
            "a key of this type cannot be used as the template says",
        ));
    }
    narrowed(uses, template)
}

fn secret_uses(key_type: KeyType, template: &Template, allowed: NewKeys) -> Result<Vec<PermittedUse>> {
    let asked = |flag| template.flag(flag).map(|flag| flag == Some(true));
    let (wraps, unwraps) = (asked(CKA_WRAP)?, asked(CKA_UNWRAP)?);
    if wraps || unwraps {
        return wrapping_uses(key_type, template, (wraps, unwraps));
    }
    let uses: &[(KeyOperation, Gateway)] = match key_type {
        KeyType::HmacSha256 => &[
            (KeyOperation::MacSign, Gateway::HmacSha256),
            (KeyOperation::MacVerify, Gateway::HmacSha256),
        ],
        KeyType::HmacSha384 => &[
            (KeyOperation::MacSign, Gateway::HmacSha384),
            (KeyOperation::MacVerify, Gateway::HmacSha384),
        ],
        KeyType::HmacSha512 => &[
            (KeyOperation::MacSign, Gateway::HmacSha512),
            (KeyOperation::MacVerify, Gateway::HmacSha512),
        ],
        _ if asked(CKA_SIGN)? && !asked(CKA_ENCRYPT)? && !asked(CKA_DECRYPT)? => &[
            (KeyOperation::MacSign, Gateway::AesCmac),
            (KeyOperation::MacVerify, Gateway::AesCmac),
        ],
        // The gateway's own format is undone by who may choose the nonce: a key has one of both.
        _ if allowed.aes_gcm && template.bytes(CKA_ALLOWED_MECHANISMS).is_none() => &[
            (KeyOperation::Encrypt, Gateway::AesGcmCallerIv),
            (KeyOperation::Decrypt, Gateway::AesGcmCallerIv),
        ],
        _ => &[
            (KeyOperation::Encrypt, Gateway::AesGcm),
            (KeyOperation::Decrypt, Gateway::AesGcm),
            (KeyOperation::Encrypt, Gateway::AesCtr),
            (KeyOperation::Decrypt, Gateway::AesCtr),
        ],
    };
    let uses: Vec<_> = uses
        .iter()
        .map(|(operation, mechanism)| PermittedUse {
            operation: (*operation).into(),
            mechanism: (*mechanism).into(),
        })
        .collect();
    // By name alone: modes that give away more than others do.
    let named = template.numbers(CKA_ALLOWED_MECHANISMS)?.unwrap_or_default();
    let is_aes = matches!(key_type, KeyType::Aes128 | KeyType::Aes256);
    let by_name = [
        (CKM_AES_ECB, Gateway::AesEcb),
        (CKM_AES_CBC, Gateway::AesCbcCallerIv),
        (CKM_AES_CBC_PAD, Gateway::AesCbcPadCallerIv),
        (CKM_AES_GCM, Gateway::AesGcmCallerIv),
    ];
    let by_name = by_name
        .into_iter()
        .filter(|(kind, _)| is_aes && named.contains(kind))
        .flat_map(|(_, mechanism)| {
            [KeyOperation::Encrypt, KeyOperation::Decrypt].map(|operation| PermittedUse {
                operation: operation.into(),
                mechanism: mechanism.into(),
            })
        });
    narrowed(uses.into_iter().chain(by_name).collect(), template)
}

/// A key that wraps others does nothing else: what decrypts under the same key would reveal what was wrapped.
fn wrapping_uses(key_type: KeyType, template: &Template, (wraps, unwraps): (bool, bool)) -> Result<Vec<PermittedUse>> {
    let mut does_others = false;
    for flag in [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_DERIVE] {
        does_others |= template.flag(flag)? == Some(true);
    }
    if does_others || !matches!(key_type, KeyType::Aes128 | KeyType::Aes256) {
        return Err(Error::new(
            CKR_TEMPLATE_INCONSISTENT,
            "a key that wraps or unwraps others is an AES key, and does nothing else",
        ));
    }
    let uses = [
        (wraps, KeyOperation::Wrap, Gateway::AesKw),
        (wraps, KeyOperation::Wrap, Gateway::AesKwp),
        (unwraps, KeyOperation::Unwrap, Gateway::AesKwp),
    ];
    let uses = uses.into_iter().filter(|(is_asked, ..)| *is_asked);
    let uses = uses.map(|(_, operation, mechanism)| PermittedUse {
        operation: operation.into(),
        mechanism: mechanism.into(),
    });
    narrowed(uses.collect(), template)
}

/// Only what `CKA_ALLOWED_MECHANISMS` names, where it is given.
fn narrowed(uses: Vec<PermittedUse>, template: &Template) -> Result<Vec<PermittedUse>> {
    let Some(named) = template.numbers(CKA_ALLOWED_MECHANISMS)? else {
        return Ok(uses);
    };
    let kept: Vec<_> = uses
        .into_iter()
        .filter(|one| {
            crate::key::standard(one.mechanism())
                .iter()
                .any(|kind| named.contains(kind))
        })
        .collect();
    match kept.is_empty() {
        true => Err(Error::new(
            CKR_TEMPLATE_INCONSISTENT,
            "CKA_ALLOWED_MECHANISMS leaves nothing of what the key is for",
        )),
        false => Ok(kept),
    }
}

fn curve<'t>(public: &'t Template, private: &'t Template) -> Result<&'t [u8]> {
    let found = public.bytes(CKA_EC_PARAMS).or_else(|| private.bytes(CKA_EC_PARAMS));
    found.ok_or_else(|| incomplete("CKA_EC_PARAMS"))
}

fn require(template: &Template, kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Result<()> {
    match template.number(kind)? {
        Some(found) if found != value => Err(CKR_TEMPLATE_INCONSISTENT.into()),
        _ => Ok(()),
    }
}

fn is_65537(exponent: &[u8]) -> bool {
    let start = exponent.iter().position(|byte| *byte != 0).unwrap_or(exponent.len());
    exponent[start..] == [1, 0, 1]
}

fn incomplete(what: &str) -> Error {
    Error::new(CKR_TEMPLATE_INCOMPLETE, format!("the template lacks {what}"))
}

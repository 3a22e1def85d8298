//! Keys that leave wrapped under a key of the cluster, and come in so.

use super::generation::{self, Wanted};
use crate::{
    error::{Error, Result},
    gateway::Pool,
    key::{Key, Reference},
    mechanism::Mechanism,
    object::{Content, Object},
    output::Output,
    template::Template,
};
use cryptoki_sys::*;
use portcullis_proto::v1::{
    self, ImportMethod, KeyOperation, KeyType, Mechanism as Gateway, export_key_version_request::Recipient,
};

/// Wraps a stored key under a stored wrapping key (`C_WrapKey`). Each of both has to permit it, and so has the policy.
pub(crate) fn wrap(
    pool: &Pool,
    mechanism: &Mechanism,
    wrapping: &Object,
    object: &Object,
    output: &mut Output<'_>,
) -> Result<()> {
    let by = wraps_by(mechanism)?;
    let wrapping = secret(wrapping, CKR_WRAPPING_KEY_TYPE_INCONSISTENT)?;
    if !wrapping.permits(KeyOperation::Wrap, by) {
        return Err(CKR_KEY_FUNCTION_NOT_PERMITTED.into());
    }
    let key = match &object.content {
        Content::PrivateKey(key) | Content::SecretKey(key) => key,
        Content::PublicKey(_) | Content::Secret(_) => return Err(CKR_KEY_NOT_WRAPPABLE.into()),
        Content::Certificate(_) | Content::Data(_) => return Err(CKR_KEY_HANDLE_INVALID.into()),
    };
    if !key.is_exportable {
        return Err(CKR_KEY_UNEXTRACTABLE.into());
    }
    if output.is_query() {
        output.tell(most(key.key_type));
        return Ok(());
    }
    let answer = pool.export_key_version(v1::ExportKeyVersionRequest {
        name: stored(key)?,
        mechanism: by.into(),
        recipient: Some(Recipient::WrappingKey(stored(wrapping)?)),
    })?;
    output.put(&answer.wrapped_key)
}

/// A key that comes wrapped under a stored key (`C_UnwrapKey`), and will be stored.
pub(crate) struct Arrival {
    /// What it shall be.
    pub(crate) wanted: Wanted,
    /// The key under which it is wrapped.
    pub(crate) unwrapping: String,
    /// Its public half, which an HSM does not tell of every key.
    pub(crate) public_key: Vec<u8>,
}

impl Arrival {
    pub(crate) fn new(mechanism: &Mechanism, unwrapping: &Object, wrapped: &[u8], template: &Template) -> Result<Self> {
        if wraps_by(mechanism)? != Gateway::AesKwp {
            return Err(Error::new(
                CKR_MECHANISM_INVALID,
                "keys are unwrapped by AES key wrap with padding alone (CKM_AES_KEY_WRAP_PAD)",
            ));
        }
        let unwrapping = secret(unwrapping, CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT)?;
        if !unwrapping.permits(KeyOperation::Unwrap, Gateway::AesKwp) {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED.into());
        }
        let public_key = template.bytes(CKA_PUBLIC_KEY_INFO).unwrap_or_default().to_vec();
        Ok(Self {
            wanted: generation::arriving(wrapped.len(), &public_key, template)?,
            unwrapping: stored(unwrapping)?,
            public_key,
        })
    }

    /// How the gateway takes it.
    pub(crate) const METHOD: ImportMethod = ImportMethod::AesKwp;
}

fn wraps_by(mechanism: &Mechanism) -> Result<Gateway> {
    mechanism.without_parameters()?;
    match mechanism.kind {
        CKM_AES_KEY_WRAP => Ok(Gateway::AesKw),
        // RFC 5649 under both numbers: the first one is what tokens made of it before 3.0 told them apart.
        CKM_AES_KEY_WRAP_PAD | CKM_AES_KEY_WRAP_KWP => Ok(Gateway::AesKwp),
        _ => Err(mechanism.invalid()),
    }
}

fn secret(object: &Object, otherwise: CK_RV) -> Result<&Key> {
    match &object.content {
        Content::SecretKey(key) if key.pkcs11_type() == CKK_AES => Ok(key),
        _ => Err(otherwise.into()),
    }
}

fn stored(key: &Key) -> Result<String> {
    match &key.reference {
        Reference::Stored { key, version } => Ok(format!("{key}/versions/{version}")),
        Reference::Ephemeral(_) | Reference::Brought => Err(Error::new(
            CKR_KEY_NOT_WRAPPABLE,
            "a session's key is not wrapped, and wraps nothing: generate it with CKA_TOKEN",
        )),
    }
}

/// How long a key of a type can be when it is wrapped: secret keys as they are, private keys as PKCS#8.
fn most(key_type: KeyType) -> usize {
    let length: usize = match key_type {
        KeyType::Rsa2048 => 1240,
        KeyType::Rsa3072 => 1820,
        KeyType::Rsa4096 => 2400,
        KeyType::EcP256 | KeyType::Ed25519 => 152,
        KeyType::EcP384 => 200,
        KeyType::EcP521 => 256,
        KeyType::Aes128 => 16,
        KeyType::Aes256 | KeyType::HmacSha256 => 32,
        KeyType::HmacSha384 => 48,
        KeyType::HmacSha512 => 64,
        KeyType::Unspecified => 0,
    };
    length.next_multiple_of(8) + 8
}

//! From a purpose to the uses that it stands for.

use portcullis_hsm::algorithm::{Family, KeyType, Mechanism, Operation, PermittedUse, PermittedUses, UsesError};

/// The usual reasons to have a key. The numbers are those of `KeyPurpose` in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signatures.
    SignVerify = 1,
    /// Authenticated encryption under a secret key.
    EncryptDecrypt = 2,
    /// Message authentication codes.
    Mac = 3,
    /// Decryption of what was encrypted to the public key.
    AsymmetricDecrypt = 4,
    /// Agreement on a secret.
    KeyAgreement = 5,
    /// Wrapping other keys.
    WrapUnwrap = 6,
    /// What the caller listed.
    Custom = 15,
}

/// Why a purpose and a key type do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurposeError {
    /// The key type has several purposes or mechanisms and none was chosen.
    #[error("a key of type {0} has several possible uses: say which by purpose or permitted_uses")]
    Ambiguous(KeyType),
    /// The key type has no such purpose.
    #[error("a key of type {0} cannot have the purpose {1}")]
    Unfit(KeyType, &'static str),
    /// Uses were listed together with a purpose that decides them.
    #[error("permitted_uses can be given only with the purpose CUSTOM, or with none")]
    UsesGivenTwice,
    /// The listed uses are no valid set.
    #[error(transparent)]
    Uses(#[from] UsesError),
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 7] = [
        Self::SignVerify,
        Self::EncryptDecrypt,
        Self::Mac,
        Self::AsymmetricDecrypt,
        Self::KeyAgreement,
        Self::WrapUnwrap,
        Self::Custom,
    ];

    /// The purpose with this number, if it is known.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as i32 == number)
    }

    /// The purpose with this name, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name, as policies, filters and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignVerify => "SIGN_VERIFY",
            Self::EncryptDecrypt => "ENCRYPT_DECRYPT",
            Self::Mac => "MAC",
            Self::AsymmetricDecrypt => "ASYMMETRIC_DECRYPT",
            Self::KeyAgreement => "KEY_AGREEMENT",
            Self::WrapUnwrap => "WRAP_UNWRAP",
            Self::Custom => "CUSTOM",
        }
    }
}

/// The purpose and uses of a new key, from what the caller said of either.
///
/// With nothing said, the type must have one obvious use: elliptic-curve keys sign with their curve's hash, AES keys do
/// GCM, HMAC keys MAC. An RSA key says what it is for, and signs with PSS and PKCS#1 v1.5 (SHA-256) if it is for
/// signing.
pub fn resolve(
    key_type: KeyType,
    purpose: Option<Purpose>,
    listed: Vec<PermittedUse>,
) -> Result<(Purpose, PermittedUses), PurposeError> {
    if !listed.is_empty() {
        return match purpose {
            None | Some(Purpose::Custom) => Ok((Purpose::Custom, PermittedUses::new(key_type, listed)?)),
            Some(_) => Err(PurposeError::UsesGivenTwice),
        };
    }
    let purpose = match purpose {
        Some(purpose) => purpose,
        None => match key_type.family() {
            Family::Ec | Family::Edwards => Purpose::SignVerify,
            Family::Aes(_) => Purpose::EncryptDecrypt,
            Family::Hmac(_) => Purpose::Mac,
            Family::Rsa(_) => return Err(PurposeError::Ambiguous(key_type)),
        },
    };
    let uses = usual_uses(key_type, purpose).ok_or(PurposeError::Unfit(key_type, purpose.name()))?;
    Ok((purpose, PermittedUses::new(key_type, uses)?))
}

/// The purpose of a key of which only the uses are known: the one whose usual uses they are, else CUSTOM.
pub fn of(key_type: KeyType, uses: &PermittedUses) -> Purpose {
    let stands_for = |purpose: &Purpose| {
        usual_uses(key_type, *purpose)
            .and_then(|usual| PermittedUses::new(key_type, usual).ok())
            .is_some_and(|usual| usual == *uses)
    };
    Purpose::ALL.into_iter().find(stands_for).unwrap_or(Purpose::Custom)
}

fn usual_uses(key_type: KeyType, purpose: Purpose) -> Option<Vec<PermittedUse>> {
    let each = |operations: &[Operation], mechanism| {
        operations
            .iter()
            .map(|operation| PermittedUse::new(*operation, mechanism))
            .collect()
    };
    match (purpose, key_type) {
        (Purpose::SignVerify, KeyType::EcP256) => Some(each(&[Operation::Sign], Mechanism::EcdsaSha256)),
        (Purpose::SignVerify, KeyType::EcP384) => Some(each(&[Operation::Sign], Mechanism::EcdsaSha384)),
        (Purpose::SignVerify, KeyType::EcP521) => Some(each(&[Operation::Sign], Mechanism::EcdsaSha512)),
        (Purpose::SignVerify, KeyType::Ed25519) => Some(each(&[Operation::Sign], Mechanism::Ed25519)),
        (Purpose::SignVerify, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096) => Some(vec![
            PermittedUse::new(Operation::Sign, Mechanism::RsaPssSha256),
            PermittedUse::new(Operation::Sign, Mechanism::RsaPkcs1Sha256),
        ]),
        (Purpose::EncryptDecrypt, KeyType::Aes128 | KeyType::Aes256) => {
            Some(each(&[Operation::Encrypt, Operation::Decrypt], Mechanism::AesGcm))
        }
        (Purpose::Mac, KeyType::HmacSha256) => Some(each(&MAC, Mechanism::HmacSha256)),
        (Purpose::Mac, KeyType::HmacSha384) => Some(each(&MAC, Mechanism::HmacSha384)),
        (Purpose::Mac, KeyType::HmacSha512) => Some(each(&MAC, Mechanism::HmacSha512)),
        (Purpose::Mac, KeyType::Aes128 | KeyType::Aes256) => Some(each(&MAC, Mechanism::AesCmac)),
        (Purpose::AsymmetricDecrypt, KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096) => {
            Some(each(&[Operation::Decrypt], Mechanism::RsaOaepSha256))
        }
        (Purpose::KeyAgreement, KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521) => {
            Some(each(&[Operation::Derive], Mechanism::Ecdh))
        }
        (Purpose::WrapUnwrap, KeyType::Aes128 | KeyType::Aes256) => {
            Some(each(&[Operation::Wrap, Operation::Unwrap], Mechanism::AesKwp))
        }
        _ => None,
    }
}

const MAC: [Operation; 2] = [Operation::MacSign, Operation::MacVerify];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_obvious_use_needs_no_words() {
        let (purpose, uses) = resolve(KeyType::EcP256, None, Vec::new()).expect("obvious");
        assert_eq!(purpose, Purpose::SignVerify);
        assert!(uses.permit(Operation::Sign, Mechanism::EcdsaSha256));
        assert_eq!(
            resolve(KeyType::Rsa2048, None, Vec::new()),
            Err(PurposeError::Ambiguous(KeyType::Rsa2048))
        );
    }

    #[test]
    fn a_purpose_and_a_list_exclude_each_other() {
        let listed = vec![PermittedUse::new(Operation::Sign, Mechanism::EcdsaSha256)];
        assert_eq!(
            resolve(KeyType::EcP256, Some(Purpose::SignVerify), listed.clone()),
            Err(PurposeError::UsesGivenTwice)
        );
        assert!(resolve(KeyType::EcP256, Some(Purpose::Custom), listed).is_ok());
        assert_eq!(
            resolve(KeyType::EcP256, Some(Purpose::Custom), Vec::new()),
            Err(PurposeError::Unfit(KeyType::EcP256, "CUSTOM"))
        );
    }
}

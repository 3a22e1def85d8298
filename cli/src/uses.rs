//! What a new key may be used for: from the words of the command line to the API's permitted uses.

use clap::ValueEnum;
use portcullis_client::v1::{KeyOperation, KeyPurpose, Mechanism, PermittedUse};

/// The usual reasons to have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Sign
    Sign,
    /// Encrypt and decrypt under a symmetric key
    Encrypt,
    /// Make and check message authentication codes
    Mac,
    /// Decrypt what was encrypted to the public key
    AsymmetricDecrypt,
    /// Agree on secrets with peers
    Agree,
    /// Wrap and unwrap other keys
    Wrap,
}

/// The uses of a new key, as a request has them.
pub(crate) struct RequestedUses {
    pub(crate) purpose: KeyPurpose,
    /// Empty where the gateway derives them from the purpose.
    pub(crate) permitted: Vec<PermittedUse>,
}

impl RequestedUses {
    /// Without mechanisms the purpose decides, or else the key's type. With mechanisms the list is exact: each is
    /// permitted for the purpose's operations, or else for the operations that it is usually for.
    pub(crate) fn new(purpose: Option<Purpose>, mechanisms: &[Mechanism]) -> Self {
        if mechanisms.is_empty() {
            let purpose = purpose.map_or(KeyPurpose::Unspecified, Purpose::in_api);
            return Self {
                purpose,
                permitted: Vec::new(),
            };
        }
        let mut permitted: Vec<PermittedUse> = Vec::new();
        for mechanism in mechanisms {
            let operations = purpose.map_or_else(|| usual_operations(*mechanism), Purpose::operations);
            for operation in operations {
                let allowed = PermittedUse {
                    operation: *operation as i32,
                    mechanism: *mechanism as i32,
                };
                if !permitted.contains(&allowed) {
                    permitted.push(allowed);
                }
            }
        }
        Self {
            purpose: KeyPurpose::Custom,
            permitted,
        }
    }
}

impl Purpose {
    fn in_api(self) -> KeyPurpose {
        match self {
            Self::Sign => KeyPurpose::SignVerify,
            Self::Encrypt => KeyPurpose::EncryptDecrypt,
            Self::Mac => KeyPurpose::Mac,
            Self::AsymmetricDecrypt => KeyPurpose::AsymmetricDecrypt,
            Self::Agree => KeyPurpose::KeyAgreement,
            Self::Wrap => KeyPurpose::WrapUnwrap,
        }
    }

    fn operations(self) -> &'static [KeyOperation] {
        match self {
            Self::Sign => &[KeyOperation::Sign],
            Self::Encrypt => &[KeyOperation::Encrypt, KeyOperation::Decrypt],
            Self::Mac => &[KeyOperation::MacSign, KeyOperation::MacVerify],
            Self::AsymmetricDecrypt => &[KeyOperation::Decrypt],
            Self::Agree => &[KeyOperation::Derive],
            Self::Wrap => &[KeyOperation::Wrap, KeyOperation::Unwrap],
        }
    }
}

/// The word for a key's purpose: that of the command line where there is one.
pub(crate) fn purpose_word(value: i32) -> String {
    let Ok(purpose) = KeyPurpose::try_from(value) else {
        return format!("unknown-{value}");
    };
    let known = Purpose::value_variants().iter().find(|known| known.in_api() == purpose);
    match (known.and_then(Purpose::to_possible_value), purpose) {
        (Some(value), _) => value.get_name().to_owned(),
        (None, KeyPurpose::Custom) => "custom".to_owned(),
        (None, _) => "unspecified".to_owned(),
    }
}

/// What a mechanism is for when nobody says otherwise.
fn usual_operations(mechanism: Mechanism) -> &'static [KeyOperation] {
    let purpose = match mechanism {
        Mechanism::Unspecified => return &[],
        Mechanism::EcdsaSha256
        | Mechanism::EcdsaSha384
        | Mechanism::EcdsaSha512
        | Mechanism::RsaPkcs1Sha256
        | Mechanism::RsaPkcs1Sha384
        | Mechanism::RsaPkcs1Sha512
        | Mechanism::RsaPssSha256
        | Mechanism::RsaPssSha384
        | Mechanism::RsaPssSha512
        | Mechanism::Ed25519 => Purpose::Sign,
        Mechanism::RsaOaepSha1 | Mechanism::RsaOaepSha256 | Mechanism::RsaPkcs1Encryption | Mechanism::RsaRaw => {
            Purpose::AsymmetricDecrypt
        }
        Mechanism::AesGcm
        | Mechanism::AesGcmCallerIv
        | Mechanism::AesCbc
        | Mechanism::AesCbcCallerIv
        | Mechanism::AesCbcPad
        | Mechanism::AesCbcPadCallerIv
        | Mechanism::AesCtr
        | Mechanism::AesEcb => Purpose::Encrypt,
        Mechanism::AesCmac | Mechanism::HmacSha256 | Mechanism::HmacSha384 | Mechanism::HmacSha512 => Purpose::Mac,
        Mechanism::AesKw | Mechanism::AesKwp => Purpose::Wrap,
        Mechanism::Ecdh => Purpose::Agree,
    };
    purpose.operations()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(purpose: Option<Purpose>, mechanisms: &[Mechanism]) -> Vec<(&'static str, &'static str)> {
        let uses = RequestedUses::new(purpose, mechanisms);
        assert!(uses.purpose == KeyPurpose::Custom);
        uses.permitted
            .iter()
            .map(|used| (used.operation().as_str_name(), used.mechanism().as_str_name()))
            .collect()
    }

    #[test]
    fn without_mechanisms_the_purpose_is_passed_on() {
        for (purpose, in_api) in [
            (None, KeyPurpose::Unspecified),
            (Some(Purpose::Sign), KeyPurpose::SignVerify),
            (Some(Purpose::Encrypt), KeyPurpose::EncryptDecrypt),
            (Some(Purpose::Mac), KeyPurpose::Mac),
            (Some(Purpose::AsymmetricDecrypt), KeyPurpose::AsymmetricDecrypt),
            (Some(Purpose::Agree), KeyPurpose::KeyAgreement),
            (Some(Purpose::Wrap), KeyPurpose::WrapUnwrap),
        ] {
            let uses = RequestedUses::new(purpose, &[]);
            assert!(uses.purpose == in_api, "{purpose:?}");
            assert!(uses.permitted.is_empty(), "{purpose:?}");
        }
    }

    #[test]
    fn a_purpose_gives_its_operations_to_each_mechanism() {
        assert_eq!(
            pairs(
                Some(Purpose::Sign),
                &[Mechanism::RsaPkcs1Sha256, Mechanism::RsaPssSha256]
            ),
            [
                ("KEY_OPERATION_SIGN", "MECHANISM_RSA_PKCS1_SHA256"),
                ("KEY_OPERATION_SIGN", "MECHANISM_RSA_PSS_SHA256"),
            ]
        );
        for (purpose, mechanism, operations) in [
            (
                Purpose::Encrypt,
                Mechanism::AesGcm,
                &["KEY_OPERATION_ENCRYPT", "KEY_OPERATION_DECRYPT"][..],
            ),
            (
                Purpose::Mac,
                Mechanism::HmacSha256,
                &["KEY_OPERATION_MAC_SIGN", "KEY_OPERATION_MAC_VERIFY"],
            ),
            (
                Purpose::AsymmetricDecrypt,
                Mechanism::RsaOaepSha256,
                &["KEY_OPERATION_DECRYPT"],
            ),
            (Purpose::Agree, Mechanism::Ecdh, &["KEY_OPERATION_DERIVE"]),
            (
                Purpose::Wrap,
                Mechanism::AesKwp,
                &["KEY_OPERATION_WRAP", "KEY_OPERATION_UNWRAP"],
            ),
            (
                Purpose::Wrap,
                Mechanism::RsaOaepSha256,
                &["KEY_OPERATION_WRAP", "KEY_OPERATION_UNWRAP"],
            ),
        ] {
            let found: Vec<_> = pairs(Some(purpose), &[mechanism])
                .into_iter()
                .map(|(operation, _)| operation)
                .collect();
            assert_eq!(found, operations, "{purpose:?}");
        }
    }

    #[test]
    fn without_a_purpose_each_mechanism_has_its_usual_operations() {
        assert_eq!(
            pairs(None, &[Mechanism::RsaPssSha256, Mechanism::RsaPkcs1Encryption]),
            [
                ("KEY_OPERATION_SIGN", "MECHANISM_RSA_PSS_SHA256"),
                ("KEY_OPERATION_DECRYPT", "MECHANISM_RSA_PKCS1_ENCRYPTION"),
            ]
        );
    }

    #[test]
    fn a_mechanism_that_is_named_twice_counts_once() {
        assert_eq!(pairs(None, &[Mechanism::EcdsaSha256, Mechanism::EcdsaSha256]).len(), 1);
    }

    #[test]
    fn purposes_are_shown_in_the_words_of_the_command_line() {
        assert_eq!(purpose_word(KeyPurpose::SignVerify as i32), "sign");
        assert_eq!(purpose_word(KeyPurpose::AsymmetricDecrypt as i32), "asymmetric-decrypt");
        assert_eq!(purpose_word(KeyPurpose::Custom as i32), "custom");
        assert_eq!(purpose_word(0), "unspecified");
        assert_eq!(purpose_word(99), "unknown-99");
    }
}

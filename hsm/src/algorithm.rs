//! Key types, operations and mechanisms, with the numbers under which they are stored for ever.
//!
//! The numbers are those of the enums in `portcullis.v1` and stand in key tokens; they are never changed or used again.

use std::fmt;

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident($repr:ty) { $($(#[$doc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The permanent number.
            pub fn number(self) -> $repr {
                match self { $(Self::$variant => $number,)* }
            }

            /// The one with this number, if it is known.
            pub fn from_number(number: $repr) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The name, as configuration, command line and messages write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}

numbered! {
    /// What a key is.
    KeyType(u16) {
        /// RSA with a 2048-bit modulus and the exponent 65537.
        Rsa2048 = 1, "RSA_2048";
        /// RSA with a 3072-bit modulus.
        Rsa3072 = 2, "RSA_3072";
        /// RSA with a 4096-bit modulus.
        Rsa4096 = 3, "RSA_4096";
        /// The NIST curve P-256 (SP 800-186).
        EcP256 = 16, "EC_P256";
        /// The NIST curve P-384.
        EcP384 = 17, "EC_P384";
        /// The NIST curve P-521.
        EcP521 = 18, "EC_P521";
        /// Ed25519 (RFC 8032).
        Ed25519 = 24, "ED25519";
        /// A 128-bit AES key.
        Aes128 = 32, "AES_128";
        /// A 256-bit AES key.
        Aes256 = 33, "AES_256";
        /// A 32-byte key for HMAC-SHA-256.
        HmacSha256 = 48, "HMAC_SHA256";
        /// A 48-byte key for HMAC-SHA-384.
        HmacSha384 = 49, "HMAC_SHA384";
        /// A 64-byte key for HMAC-SHA-512.
        HmacSha512 = 50, "HMAC_SHA512";
    }
}

numbered! {
    /// What is done with a key's secret half. Verification and public-key encryption follow from `Sign` and `Decrypt`.
    Operation(u8) {
        /// Make a signature.
        Sign = 1, "SIGN";
        /// Encrypt under a secret key.
        Encrypt = 2, "ENCRYPT";
        /// Decrypt.
        Decrypt = 3, "DECRYPT";
        /// Make a message authentication code.
        MacSign = 4, "MAC_SIGN";
        /// Check a message authentication code.
        MacVerify = 5, "MAC_VERIFY";
        /// Wrap another key.
        Wrap = 6, "WRAP";
        /// Unwrap another key.
        Unwrap = 7, "UNWRAP";
        /// Agree on a secret.
        Derive = 8, "DERIVE";
    }
}

numbered! {
    /// How an operation is done, hash included.
    Mechanism(u16) {
        /// ECDSA over a SHA-256 digest (FIPS 186-5).
        EcdsaSha256 = 1, "ECDSA_SHA256";
        /// ECDSA over a SHA-384 digest.
        EcdsaSha384 = 2, "ECDSA_SHA384";
        /// ECDSA over a SHA-512 digest.
        EcdsaSha512 = 3, "ECDSA_SHA512";
        /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017).
        RsaPkcs1Sha256 = 16, "RSA_PKCS1_SHA256";
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        RsaPkcs1Sha384 = 17, "RSA_PKCS1_SHA384";
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        RsaPkcs1Sha512 = 18, "RSA_PKCS1_SHA512";
        /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a 32-byte salt (RFC 8017).
        RsaPssSha256 = 24, "RSA_PSS_SHA256";
        /// RSASSA-PSS with SHA-384 and a 48-byte salt.
        RsaPssSha384 = 25, "RSA_PSS_SHA384";
        /// RSASSA-PSS with SHA-512 and a 64-byte salt.
        RsaPssSha512 = 26, "RSA_PSS_SHA512";
        /// RSAES-OAEP with SHA-1 and MGF1-SHA-1 (RFC 8017).
        RsaOaepSha1 = 32, "RSA_OAEP_SHA1";
        /// RSAES-OAEP with SHA-256 and MGF1-SHA-256.
        RsaOaepSha256 = 33, "RSA_OAEP_SHA256";
        /// RSAES-PKCS1-v1_5.
        RsaPkcs1Encryption = 40, "RSA_PKCS1_ENCRYPTION";
        /// RSA without padding.
        RsaRaw = 41, "RSA_RAW";
        /// Ed25519 over the message (RFC 8032).
        Ed25519 = 48, "ED25519";
        /// AES-GCM with a random 96-bit nonce and a 128-bit tag (SP 800-38D).
        AesGcm = 64, "AES_GCM";
        /// AES-CBC without padding.
        AesCbc = 65, "AES_CBC";
        /// AES-CBC with PKCS#7 padding.
        AesCbcPad = 66, "AES_CBC_PAD";
        /// AES in counter mode.
        AesCtr = 67, "AES_CTR";
        /// AES in electronic codebook mode.
        AesEcb = 68, "AES_ECB";
        /// AES-CMAC (SP 800-38B).
        AesCmac = 69, "AES_CMAC";
        /// AES key wrap (RFC 3394).
        AesKw = 70, "AES_KW";
        /// AES key wrap with padding (RFC 5649).
        AesKwp = 71, "AES_KWP";
        /// AES-GCM with a nonce that the caller chooses.
        AesGcmCallerIv = 72, "AES_GCM_CALLER_IV";
        /// AES-CBC without padding, with an initialisation vector that the caller chooses.
        AesCbcCallerIv = 73, "AES_CBC_CALLER_IV";
        /// AES-CBC with PKCS#7 padding, with an initialisation vector that the caller chooses.
        AesCbcPadCallerIv = 74, "AES_CBC_PAD_CALLER_IV";
        /// HMAC-SHA-256 (FIPS 198-1).
        HmacSha256 = 96, "HMAC_SHA256";
        /// HMAC-SHA-384.
        HmacSha384 = 97, "HMAC_SHA384";
        /// HMAC-SHA-512.
        HmacSha512 = 98, "HMAC_SHA512";
        /// Elliptic-curve Diffie-Hellman (SP 800-56A).
        Ecdh = 112, "ECDH";
    }
}

/// A hash function that a mechanism applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The digest's length in bytes.
    pub fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// The family of a key: what decides which operations make sense at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// RSA, with the modulus length in bits.
    Rsa(u32),
    /// A NIST curve.
    Ec,
    /// An Edwards curve.
    Edwards,
    /// AES, with the key length in bytes.
    Aes(usize),
    /// HMAC, with the key length in bytes.
    Hmac(usize),
}

impl KeyType {
    /// The key's family.
    pub fn family(self) -> Family {
        match self {
            Self::Rsa2048 => Family::Rsa(2048),
            Self::Rsa3072 => Family::Rsa(3072),
            Self::Rsa4096 => Family::Rsa(4096),
            Self::EcP256 | Self::EcP384 | Self::EcP521 => Family::Ec,
            Self::Ed25519 => Family::Edwards,
            Self::Aes128 => Family::Aes(16),
            Self::Aes256 => Family::Aes(32),
            Self::HmacSha256 => Family::Hmac(32),
            Self::HmacSha384 => Family::Hmac(48),
            Self::HmacSha512 => Family::Hmac(64),
        }
    }

    /// Whether the key has a public half.
    pub fn is_asymmetric(self) -> bool {
        matches!(self.family(), Family::Rsa(_) | Family::Ec | Family::Edwards)
    }

    /// The length in bytes of a secret key's value; `None` for key pairs.
    pub fn secret_length(self) -> Option<usize> {
        match self.family() {
            Family::Aes(length) | Family::Hmac(length) => Some(length),
            Family::Rsa(_) | Family::Ec | Family::Edwards => None,
        }
    }

    /// The length in bytes of a coordinate of an elliptic curve's points.
    pub fn field_length(self) -> Option<usize> {
        match self {
            Self::EcP256 | Self::Ed25519 => Some(32),
            Self::EcP384 => Some(48),
            Self::EcP521 => Some(66),
            _ => None,
        }
    }
}

impl Mechanism {
    /// The hash over which the mechanism signs; `None` where it takes the whole message or no hash.
    pub fn signature_hash(self) -> Option<Hash> {
        match self {
            Self::EcdsaSha256 | Self::RsaPkcs1Sha256 | Self::RsaPssSha256 => Some(Hash::Sha256),
            Self::EcdsaSha384 | Self::RsaPkcs1Sha384 | Self::RsaPssSha384 => Some(Hash::Sha384),
            Self::EcdsaSha512 | Self::RsaPkcs1Sha512 | Self::RsaPssSha512 => Some(Hash::Sha512),
            _ => None,
        }
    }

    /// Whether it encrypts under an initialisation vector that the caller chooses, and not one that the HSM draws.
    pub fn takes_callers_iv(self) -> bool {
        matches!(
            self,
            Self::AesGcmCallerIv | Self::AesCbcCallerIv | Self::AesCbcPadCallerIv
        )
    }

    /// Whether a key type can be used so at all.
    pub fn fits(self, operation: Operation, key_type: KeyType) -> bool {
        use Operation::{Decrypt, Derive, Encrypt, MacSign, MacVerify, Sign, Unwrap, Wrap};
        match self {
            Self::EcdsaSha256 | Self::EcdsaSha384 | Self::EcdsaSha512 => {
                operation == Sign && key_type.family() == Family::Ec
            }
            Self::RsaPkcs1Sha256
            | Self::RsaPkcs1Sha384
            | Self::RsaPkcs1Sha512
            | Self::RsaPssSha256
            | Self::RsaPssSha384
            | Self::RsaPssSha512 => operation == Sign && matches!(key_type.family(), Family::Rsa(_)),
            Self::RsaOaepSha1 | Self::RsaOaepSha256 | Self::RsaPkcs1Encryption => {
                matches!(operation, Decrypt | Unwrap) && matches!(key_type.family(), Family::Rsa(_))
            }
            Self::RsaRaw => matches!(operation, Sign | Decrypt) && matches!(key_type.family(), Family::Rsa(_)),
            Self::Ed25519 => operation == Sign && key_type == KeyType::Ed25519,
            Self::AesGcm
            | Self::AesGcmCallerIv
            | Self::AesCbc
            | Self::AesCbcCallerIv
            | Self::AesCbcPad
            | Self::AesCbcPadCallerIv
            | Self::AesCtr
            | Self::AesEcb => matches!(operation, Encrypt | Decrypt) && matches!(key_type.family(), Family::Aes(_)),
            Self::AesCmac => matches!(operation, MacSign | MacVerify) && matches!(key_type.family(), Family::Aes(_)),
            Self::AesKw | Self::AesKwp => {
                matches!(operation, Wrap | Unwrap) && matches!(key_type.family(), Family::Aes(_))
            }
            Self::HmacSha256 => matches!(operation, MacSign | MacVerify) && key_type == KeyType::HmacSha256,
            Self::HmacSha384 => matches!(operation, MacSign | MacVerify) && key_type == KeyType::HmacSha384,
            Self::HmacSha512 => matches!(operation, MacSign | MacVerify) && key_type == KeyType::HmacSha512,
            Self::Ecdh => operation == Derive && key_type.family() == Family::Ec,
        }
    }
}

/// One thing that a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermittedUse {
    /// What is done.
    pub operation: Operation,
    /// How it is done.
    pub mechanism: Mechanism,
}

impl PermittedUse {
    /// A pair.
    pub fn new(operation: Operation, mechanism: Mechanism) -> Self {
        Self { operation, mechanism }
    }
}

impl fmt::Display for PermittedUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} with {}", self.operation, self.mechanism)
    }
}

/// What a key may be used for: at least one use, sorted, each fitting the key's type, none in conflict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PermittedUses(Vec<PermittedUse>);

/// Why a set of uses is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsesError {
    /// A key that may do nothing.
    #[error("a key needs at least one permitted use")]
    Empty,
    /// A use that the key type cannot have.
    #[error("a key of type {key_type} cannot {permitted_use}")]
    Unfit {
        /// The key type.
        key_type: KeyType,
        /// The use.
        permitted_use: PermittedUse,
    },
    /// Two uses that would let the key's holder undo the protection of a wrapped key.
    #[error("{0} and {1} are never permitted on one key: together they reveal wrapped keys")]
    Conflict(Operation, Operation),
}

impl PermittedUses {
    /// A set of uses for a key type. Duplicates are joined.
    ///
    /// # Errors
    ///
    /// No use, a use that does not fit the type, or WRAP with DECRYPT, or UNWRAP with ENCRYPT (PKCS#11 2.40 attacks on
    /// wrapping keys).
    pub fn new(key_type: KeyType, uses: impl IntoIterator<Item = PermittedUse>) -> Result<Self, UsesError> {
        let mut uses: Vec<_> = uses.into_iter().collect();
        uses.sort_unstable();
        uses.dedup();
        if uses.is_empty() {
            return Err(UsesError::Empty);
        }
        if let Some(&permitted_use) = uses.iter().find(|one| !one.mechanism.fits(one.operation, key_type)) {
            return Err(UsesError::Unfit {
                key_type,
                permitted_use,
            });
        }
        let has = |operation| uses.iter().any(|one| one.operation == operation);
        for (first, second) in [
            (Operation::Wrap, Operation::Decrypt),
            (Operation::Unwrap, Operation::Encrypt),
        ] {
            if has(first) && has(second) {
                return Err(UsesError::Conflict(first, second));
            }
        }
        Ok(Self(uses))
    }

    /// The uses, sorted by operation and mechanism.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PermittedUse> + '_ {
        self.0.iter().copied()
    }

    /// Whether the key may do this.
    pub fn permit(&self, operation: Operation, mechanism: Mechanism) -> bool {
        self.0.contains(&PermittedUse { operation, mechanism })
    }

    /// Whether the key may do this with any mechanism.
    pub fn permit_operation(&self, operation: Operation) -> bool {
        self.0.iter().any(|one| one.operation == operation)
    }

    /// The mechanisms that are permitted for an operation.
    pub fn mechanisms(&self, operation: Operation) -> impl Iterator<Item = Mechanism> + '_ {
        self.0
            .iter()
            .filter(move |one| one.operation == operation)
            .map(|one| one.mechanism)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keys_never_decrypt() {
        let uses = [
            PermittedUse::new(Operation::Wrap, Mechanism::AesKwp),
            PermittedUse::new(Operation::Decrypt, Mechanism::AesGcm),
        ];
        assert_eq!(
            PermittedUses::new(KeyType::Aes256, uses),
            Err(UsesError::Conflict(Operation::Wrap, Operation::Decrypt))
        );
        let uses = [
            PermittedUse::new(Operation::Unwrap, Mechanism::AesKwp),
            PermittedUse::new(Operation::Encrypt, Mechanism::AesGcm),
        ];
        assert_eq!(
            PermittedUses::new(KeyType::Aes256, uses),
            Err(UsesError::Conflict(Operation::Unwrap, Operation::Encrypt))
        );
    }

    #[test]
    fn a_use_must_fit_the_type() {
        let permitted_use = PermittedUse::new(Operation::Sign, Mechanism::EcdsaSha256);
        assert_eq!(
            PermittedUses::new(KeyType::Rsa2048, [permitted_use]),
            Err(UsesError::Unfit {
                key_type: KeyType::Rsa2048,
                permitted_use
            })
        );
        assert_eq!(PermittedUses::new(KeyType::Rsa2048, []), Err(UsesError::Empty));
    }

    #[test]
    fn numbers_are_unique_and_read_back() {
        for key_type in KeyType::ALL {
            assert_eq!(KeyType::from_number(key_type.number()), Some(*key_type));
        }
        for operation in Operation::ALL {
            assert_eq!(Operation::from_number(operation.number()), Some(*operation));
        }
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::from_number(mechanism.number()), Some(*mechanism));
        }
    }

    #[test]
    fn every_key_type_has_a_use() {
        for key_type in KeyType::ALL {
            assert!(
                Operation::ALL.iter().any(|operation| {
                    Mechanism::ALL
                        .iter()
                        .any(|mechanism| mechanism.fits(*operation, *key_type))
                }),
                "{key_type}"
            );
        }
    }
}

//! The hash functions, under the numbers that the standard has for them.

use aws_lc_rs::digest::{self, Algorithm, Context};
use cryptoki_sys::*;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

impl Hash {
    pub(crate) const ALL: [Self; 8] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
    ];

    /// The mechanism that digests with it.
    pub(crate) fn mechanism(self) -> CK_MECHANISM_TYPE {
        match self {
            Self::Sha1 => CKM_SHA_1,
            Self::Sha224 => CKM_SHA224,
            Self::Sha256 => CKM_SHA256,
            Self::Sha384 => CKM_SHA384,
            Self::Sha512 => CKM_SHA512,
            Self::Sha3_256 => CKM_SHA3_256,
            Self::Sha3_384 => CKM_SHA3_384,
            Self::Sha3_512 => CKM_SHA3_512,
        }
    }

    pub(crate) fn by_mechanism(mechanism: CK_MECHANISM_TYPE) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.mechanism() == mechanism)
    }

    /// By the number that a mask generation function has.
    pub(crate) fn by_mgf(mgf: CK_RSA_PKCS_MGF_TYPE) -> Option<Self> {
        match mgf {
            CKG_MGF1_SHA1 => Some(Self::Sha1),
            CKG_MGF1_SHA224 => Some(Self::Sha224),
            CKG_MGF1_SHA256 => Some(Self::Sha256),
            CKG_MGF1_SHA384 => Some(Self::Sha384),
            CKG_MGF1_SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(crate) fn length(self) -> usize {
        self.algorithm().output_len()
    }

    pub(crate) fn of(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), data).as_ref().to_vec()
    }

    pub(crate) fn begin(self) -> Context {
        Context::new(self.algorithm())
    }

    /// What stands before the digest in a DigestInfo (RFC 8017, section 9.2, note 1); none for SHA-3, which that does not list.
    pub(crate) fn digest_info(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::Sha1 => b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
            Self::Sha224 => b"\x30\x2d\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x04\x05\x00\x04\x1c",
            Self::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            Self::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Self::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
            Self::Sha3_256 | Self::Sha3_384 | Self::Sha3_512 => return None,
        })
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
            Self::Sha3_256 => &digest::SHA3_256,
            Self::Sha3_384 => &digest::SHA3_384,
            Self::Sha3_512 => &digest::SHA3_512,
        }
    }
}

//! The mechanisms that the module carries, and their parameters.

use crate::{
    error::{Error, Result},
    software::hash::Hash,
};
use cryptoki_sys::*;

/// A mechanism with its parameters, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mechanism {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) parameters: Parameters,
}

/// The parameters, as far as they were recognised by the mechanism's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parameters {
    None,
    /// An initialisation vector, or whatever else is only bytes.
    Bytes(Vec<u8>),
    Pss {
        hash: CK_MECHANISM_TYPE,
        mgf: CK_RSA_PKCS_MGF_TYPE,
        salt: CK_ULONG,
    },
    Oaep {
        hash: CK_MECHANISM_TYPE,
        mgf: CK_RSA_PKCS_MGF_TYPE,
        label: Vec<u8>,
    },
    Counter {
        bits: CK_ULONG,
        block: [u8; 16],
    },
    Agreement {
        kdf: CK_EC_KDF_TYPE,
        shared: Vec<u8>,
        public: Vec<u8>,
    },
    Gcm {
        nonce: Vec<u8>,
        associated_data: Vec<u8>,
        tag_bits: CK_ULONG,
    },
    Length(CK_ULONG),
}

impl Mechanism {
    /// Fails where there are parameters and should be none.
    pub(crate) fn without_parameters(&self) -> Result<()> {
        match &self.parameters {
            Parameters::None => Ok(()),
            _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
        }
    }

    /// What a mechanism hashes with before it signs, for those of RSA and ECDSA.
    pub(crate) fn hash_then_sign(&self) -> Option<(Family, Hash)> {
        HASH_THEN_SIGN
            .iter()
            .find(|row| row.0 == self.kind)
            .map(|row| (row.1, row.2))
    }

    /// The mechanism is not carried for this.
    pub(crate) fn invalid(&self) -> Error {
        Error::new(
            CKR_MECHANISM_INVALID,
            format!("the mechanism {:#x} is not carried here", self.kind),
        )
    }
}

/// The kinds of signature that mechanisms hash for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Pkcs1,
    Pss,
    Ecdsa,
}

/// What the standard says of a mechanism, as the module carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) least: CK_ULONG,
    pub(crate) most: CK_ULONG,
    pub(crate) flags: CK_FLAGS,
}

const HASH_THEN_SIGN: &[(CK_MECHANISM_TYPE, Family, Hash)] = &[
    (CKM_SHA1_RSA_PKCS, Family::Pkcs1, Hash::Sha1),
    (CKM_SHA224_RSA_PKCS, Family::Pkcs1, Hash::Sha224),
    (CKM_SHA256_RSA_PKCS, Family::Pkcs1, Hash::Sha256),
    (CKM_SHA384_RSA_PKCS, Family::Pkcs1, Hash::Sha384),
    (CKM_SHA512_RSA_PKCS, Family::Pkcs1, Hash::Sha512),
    (CKM_SHA1_RSA_PKCS_PSS, Family::Pss, Hash::Sha1),
    (CKM_SHA224_RSA_PKCS_PSS, Family::Pss, Hash::Sha224),
    (CKM_SHA256_RSA_PKCS_PSS, Family::Pss, Hash::Sha256),
    (CKM_SHA384_RSA_PKCS_PSS, Family::Pss, Hash::Sha384),
    (CKM_SHA512_RSA_PKCS_PSS, Family::Pss, Hash::Sha512),
    (CKM_ECDSA_SHA1, Family::Ecdsa, Hash::Sha1),
    (CKM_ECDSA_SHA224, Family::Ecdsa, Hash::Sha224),
    (CKM_ECDSA_SHA256, Family::Ecdsa, Hash::Sha256),
    (CKM_ECDSA_SHA384, Family::Ecdsa, Hash::Sha384),
    (CKM_ECDSA_SHA512, Family::Ecdsa, Hash::Sha512),
];

const SIGN: CK_FLAGS = CKF_HW | CKF_SIGN | CKF_VERIFY;
const CURVES: CK_FLAGS = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS;

/// All of them. RSA sizes in bits, curves in bits, AES keys in bytes, HMAC keys in bytes.
pub(crate) const MECHANISMS: &[Row] = &[
    rsa(CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_HW | CKF_GENERATE_KEY_PAIR),
    rsa(CKM_RSA_PKCS, SIGN | CKF_ENCRYPT | CKF_DECRYPT),
    rsa(CKM_RSA_X_509, SIGN),
    rsa(CKM_RSA_PKCS_OAEP, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
    rsa(CKM_RSA_PKCS_PSS, SIGN),
    rsa(CKM_SHA1_RSA_PKCS, SIGN),
    rsa(CKM_SHA224_RSA_PKCS, SIGN),
    rsa(CKM_SHA256_RSA_PKCS, SIGN),
    rsa(CKM_SHA384_RSA_PKCS, SIGN),
    rsa(CKM_SHA512_RSA_PKCS, SIGN),
    rsa(CKM_SHA1_RSA_PKCS_PSS, SIGN),
    rsa(CKM_SHA224_RSA_PKCS_PSS, SIGN),
    rsa(CKM_SHA256_RSA_PKCS_PSS, SIGN),
    rsa(CKM_SHA384_RSA_PKCS_PSS, SIGN),
    rsa(CKM_SHA512_RSA_PKCS_PSS, SIGN),
    curve(CKM_EC_KEY_PAIR_GEN, CKF_HW | CKF_GENERATE_KEY_PAIR),
    curve(CKM_ECDSA, SIGN),
    curve(CKM_ECDSA_SHA1, SIGN),
    curve(CKM_ECDSA_SHA224, SIGN),
    curve(CKM_ECDSA_SHA256, SIGN),
    curve(CKM_ECDSA_SHA384, SIGN),
    curve(CKM_ECDSA_SHA512, SIGN),
    curve(CKM_ECDH1_DERIVE, CKF_HW | CKF_DERIVE),
    Row {
        kind: CKM_EC_EDWARDS_KEY_PAIR_GEN,
        least: 255,
        most: 255,
        flags: CKF_HW | CKF_GENERATE_KEY_PAIR | CKF_EC_NAMEDCURVE,
    },
    Row {
        kind: CKM_EDDSA,
        least: 255,
        most: 255,
        flags: SIGN | CKF_EC_NAMEDCURVE,
    },
    secret(CKM_AES_KEY_GEN, 16, 32, CKF_HW | CKF_GENERATE),
    secret(CKM_AES_CMAC, 16, 32, SIGN),
    secret(CKM_AES_CTR, 16, 32, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
    secret(CKM_AES_ECB, 16, 32, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
    secret(CKM_AES_CBC, 16, 32, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
    secret(CKM_AES_CBC_PAD, 16, 32, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
    secret(CKM_AES_GCM, 16, 32, CKF_HW | CKF_ENCRYPT | CKF_DECRYPT),
    secret(CKM_AES_KEY_WRAP, 16, 32, CKF_HW | CKF_WRAP),
    secret(CKM_AES_KEY_WRAP_PAD, 16, 32, CKF_HW | CKF_WRAP | CKF_UNWRAP),
    secret(CKM_AES_KEY_WRAP_KWP, 16, 32, CKF_HW | CKF_WRAP | CKF_UNWRAP),
    secret(CKM_GENERIC_SECRET_KEY_GEN, 32, 64, CKF_HW | CKF_GENERATE),
    secret(CKM_SHA256_HMAC, 32, 32, SIGN),
    secret(CKM_SHA384_HMAC, 48, 48, SIGN),
    secret(CKM_SHA512_HMAC, 64, 64, SIGN),
    secret(CKM_SHA256_HMAC_GENERAL, 32, 32, SIGN),
    secret(CKM_SHA384_HMAC_GENERAL, 48, 48, SIGN),
    secret(CKM_SHA512_HMAC_GENERAL, 64, 64, SIGN),
    secret(CKM_SHA_1, 0, 0, CKF_DIGEST),
    secret(CKM_SHA224, 0, 0, CKF_DIGEST),
    secret(CKM_SHA256, 0, 0, CKF_DIGEST),
    secret(CKM_SHA384, 0, 0, CKF_DIGEST),
    secret(CKM_SHA512, 0, 0, CKF_DIGEST),
    secret(CKM_SHA3_256, 0, 0, CKF_DIGEST),
    secret(CKM_SHA3_384, 0, 0, CKF_DIGEST),
    secret(CKM_SHA3_512, 0, 0, CKF_DIGEST),
];

const fn rsa(kind: CK_MECHANISM_TYPE, flags: CK_FLAGS) -> Row {
    secret(kind, 2048, 4096, flags)
}

const fn curve(kind: CK_MECHANISM_TYPE, flags: CK_FLAGS) -> Row {
    secret(kind, 256, 521, flags | CURVES)
}

const fn secret(kind: CK_MECHANISM_TYPE, least: CK_ULONG, most: CK_ULONG, flags: CK_FLAGS) -> Row {
    Row {
        kind,
        least,
        most,
        flags,
    }
}

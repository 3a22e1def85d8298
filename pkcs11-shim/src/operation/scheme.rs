//! How signatures are made and checked.

use crate::{
    error::{Error, Result},
    gateway::Pool,
    key::Key,
    mechanism::{Family, Mechanism, Parameters},
    object::Secret,
    software::{ec, hash::Hash, rsa, symmetric},
};
use cryptoki_sys::*;
use portcullis_proto::v1::{self, KeyOperation, KeyType, Mechanism as Gateway, SignatureEncoding, sign_request::Input};
use subtle::ConstantTimeEq;

/// A scheme of signatures or of message authentication codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RSASSA-PKCS1-v1_5 of a digest of this hash, or of whatever the caller puts into the padding.
    Pkcs1(Option<Hash>),
    /// RSASSA-PSS of a digest, which is made here if so.
    Pss {
        hash: Hash,
        mgf: Hash,
        salt: usize,
        hashes: bool,
    },
    /// RSA and nothing else.
    RawRsa,
    /// ECDSA of a digest of this hash, or of one that the caller made.
    Ecdsa(Option<Hash>),
    Ed25519,
    /// The first bytes of a code.
    Mac {
        mechanism: Gateway,
        length: usize,
    },
}

impl Scheme {
    /// What a mechanism means for a key.
    pub(crate) fn of(mechanism: &Mechanism, key: &Key) -> Result<Self> {
        let (scheme, key_type) = match mechanism.kind {
            CKM_RSA_PKCS => (Self::Pkcs1(None), CKK_RSA),
            CKM_RSA_X_509 => (Self::RawRsa, CKK_RSA),
            CKM_RSA_PKCS_PSS => (pss(mechanism, None)?, CKK_RSA),
            CKM_ECDSA => (Self::Ecdsa(None), CKK_EC),
            CKM_EDDSA => (Self::Ed25519, CKK_EC_EDWARDS),
            CKM_AES_CMAC => (mac(mechanism, Gateway::AesCmac, 16)?, CKK_AES),
            CKM_SHA256_HMAC | CKM_SHA256_HMAC_GENERAL => (mac(mechanism, Gateway::HmacSha256, 32)?, CKK_GENERIC_SECRET),
            CKM_SHA384_HMAC | CKM_SHA384_HMAC_GENERAL => (mac(mechanism, Gateway::HmacSha384, 48)?, CKK_GENERIC_SECRET),
            CKM_SHA512_HMAC | CKM_SHA512_HMAC_GENERAL => (mac(mechanism, Gateway::HmacSha512, 64)?, CKK_GENERIC_SECRET),
            _ => match mechanism.hash_then_sign() {
                Some((Family::Pkcs1, hash)) => (Self::Pkcs1(Some(hash)), CKK_RSA),
                Some((Family::Pss, hash)) => (pss(mechanism, Some(hash))?, CKK_RSA),
                Some((Family::Ecdsa, hash)) => (Self::Ecdsa(Some(hash)), CKK_EC),
                None => return Err(mechanism.invalid()),
            },
        };
        if !matches!(scheme, Self::Pss { .. } | Self::Mac { .. }) {
            // PureEdDSA by empty parameters is the same as by none.
            let is_pure = scheme == Self::Ed25519
                && matches!(&mechanism.parameters, Parameters::Bytes(bytes) if bytes.is_empty());
            if !is_pure {
                mechanism.without_parameters()?;
            }
        }
        let fits = key.pkcs11_type() == key_type
            && match &scheme {
                Self::Mac { mechanism, .. } => key.uses.iter().any(|(_, one)| one == mechanism) || key_type == CKK_AES,
                _ => true,
            };
        match fits {
            true => Ok(scheme),
            false => Err(CKR_KEY_TYPE_INCONSISTENT.into()),
        }
    }

    /// What a mechanism means for a secret that is the caller's own: codes, which are made here.
    pub(crate) fn own(mechanism: &Mechanism, secret: &Secret) -> Result<Self> {
        let (scheme, is_cmac) = match mechanism.kind {
            CKM_AES_CMAC => (mac(mechanism, Gateway::AesCmac, 16)?, true),
            CKM_SHA256_HMAC | CKM_SHA256_HMAC_GENERAL => (mac(mechanism, Gateway::HmacSha256, 32)?, false),
            CKM_SHA384_HMAC | CKM_SHA384_HMAC_GENERAL => (mac(mechanism, Gateway::HmacSha384, 48)?, false),
            CKM_SHA512_HMAC | CKM_SHA512_HMAC_GENERAL => (mac(mechanism, Gateway::HmacSha512, 64)?, false),
            _ => return Err(mechanism.invalid()),
        };
        match is_cmac == (secret.key_type == CKK_AES) {
            true => Ok(scheme),
            false => Err(CKR_KEY_TYPE_INCONSISTENT.into()),
        }
    }

    /// A code by a secret that is the caller's own.
    pub(crate) fn sign_here(&self, secret: &Secret, input: &[u8]) -> Result<Vec<u8>> {
        let Self::Mac { mechanism, length } = self else {
            return Err(CKR_KEY_TYPE_INCONSISTENT.into());
        };
        let code = symmetric::mac(*mechanism, &secret.value, input);
        let code = code.ok_or_else(|| Error::from(CKR_KEY_SIZE_RANGE))?;
        Ok(code[..*length].to_vec())
    }

    /// How long its codes are.
    pub(crate) fn code_length(&self) -> usize {
        match self {
            Self::Mac { length, .. } => *length,
            _ => 0,
        }
    }

    /// The hash that the message goes through on its way.
    pub(crate) fn message_hash(&self) -> Option<Hash> {
        match self {
            Self::Pkcs1(hash) | Self::Ecdsa(hash) => *hash,
            Self::Pss { hash, hashes: true, .. } => Some(*hash),
            _ => None,
        }
    }

    /// Whether the standard has it in parts too (its table of mechanisms and functions).
    pub(crate) fn takes_parts(&self) -> bool {
        self.message_hash().is_some() || matches!(self, Self::Mac { .. })
    }

    /// How long its signatures by a key are.
    pub(crate) fn length(&self, key: &Key) -> usize {
        match self {
            Self::Pkcs1(_) | Self::Pss { .. } | Self::RawRsa => key.rsa().map_or(0, |(modulus, _)| modulus.len()),
            Self::Ecdsa(_) => key.curve().map_or(0, |curve| 2 * curve.length()),
            Self::Ed25519 => 64,
            Self::Mac { length, .. } => *length,
        }
    }

    /// Whether the key could ever sign so.
    pub(crate) fn require_permission(&self, key: &Key) -> Result<()> {
        let may = match self {
            Self::Mac { mechanism, .. } => key.permits(KeyOperation::MacSign, *mechanism),
            Self::RawRsa => key.permits(KeyOperation::Sign, Gateway::RsaRaw),
            Self::Pkcs1(Some(hash)) => {
                key.permits(KeyOperation::Sign, Gateway::RsaRaw)
                    || pkcs1_of(*hash).is_some_and(|mechanism| key.permits(KeyOperation::Sign, mechanism))
            }
            _ => key.does(KeyOperation::Sign),
        };
        match may {
            true => Ok(()),
            false => Err(not_permitted()),
        }
    }

    /// Signs what the message became: a digest, or the message itself.
    pub(crate) fn sign(&self, pool: &Pool, key: &Key, input: &[u8]) -> Result<Vec<u8>> {
        let modulus = || {
            key.rsa()
                .map(|(modulus, _)| modulus)
                .ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))
        };
        let may = |mechanism| key.permits(KeyOperation::Sign, mechanism);
        match self {
            Self::Pkcs1(hash) => {
                let content = self.pkcs1_content(*hash, input)?;
                if let Some((mechanism, digest)) = digest_in(&content)
                    && may(mechanism)
                {
                    return ask(pool, key, mechanism, Input::Digest(digest.to_vec().into()));
                }
                let padded =
                    rsa::pad_signature(&content, modulus()?.len()).ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?;
                raw(pool, key, padded)
            }
            Self::Pss { hash, mgf, salt, .. } => {
                require_length(input, hash.length())?;
                if let Some(mechanism) = pss_of(*hash)
                    && mgf == hash
                    && *salt == hash.length()
                    && may(mechanism)
                {
                    return ask(pool, key, mechanism, Input::Digest(input.to_vec().into()));
                }
                let padded = rsa::pad_pss(input, *hash, *mgf, *salt, rsa::bits(modulus()?));
                raw(pool, key, padded.ok_or_else(|| Error::from(CKR_KEY_SIZE_RANGE))?)
            }
            Self::RawRsa => {
                let modulus = modulus()?;
                let padding = modulus
                    .len()
                    .checked_sub(input.len())
                    .ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?;
                let number = [&vec![0; padding], input].concat();
                if number.as_slice() >= modulus {
                    return Err(CKR_DATA_INVALID.into());
                }
                raw(pool, key, number)
            }
            Self::Ecdsa(_) => {
                let curve = key.curve().ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))?;
                // The hash of the same length, if the key may use that; else one in which the same number can be said.
                let mut hashes = [
                    (Gateway::EcdsaSha256, 32),
                    (Gateway::EcdsaSha384, 48),
                    (Gateway::EcdsaSha512, 64),
                ];
                hashes.sort_by_key(|(_, length)| *length != input.len());
                let mut permitted = hashes.into_iter().filter(|(mechanism, _)| may(*mechanism)).peekable();
                permitted.peek().ok_or_else(not_permitted)?;
                let found =
                    permitted.find_map(|(mechanism, length)| Some((mechanism, curve.digest_of_length(input, length)?)));
                let (mechanism, digest) = found.ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?;
                ask(pool, key, mechanism, Input::Digest(digest.into()))
            }
            Self::Ed25519 => ask(pool, key, Gateway::Ed25519, Input::Message(input.to_vec().into())),
            Self::Mac { mechanism, length } => {
                let (name, key_token) = key.named();
                let answer = pool.mac_sign(v1::MacSignRequest {
                    name,
                    key_token: key_token.into(),
                    data: input.to_vec().into(),
                    mechanism: (*mechanism).into(),
                    ..v1::MacSignRequest::default()
                })?;
                answer
                    .mac
                    .get(..*length)
                    .map(<[u8]>::to_vec)
                    .ok_or_else(|| Error::from(CKR_DEVICE_ERROR))
            }
        }
    }

    /// Checks a signature: here, with the public key; a code by making it again.
    pub(crate) fn verify(&self, pool: &Pool, key: &Key, input: &[u8], signature: &[u8]) -> Result<()> {
        if signature.len() != self.length(key) {
            return Err(CKR_SIGNATURE_LEN_RANGE.into());
        }
        let opened = || {
            let (modulus, exponent) = key.rsa().ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))?;
            let opened = rsa::public_operation(modulus, exponent, signature);
            opened
                .ok_or_else(|| Error::from(CKR_SIGNATURE_INVALID))
                .map(|opened| (opened, modulus))
        };
        let is_right = match self {
            Self::Pkcs1(hash) => {
                let (opened, modulus) = opened()?;
                rsa::pad_signature(&self.pkcs1_content(*hash, input)?, modulus.len())
                    .ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?
                    == opened
            }
            Self::Pss { hash, mgf, salt, .. } => {
                require_length(input, hash.length())?;
                let (opened, modulus) = opened()?;
                rsa::is_pss(&opened, input, *hash, *mgf, *salt, rsa::bits(modulus))
            }
            Self::RawRsa => {
                let (opened, modulus) = opened()?;
                let padding = modulus
                    .len()
                    .checked_sub(input.len())
                    .ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?;
                opened[..padding].iter().all(|byte| *byte == 0) && opened[padding..] == *input
            }
            Self::Ecdsa(_) => {
                let (curve, point) = key
                    .curve()
                    .zip(key.point())
                    .ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))?;
                let checked = curve.verifies(point, input, signature);
                checked.ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?
            }
            Self::Ed25519 => {
                let point = key.point().ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))?;
                ec::ed25519_verifies(point, input, signature)
            }
            Self::Mac { .. } => bool::from(self.sign(pool, key, input)?.ct_eq(signature)),
        };
        match is_right {
            true => Ok(()),
            false => Err(CKR_SIGNATURE_INVALID.into()),
        }
    }

    /// What stands in the padding: a DigestInfo that is made here, or the caller's content.
    fn pkcs1_content(&self, hash: Option<Hash>, input: &[u8]) -> Result<Vec<u8>> {
        match hash {
            None => Ok(input.to_vec()),
            Some(hash) => {
                let info = hash.digest_info().ok_or_else(|| Error::from(CKR_MECHANISM_INVALID))?;
                Ok([info, input].concat())
            }
        }
    }
}

/// The digest in a DigestInfo, and the mechanism that signs it.
fn digest_in(content: &[u8]) -> Option<(Gateway, &[u8])> {
    [Hash::Sha256, Hash::Sha384, Hash::Sha512].into_iter().find_map(|hash| {
        let digest = content.strip_prefix(hash.digest_info()?)?;
        Some((pkcs1_of(hash)?, digest)).filter(|_| digest.len() == hash.length())
    })
}

fn pkcs1_of(hash: Hash) -> Option<Gateway> {
    match hash {
        Hash::Sha256 => Some(Gateway::RsaPkcs1Sha256),
        Hash::Sha384 => Some(Gateway::RsaPkcs1Sha384),
        Hash::Sha512 => Some(Gateway::RsaPkcs1Sha512),
        _ => None,
    }
}

fn pss_of(hash: Hash) -> Option<Gateway> {
    match hash {
        Hash::Sha256 => Some(Gateway::RsaPssSha256),
        Hash::Sha384 => Some(Gateway::RsaPssSha384),
        Hash::Sha512 => Some(Gateway::RsaPssSha512),
        _ => None,
    }
}

fn pss(mechanism: &Mechanism, hashes: Option<Hash>) -> Result<Scheme> {
    let Parameters::Pss { hash, mgf, salt } = mechanism.parameters else {
        return Err(CKR_MECHANISM_PARAM_INVALID.into());
    };
    let (Some(hash), Some(mgf)) = (Hash::by_mechanism(hash), Hash::by_mgf(mgf)) else {
        return Err(CKR_MECHANISM_PARAM_INVALID.into());
    };
    let salt = usize::try_from(salt).ok().filter(|salt| *salt <= LONGEST_SALT);
    match (salt, hashes) {
        (Some(salt), None) => Ok(Scheme::Pss {
            hash,
            mgf,
            salt,
            hashes: false,
        }),
        (Some(salt), Some(by_mechanism)) if by_mechanism == hash => Ok(Scheme::Pss {
            hash,
            mgf,
            salt,
            hashes: true,
        }),
        _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
    }
}

fn mac(mechanism: &Mechanism, gateway: Gateway, whole: usize) -> Result<Scheme> {
    let length = match &mechanism.parameters {
        Parameters::None => whole,
        Parameters::Length(length) => usize::try_from(*length)
            .ok()
            .filter(|length| (1..=whole).contains(length))
            .ok_or_else(|| Error::from(CKR_MECHANISM_PARAM_INVALID))?,
        _ => return Err(CKR_MECHANISM_PARAM_INVALID.into()),
    };
    Ok(Scheme::Mac {
        mechanism: gateway,
        length,
    })
}

fn raw(pool: &Pool, key: &Key, number: Vec<u8>) -> Result<Vec<u8>> {
    if !key.permits(KeyOperation::Sign, Gateway::RsaRaw) {
        return Err(not_permitted());
    }
    ask(pool, key, Gateway::RsaRaw, Input::Message(number.into()))
}

fn ask(pool: &Pool, key: &Key, mechanism: Gateway, input: Input) -> Result<Vec<u8>> {
    let (name, key_token) = key.named();
    let answer = pool.sign(v1::SignRequest {
        name,
        key_token: key_token.into(),
        input: Some(input),
        mechanism: mechanism.into(),
        encoding: match key.key_type {
            KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521 => SignatureEncoding::P1363.into(),
            _ => 0,
        },
        ..v1::SignRequest::default()
    })?;
    Ok(answer.signature.to_vec())
}

fn require_length(digest: &[u8], length: usize) -> Result<()> {
    match digest.len() == length {
        true => Ok(()),
        false => Err(CKR_DATA_LEN_RANGE.into()),
    }
}

fn not_permitted() -> Error {
    Error::new(
        CKR_KEY_FUNCTION_NOT_PERMITTED,
        "the key's permitted uses, or its state, do not allow this",
    )
}

/// No modulus has room for a longer one.
const LONGEST_SALT: usize = 1024;

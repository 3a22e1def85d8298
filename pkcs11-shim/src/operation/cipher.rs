//! Encryption and decryption. To a public key here; under secret and private keys in the gateway, when all is there.

use super::signature::MOST_BUFFERED;
use crate::{
    error::{Error, Result},
    gateway::Pool,
    key::Key,
    mechanism::{Mechanism, Parameters},
    object::{Content, Object, Secret},
    output::Output,
    session::Next,
    software::{
        hash::Hash,
        rsa,
        symmetric::{self, Aes},
    },
};
use bytes::Bytes;
use cryptoki_sys::*;
use portcullis_proto::v1::{self, KeyOperation, Mechanism as Gateway, decrypt_request, encrypt_request};
use std::sync::Arc;
use zeroize::Zeroizing;

/// An encryption or decryption under way.
#[derive(Clone)]
pub(crate) struct Cipher {
    holder: Holder,
    mode: Mode,
    direction: Direction,
    input: Zeroizing<Vec<u8>>,
    in_parts: bool,
    /// What was made, and did not fit into the caller's buffer.
    made: Option<Zeroizing<Vec<u8>>>,
}

/// Whose the key is.
#[derive(Clone)]
enum Holder {
    /// The gateway's, with what it is asked for.
    Gateway(Arc<Key>, Gateway),
    /// The caller's own, which works here.
    Caller(Arc<Secret>),
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    RsaPkcs1,
    RsaOaep { hash: Hash, label: Vec<u8> },
    Ecb,
    Counter([u8; 16]),
    Cbc([u8; 16]),
    CbcPad([u8; 16]),
    Gcm { nonce: [u8; 12], associated_data: Vec<u8> },
}

impl Cipher {
    pub(crate) fn new(mechanism: &Mechanism, object: &Object, direction: Direction) -> Result<Self> {
        let mode = Mode::of(mechanism, direction)?;
        let (key, is_public) = match &object.content {
            Content::PublicKey(key) => (key, true),
            Content::PrivateKey(key) | Content::SecretKey(key) => (key, false),
            Content::Secret(secret) => {
                let is_rsa = matches!(mode, Mode::RsaPkcs1 | Mode::RsaOaep { .. });
                if is_rsa || secret.key_type != CKK_AES {
                    return Err(CKR_KEY_TYPE_INCONSISTENT.into());
                }
                return Ok(Self::with(Holder::Caller(Arc::clone(secret)), mode, direction));
            }
            Content::Certificate(_) | Content::Data(_) => return Err(CKR_KEY_HANDLE_INVALID.into()),
        };
        let is_rsa = matches!(mode, Mode::RsaPkcs1 | Mode::RsaOaep { .. });
        let fits = match is_rsa {
            true => key.pkcs11_type() == CKK_RSA && is_public == (direction == Direction::Encrypt),
            false => key.pkcs11_type() == CKK_AES,
        };
        if !fits {
            return Err(CKR_KEY_TYPE_INCONSISTENT.into());
        }
        let (operation, candidates) = mode.asked(direction);
        // A public key is everybody's: what is encrypted to it needs only what decrypts it to be permitted to somebody.
        let may = |gateway: &&Gateway| match is_public {
            true => key.uses.contains(&(KeyOperation::Decrypt, **gateway)),
            false => key.permits(operation, **gateway),
        };
        let gateway = candidates.iter().find(may).copied();
        let gateway = gateway.ok_or_else(|| Error::from(CKR_KEY_FUNCTION_NOT_PERMITTED))?;
        Ok(Self::with(Holder::Gateway(Arc::clone(key), gateway), mode, direction))
    }

    fn with(holder: Holder, mode: Mode, direction: Direction) -> Self {
        Self {
            holder,
            mode,
            direction,
            input: Zeroizing::default(),
            in_parts: false,
            made: None,
        }
    }

    /// All at once.
    pub(crate) fn whole(&mut self, pool: &Pool, data: &[u8], output: &mut Output<'_>) -> Result<Next> {
        if self.in_parts {
            return Err(CKR_OPERATION_ACTIVE.into());
        }
        if output.is_query() {
            output.tell(self.most(data.len()));
            return Ok(Next::Active);
        }
        if self.made.is_none() {
            self.input = Zeroizing::default();
            self.take(data)?;
        }
        self.give(pool, output)
    }

    /// Takes a part; its result comes at the end.
    pub(crate) fn update(&mut self, data: &[u8], output: &mut Output<'_>) -> Result<Next> {
        if matches!(self.mode, Mode::RsaPkcs1 | Mode::RsaOaep { .. }) {
            return Err(Error::new(CKR_FUNCTION_NOT_SUPPORTED, "RSA works in one part alone"));
        }
        output.tell(0);
        if !output.is_query() {
            self.in_parts = true;
            self.take(data)?;
        }
        Ok(Next::Active)
    }

    /// The result of all parts.
    pub(crate) fn end(&mut self, pool: &Pool, output: &mut Output<'_>) -> Result<Next> {
        if output.is_query() {
            output.tell(self.most(self.input.len()));
            return Ok(Next::Active);
        }
        self.give(pool, output)
    }

    fn take(&mut self, data: &[u8]) -> Result<()> {
        if self.input.len() + data.len() > MOST_BUFFERED {
            let message = format!("the HSM must see the data whole, and takes at most {MOST_BUFFERED} bytes");
            return Err(Error::new(CKR_DATA_LEN_RANGE, message));
        }
        self.input.extend_from_slice(data);
        Ok(())
    }

    fn give(&mut self, pool: &Pool, output: &mut Output<'_>) -> Result<Next> {
        let made = match self.made.take() {
            Some(made) => made,
            None => Zeroizing::new(self.make(pool)?),
        };
        let given = output.put(&made);
        self.made = Some(made);
        given.map(|()| Next::Ended)
    }

    /// How long the result may be.
    fn most(&self, length: usize) -> usize {
        if let Some(made) = &self.made {
            return made.len();
        }
        match (&self.mode, self.direction) {
            (Mode::RsaPkcs1 | Mode::RsaOaep { .. }, _) => match &self.holder {
                Holder::Gateway(key, _) => key.rsa().map_or(0, |(modulus, _)| modulus.len()),
                Holder::Caller(_) => 0,
            },
            (Mode::Gcm { .. }, Direction::Encrypt) => length + TAG,
            (Mode::Gcm { .. }, Direction::Decrypt) => length.saturating_sub(TAG),
            (Mode::CbcPad(_), Direction::Encrypt) => (length / BLOCK + 1) * BLOCK,
            _ => length,
        }
    }

    fn make(&self, pool: &Pool) -> Result<Vec<u8>> {
        let whole_blocks = self.input.len().is_multiple_of(BLOCK);
        let is_never_empty = matches!(self.mode, Mode::CbcPad(_) | Mode::Gcm { .. });
        match (&self.mode, self.direction) {
            (Mode::Ecb | Mode::Cbc(_), Direction::Encrypt) if !whole_blocks => Err(CKR_DATA_LEN_RANGE.into()),
            (Mode::Ecb | Mode::Cbc(_) | Mode::CbcPad(_), Direction::Decrypt) if !whole_blocks => {
                Err(CKR_ENCRYPTED_DATA_LEN_RANGE.into())
            }
            (Mode::Gcm { .. }, Direction::Decrypt) if self.input.len() < TAG => {
                Err(CKR_ENCRYPTED_DATA_LEN_RANGE.into())
            }
            _ if self.input.is_empty() && !is_never_empty => Ok(Vec::new()),
            _ => match &self.holder {
                Holder::Gateway(key, gateway) => self.make_there(pool, key, *gateway),
                Holder::Caller(secret) => self.make_here(secret),
            },
        }
    }

    fn make_there(&self, pool: &Pool, key: &Key, gateway: Gateway) -> Result<Vec<u8>> {
        match (&self.mode, self.direction) {
            (Mode::RsaPkcs1 | Mode::RsaOaep { .. }, Direction::Encrypt) => self.encrypt_to_public_key(key),
            (Mode::RsaPkcs1 | Mode::RsaOaep { .. }, Direction::Decrypt) => {
                self.decrypt_with_private_key(pool, key, gateway)
            }
            // In counter mode both ways are the same: the data are added to what the counter encrypts to.
            (Mode::Counter(_), _) | (_, Direction::Decrypt) => self.decrypt_with_secret_key(pool, key, gateway),
            (_, Direction::Encrypt) => self.encrypt_with_secret_key(pool, key, gateway),
        }
    }

    fn make_here(&self, secret: &Secret) -> Result<Vec<u8>> {
        let mode = self.mode.aes().ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))?;
        match self.direction {
            Direction::Encrypt => {
                symmetric::encrypt(&secret.value, mode, &self.input).ok_or_else(|| CKR_KEY_SIZE_RANGE.into())
            }
            Direction::Decrypt => symmetric::decrypt(&secret.value, mode, &self.input)
                .map(|plaintext| plaintext.to_vec())
                .ok_or_else(|| CKR_ENCRYPTED_DATA_INVALID.into()),
        }
    }

    fn encrypt_with_secret_key(&self, pool: &Pool, key: &Key, gateway: Gateway) -> Result<Vec<u8>> {
        let (name, key_token) = key.named();
        let data = self
            .mode
            .associated_data()
            .map(encrypt_request::Authenticated::AssociatedData);
        let answer = pool.encrypt(v1::EncryptRequest {
            name,
            key_token: key_token.into(),
            plaintext: self.input.to_vec().into(),
            mechanism: gateway.into(),
            initialization_vector: self.mode.vector().into(),
            authenticated: data,
            ..v1::EncryptRequest::default()
        })?;
        Ok(answer.ciphertext.to_vec())
    }

    fn decrypt_with_secret_key(&self, pool: &Pool, key: &Key, gateway: Gateway) -> Result<Vec<u8>> {
        let (name, key_token) = key.named();
        let data = self
            .mode
            .associated_data()
            .map(decrypt_request::Authenticated::AssociatedData);
        let answer = pool.decrypt(v1::DecryptRequest {
            name,
            key_token: key_token.into(),
            ciphertext: self.input.to_vec().into(),
            mechanism: gateway.into(),
            initialization_vector: self.mode.vector().into(),
            authenticated: data,
            ..v1::DecryptRequest::default()
        })?;
        Ok(answer.plaintext.to_vec())
    }

    fn encrypt_to_public_key(&self, key: &Key) -> Result<Vec<u8>> {
        let (modulus, exponent) = key.rsa().ok_or_else(|| Error::from(CKR_KEY_TYPE_INCONSISTENT))?;
        let padded = match &self.mode {
            Mode::RsaOaep { hash, label } => rsa::pad_oaep(&self.input, label, *hash, modulus.len()),
            _ => rsa::pad_encryption(&self.input, modulus.len()),
        };
        let padded = Zeroizing::new(padded.ok_or_else(|| Error::from(CKR_DATA_LEN_RANGE))?);
        rsa::public_operation(modulus, exponent, &padded).ok_or_else(|| Error::from(CKR_FUNCTION_FAILED))
    }

    fn decrypt_with_private_key(&self, pool: &Pool, key: &Key, gateway: Gateway) -> Result<Vec<u8>> {
        if key.rsa().is_some_and(|(modulus, _)| modulus.len() != self.input.len()) {
            return Err(CKR_ENCRYPTED_DATA_LEN_RANGE.into());
        }
        let (name, key_token) = key.named();
        let answer = pool.asymmetric_decrypt(v1::AsymmetricDecryptRequest {
            name,
            key_token: key_token.into(),
            ciphertext: self.input.to_vec().into(),
            mechanism: gateway.into(),
            ..v1::AsymmetricDecryptRequest::default()
        })?;
        Ok(answer.plaintext.to_vec())
    }
}

impl Mode {
    fn of(mechanism: &Mechanism, direction: Direction) -> Result<Self> {
        let vector = || match &mechanism.parameters {
            Parameters::Bytes(bytes) => bytes
                .as_slice()
                .try_into()
                .map_err(|_| Error::from(CKR_MECHANISM_PARAM_INVALID)),
            _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
        };
        match (mechanism.kind, direction) {
            (CKM_RSA_PKCS, _) => mechanism.without_parameters().map(|()| Self::RsaPkcs1),
            (CKM_RSA_PKCS_OAEP, _) => {
                let Parameters::Oaep { hash, mgf, label } = &mechanism.parameters else {
                    return Err(CKR_MECHANISM_PARAM_INVALID.into());
                };
                match (Hash::by_mechanism(*hash), Hash::by_mgf(*mgf)) {
                    // What the gateway's mechanisms are; another would be encrypted to a key that does not decrypt it.
                    (Some(hash @ (Hash::Sha1 | Hash::Sha256)), Some(mask)) if hash == mask && label.is_empty() => {
                        Ok(Self::RsaOaep {
                            hash,
                            label: label.clone(),
                        })
                    }
                    _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
                }
            }
            (CKM_AES_ECB, _) => mechanism.without_parameters().map(|()| Self::Ecb),
            (CKM_AES_CTR, _) => match &mechanism.parameters {
                // The gateway counts in all 128 bits.
                Parameters::Counter { bits: 128, block } => Ok(Self::Counter(*block)),
                Parameters::Counter { bits, block } if (1..128).contains(bits) && has_room(*bits, block) => {
                    Ok(Self::Counter(*block))
                }
                _ => Err(CKR_MECHANISM_PARAM_INVALID.into()),
            },
            (CKM_AES_CBC, _) => vector().map(Self::Cbc),
            (CKM_AES_CBC_PAD, _) => vector().map(Self::CbcPad),
            (CKM_AES_GCM, _) => match &mechanism.parameters {
                Parameters::Gcm {
                    nonce,
                    associated_data,
                    tag_bits: 128,
                } => Ok(Self::Gcm {
                    nonce: nonce
                        .as_slice()
                        .try_into()
                        .map_err(|_| Error::new(CKR_MECHANISM_PARAM_INVALID, "expected a nonce of 12 bytes"))?,
                    associated_data: associated_data.clone(),
                }),
                _ => Err(Error::new(CKR_MECHANISM_PARAM_INVALID, "expected a tag of 128 bits")),
            },
            _ => Err(mechanism.invalid()),
        }
    }

    /// The mode, of those of AES.
    fn aes(&self) -> Option<Aes<'_>> {
        match self {
            Self::Ecb => Some(Aes::Ecb),
            Self::Cbc(vector) => Some(Aes::Cbc(vector)),
            Self::CbcPad(vector) => Some(Aes::CbcPad(vector)),
            Self::Counter(block) => Some(Aes::Counter(block)),
            Self::Gcm { nonce, associated_data } => Some(Aes::Gcm { nonce, associated_data }),
            Self::RsaPkcs1 | Self::RsaOaep { .. } => None,
        }
    }

    /// The initialisation vector, or first counter block.
    fn vector(&self) -> Vec<u8> {
        match self {
            Self::Counter(block) | Self::Cbc(block) | Self::CbcPad(block) => block.to_vec(),
            Self::Gcm { nonce, .. } => nonce.to_vec(),
            Self::RsaPkcs1 | Self::RsaOaep { .. } | Self::Ecb => Vec::new(),
        }
    }

    fn associated_data(&self) -> Option<Bytes> {
        match self {
            Self::Gcm { associated_data, .. } => Some(associated_data.clone().into()),
            _ => None,
        }
    }

    /// The uses that a request can make of the key, the preferred one first.
    fn asked(&self, direction: Direction) -> (KeyOperation, &'static [Gateway]) {
        use Direction::{Decrypt, Encrypt};
        match (self, direction) {
            (Self::RsaPkcs1, _) => (KeyOperation::Decrypt, &[Gateway::RsaPkcs1Encryption]),
            (Self::RsaOaep { hash: Hash::Sha1, .. }, _) => (KeyOperation::Decrypt, &[Gateway::RsaOaepSha1]),
            (Self::RsaOaep { .. }, _) => (KeyOperation::Decrypt, &[Gateway::RsaOaepSha256]),
            (Self::Ecb, Encrypt) => (KeyOperation::Encrypt, &[Gateway::AesEcb]),
            (Self::Ecb, Decrypt) => (KeyOperation::Decrypt, &[Gateway::AesEcb]),
            (Self::Counter(_), _) => (KeyOperation::Decrypt, &[Gateway::AesCtr]),
            (Self::Cbc(_), Encrypt) => (KeyOperation::Encrypt, &[Gateway::AesCbcCallerIv]),
            (Self::Cbc(_), Decrypt) => (KeyOperation::Decrypt, &[Gateway::AesCbc, Gateway::AesCbcCallerIv]),
            (Self::CbcPad(_), Encrypt) => (KeyOperation::Encrypt, &[Gateway::AesCbcPadCallerIv]),
            (Self::CbcPad(_), Decrypt) => (KeyOperation::Decrypt, &[Gateway::AesCbcPad, Gateway::AesCbcPadCallerIv]),
            (Self::Gcm { .. }, Encrypt) => (KeyOperation::Encrypt, &[Gateway::AesGcmCallerIv]),
            (Self::Gcm { .. }, Decrypt) => (KeyOperation::Decrypt, &[Gateway::AesGcmCallerIv]),
        }
    }
}

/// Whether a counter of so many bits does not overflow within the longest input: then it is the same as one of 128 bits.
fn has_room(bits: CK_ULONG, block: &[u8; 16]) -> bool {
    let most = (MOST_BUFFERED / BLOCK) as u128;
    let counter = u128::from_be_bytes(*block) & ((1 << bits) - 1);
    (1_u128 << bits) - counter >= most
}

const BLOCK: usize = 16;
const TAG: usize = 16;

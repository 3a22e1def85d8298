//! The messages of requests that use keys, and what they are answered with.

use zeroize::{Zeroize, Zeroizing};

/// A key by the digest of its token.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Key {
    /// SHA-256 of the token.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// The token, where the worker may not have it loaded.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub sealed: Option<Vec<u8>>,
}

/// See [`super::RequestBody::Sign`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Sign {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The number of the operation: SIGN or MAC_SIGN.
    #[prost(uint32, tag = "2")]
    pub operation: u32,
    /// The number of the mechanism.
    #[prost(uint32, tag = "3")]
    pub mechanism: u32,
    /// The digest where the mechanism hashes, else the message.
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

/// See [`super::RequestBody::Encrypt`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Encrypt {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The associated data before the nonce.
    #[prost(bytes = "vec", tag = "2")]
    pub before_nonce: Vec<u8>,
    /// The associated data after the nonce.
    #[prost(bytes = "vec", tag = "3")]
    pub after_nonce: Vec<u8>,
    /// The plaintext.
    #[prost(bytes = "vec", tag = "4")]
    pub plaintext: Vec<u8>,
}

impl Drop for Encrypt {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

/// See [`super::RequestBody::Decrypt`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Decrypt {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The associated data before the nonce.
    #[prost(bytes = "vec", tag = "2")]
    pub before_nonce: Vec<u8>,
    /// The associated data after the nonce.
    #[prost(bytes = "vec", tag = "3")]
    pub after_nonce: Vec<u8>,
    /// The 12-byte nonce.
    #[prost(bytes = "vec", tag = "4")]
    pub nonce: Vec<u8>,
    /// The ciphertext with its tag.
    #[prost(bytes = "vec", tag = "5")]
    pub ciphertext: Vec<u8>,
}

/// See [`super::RequestBody::VerifyMac`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct VerifyMac {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The number of the mechanism.
    #[prost(uint32, tag = "2")]
    pub mechanism: u32,
    /// The message.
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
    /// The code to check.
    #[prost(bytes = "vec", tag = "4")]
    pub mac: Vec<u8>,
}

/// See [`super::RequestBody::EncryptBare`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct EncryptBare {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The number of the mechanism.
    #[prost(uint32, tag = "2")]
    pub mechanism: u32,
    /// The plaintext.
    #[prost(bytes = "vec", tag = "3")]
    pub plaintext: Vec<u8>,
    /// The caller's initialisation vector, for the mechanisms that take one.
    #[prost(bytes = "vec", tag = "4")]
    pub iv: Vec<u8>,
    /// The associated data, for the mechanism that authenticates it.
    #[prost(bytes = "vec", tag = "5")]
    pub associated_data: Vec<u8>,
}

impl Drop for EncryptBare {
    fn drop(&mut self) {
        self.plaintext.zeroize();
    }
}

/// See [`super::RequestBody::DecryptBare`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct DecryptBare {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The number of the mechanism.
    #[prost(uint32, tag = "2")]
    pub mechanism: u32,
    /// The initialisation vector, or first counter block.
    #[prost(bytes = "vec", tag = "3")]
    pub iv: Vec<u8>,
    /// The ciphertext.
    #[prost(bytes = "vec", tag = "4")]
    pub ciphertext: Vec<u8>,
    /// The associated data, for the mechanism that authenticates it.
    #[prost(bytes = "vec", tag = "5")]
    pub associated_data: Vec<u8>,
}

/// See [`super::RequestBody::DecryptAsymmetric`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct DecryptAsymmetric {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The number of the mechanism.
    #[prost(uint32, tag = "2")]
    pub mechanism: u32,
    /// The ciphertext, as long as the modulus.
    #[prost(bytes = "vec", tag = "3")]
    pub ciphertext: Vec<u8>,
}

/// See [`super::RequestBody::Agree`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Agree {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The peer's point, uncompressed, known to be on the key's curve.
    #[prost(bytes = "vec", tag = "2")]
    pub peer_point: Vec<u8>,
}

/// A key with the associated data that goes with it.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct KeyWithData {
    /// The key.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The associated data before the nonce.
    #[prost(bytes = "vec", tag = "2")]
    pub before_nonce: Vec<u8>,
    /// The associated data after the nonce.
    #[prost(bytes = "vec", tag = "3")]
    pub after_nonce: Vec<u8>,
}

/// See [`super::RequestBody::GenerateDataKey`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct GenerateDataKey {
    /// What encrypts the data key.
    #[prost(message, required, tag = "1")]
    pub with: KeyWithData,
    /// The data key's length in bytes.
    #[prost(uint32, tag = "2")]
    pub length: u32,
    /// Whether the data key itself is returned too.
    #[prost(bool, tag = "3")]
    pub reveal: bool,
}

/// See [`super::RequestBody::ReEncrypt`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct ReEncrypt {
    /// What decrypts.
    #[prost(message, required, tag = "1")]
    pub source: KeyWithData,
    /// The 12-byte nonce.
    #[prost(bytes = "vec", tag = "2")]
    pub nonce: Vec<u8>,
    /// The ciphertext with its tag.
    #[prost(bytes = "vec", tag = "3")]
    pub ciphertext: Vec<u8>,
    /// What encrypts.
    #[prost(message, required, tag = "4")]
    pub destination: KeyWithData,
}

/// See [`super::RequestBody::Random`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Random {
    /// How many bytes.
    #[prost(uint32, tag = "1")]
    pub length: u32,
}

/// See [`super::ReplyBody::Encrypted`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Encrypted {
    /// The 12-byte nonce; the initialisation vector of a mode without authentication.
    #[prost(bytes = "vec", tag = "1")]
    pub nonce: Vec<u8>,
    /// The ciphertext with its tag, if the mode has one.
    #[prost(bytes = "vec", tag = "2")]
    pub ciphertext: Vec<u8>,
}

/// Bytes that are wiped when they are dropped.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Secret {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

impl Secret {
    /// The bytes in their other form that is wiped.
    pub fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut self.bytes))
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(mut bytes: Zeroizing<Vec<u8>>) -> Self {
        Self {
            bytes: std::mem::take(&mut *bytes),
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// See [`super::ReplyBody::DataKey`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct DataKey {
    /// The data key, encrypted.
    #[prost(message, required, tag = "1")]
    pub encrypted: Encrypted,
    /// The data key itself, where it was asked for.
    #[prost(message, optional, tag = "2")]
    pub plaintext: Option<Secret>,
}

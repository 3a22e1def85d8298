//! The messages of import, export and ephemeral keys.

use super::{Generate, Key};
use zeroize::Zeroize;

/// See [`super::RequestBody::ImportWrapped`] and [`super::RequestBody::ImportResident`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Import {
    /// What it becomes.
    #[prost(message, required, tag = "1")]
    pub key: Generate,
    /// SubjectPublicKeyInfo in DER, where the caller gave it.
    #[prost(bytes = "vec", tag = "2")]
    pub public_key: Vec<u8>,
    /// The key that unwraps it; none for a clear value.
    #[prost(message, optional, tag = "3")]
    pub unwrapping_key: Option<Key>,
    /// The number of the mechanism by which that key unwraps; 0 for a clear value.
    #[prost(uint32, tag = "4")]
    pub mechanism: u32,
    /// The wrapped key material, or the clear value.
    #[prost(bytes = "vec", tag = "5")]
    pub material: Vec<u8>,
}

impl Drop for Import {
    fn drop(&mut self) {
        self.material.zeroize();
    }
}

/// See [`super::RequestBody::Export`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Export {
    /// The portable key; its token always goes with it.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// The number of the mechanism.
    #[prost(uint32, tag = "2")]
    pub mechanism: u32,
    /// The wrapping key; none for a recipient.
    #[prost(message, optional, tag = "3")]
    pub wrapping_key: Option<Key>,
    /// The recipient's RSA public key: SubjectPublicKeyInfo in DER.
    #[prost(bytes = "vec", tag = "4")]
    pub recipient: Vec<u8>,
}

/// See [`super::RequestBody::GenerateEphemeral`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct GenerateEphemeral {
    /// What to generate; the version does not matter.
    #[prost(message, required, tag = "1")]
    pub key: Generate,
    /// The principal that may use it.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// The id of the key ring.
    #[prost(string, tag = "3")]
    pub ring: String,
    /// When it begins, in microseconds since 1970-01-01 UTC.
    #[prost(uint64, tag = "4")]
    pub created: u64,
    /// When it ends.
    #[prost(uint64, tag = "5")]
    pub expires: u64,
}

/// See [`super::RequestBody::RenewEphemeral`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct RenewEphemeral {
    /// The token.
    #[prost(bytes = "vec", tag = "1")]
    pub sealed: Vec<u8>,
    /// When the new one ends.
    #[prost(uint64, tag = "2")]
    pub expires: u64,
}

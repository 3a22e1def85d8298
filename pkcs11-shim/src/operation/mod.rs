//! What is done with keys.
//!
//! - `scheme`: how a signature is made: what of it happens here, and what is asked of the gateway.
//! - `signature`: signing and verification, single and in parts.
//! - `cipher`: encryption and decryption.
//! - `digest`: digests.
//! - `generation`: new keys; `known`: what their templates may hold. `derivation`: secrets from key agreement. `wrapping`: keys that leave and come in wrapped.
//!   `import`: keys that come in clear.

pub(crate) mod cipher;
pub(crate) mod derivation;
pub(crate) mod digest;
pub(crate) mod generation;
pub(crate) mod import;
mod known;
pub(crate) mod scheme;
pub(crate) mod signature;
pub(crate) mod wrapping;

//! What needs no HSM: digests, checks of public keys and points, verification, and the ciphertext format.

pub mod agreement;
pub mod checksum;
pub mod ciphertext;
pub mod rsa;
pub mod signature;

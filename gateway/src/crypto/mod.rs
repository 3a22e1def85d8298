//! What needs no HSM: digests, verification with public keys, and the ciphertext format.

pub mod checksum;
pub mod ciphertext;
pub mod signature;

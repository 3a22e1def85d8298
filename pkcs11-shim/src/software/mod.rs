//! What needs no secret, and so no HSM: digests, signatures that are checked, encryption to public keys.

pub(crate) mod ec;
pub(crate) mod hash;
pub(crate) mod public_key;
pub(crate) mod rsa;

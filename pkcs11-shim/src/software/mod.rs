//! What needs no HSM: digests, signatures that are checked, encryption to public keys; and what is done with callers' own secrets.

pub(crate) mod ec;
pub(crate) mod hash;
pub(crate) mod public_key;
pub(crate) mod rsa;
pub(crate) mod symmetric;

//! What the gateway does, over both of its transports.

mod asymmetric;
mod batches;
mod creation;
mod data_keys;
mod duplicates;
mod encryption;
mod listing;
mod mac;
mod modes;
mod pipeline;
mod public_keys;
mod read_once;
mod reencryption;
mod signing;
mod surface;

use portcullis_softhsm_tests::KeySpec;

/// A name for each kind of key, and the kind.
const KINDS: [(&str, KeySpec); 6] = [
    ("ec-p256", KeySpec::EC_P256),
    ("rsa-pkcs1", KeySpec::RSA_PKCS1),
    ("rsa-pss", KeySpec::RSA_PSS),
    ("aes-256", KeySpec::AES_256),
    ("hmac-sha256", KeySpec::HMAC_SHA256),
    ("ed25519", KeySpec::ED25519_RESIDENT),
];

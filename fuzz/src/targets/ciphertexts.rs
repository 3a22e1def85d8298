//! Ciphertexts in the gateway's format, and what is authenticated with them.

use super::{bytes, vectors};
use crate::{Subject, Target, Verdict};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use portcullis_gateway::crypto::ciphertext::{Ciphertext, OVERHEAD, Suite};

/// Ciphertexts.
pub(super) const CIPHERTEXTS: Target = Target {
    name: "ciphertexts",
    prepare: || Box::new(Ciphertexts::new()),
};

struct Ciphertexts(Vec<Vector>);

struct Vector {
    ciphertext: Vec<u8>,
    suite: Suite,
    key: LessSafeKey,
    after_nonce: Vec<u8>,
}

impl Ciphertexts {
    fn new() -> Self {
        let vectors = vectors();
        let read = |vector: &serde_json::Value| {
            let key = bytes(&vector["key"]);
            let (suite, algorithm) = match key.len() {
                16 => (Suite::Aes128Gcm, &AES_128_GCM),
                _ => (Suite::Aes256Gcm, &AES_256_GCM),
            };
            Vector {
                ciphertext: bytes(&vector["ciphertext"]),
                suite,
                key: LessSafeKey::new(UnboundKey::new(algorithm, &key).expect("a key")),
                after_nonce: bytes(&vector["suffix"]),
            }
        };
        Self(
            vectors["ciphertexts"]
                .as_array()
                .expect("ciphertexts")
                .iter()
                .map(read)
                .collect(),
        )
    }
}

impl Vector {
    /// Decrypts as the gateway has it done by an HSM: everything before the encrypted bytes is authenticated with them.
    fn opens(&self, parts: Ciphertext<'_>) -> bool {
        let authenticated = [parts.header.to_bytes().as_slice(), parts.nonce, &self.after_nonce].concat();
        let nonce = Nonce::assume_unique_for_key(*parts.nonce);
        let mut sealed = parts.sealed.to_vec();
        parts.header.suite == self.suite
            && self
                .key
                .open_in_place(nonce, Aad::from(authenticated), &mut sealed)
                .is_ok()
    }
}

impl Subject for Ciphertexts {
    fn samples(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|vector| vector.ciphertext.clone()).collect()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        let Some(parts) = Ciphertext::parse(input) else {
            return Verdict::Refused;
        };
        assert_eq!(
            parts.header.assemble(parts.nonce, parts.sealed),
            input,
            "it has one form"
        );
        assert!(input.len() >= OVERHEAD);
        for vector in &self.0 {
            assert_eq!(
                vector.opens(parts),
                vector.ciphertext == input,
                "what was changed is not decrypted"
            );
        }
        Verdict::Accepted
    }
}

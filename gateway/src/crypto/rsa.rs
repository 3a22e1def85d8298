//! The public half of RSA: numbers that private keys are asked to work on, and encryption to recipients.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use portcullis_hsm::public_key::rsa_components;
use std::fmt;

/// Whether a number (big-endian) is as long as a key's modulus and below it; the key is a SubjectPublicKeyInfo in DER.
pub fn is_below_modulus(public_key: &[u8], number: &[u8]) -> bool {
    // Numbers of equal length compare as their bytes do.
    rsa_components(public_key).is_ok_and(|(modulus, _)| number.len() == modulus.len() && number < modulus.as_slice())
}

/// Somebody to whom secrets are encrypted by RSAES-OAEP with SHA-256, MGF1-SHA-256 and an empty label (RFC 8017).
pub struct Recipient(OaepPublicEncryptingKey);

/// Why nothing was encrypted to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// It is not an RSA public key.
    #[error("expected an RSA SubjectPublicKeyInfo in DER")]
    NotRsa,
    /// It is too short to protect anything, or longer than anybody needs.
    #[error("expected an RSA key of {SHORTEST} to {LONGEST} bits, found {0}")]
    Size(usize),
    /// The library failed.
    #[error("the secret could not be encrypted to the recipient")]
    Failed,
}

impl Recipient {
    /// Reads a SubjectPublicKeyInfo in DER.
    pub fn read(public_key: &[u8]) -> Result<Self, RecipientError> {
        let (modulus, _) = rsa_components(public_key).map_err(|_| RecipientError::NotRsa)?;
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(SHORTEST..=LONGEST).contains(&bits) {
            return Err(RecipientError::Size(bits));
        }
        let key = PublicEncryptingKey::from_der(public_key).map_err(|_| RecipientError::NotRsa)?;
        Ok(Self(
            OaepPublicEncryptingKey::new(key).map_err(|_| RecipientError::Failed)?,
        ))
    }

    /// Encrypts a secret of at most 190 bytes.
    pub fn encrypt(&self, secret: &[u8]) -> Result<Vec<u8>, RecipientError> {
        let mut ciphertext = vec![0; self.0.ciphertext_size()];
        let written = self
            .0
            .encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut ciphertext, None)
            .map_err(|_| RecipientError::Failed)?
            .len();
        ciphertext.truncate(written);
        Ok(ciphertext)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Recipient").finish()
    }
}

const SHORTEST: usize = 2048;
const LONGEST: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_hsm::public_key::rsa_public_key;

    #[test]
    fn only_numbers_below_the_modulus_are_worked_on() {
        let modulus = [0xc5; 256];
        let key = rsa_public_key(&modulus, &[1, 0, 1]).expect("a key");
        let mut below = modulus;
        below[255] -= 1;
        assert!(is_below_modulus(&key, &below));
        assert!(is_below_modulus(&key, &[0; 256]));
        assert!(!is_below_modulus(&key, &modulus));
        assert!(!is_below_modulus(&key, &[0xff; 256]));
        assert!(!is_below_modulus(&key, &[0; 255]));
        assert!(!is_below_modulus(&[], &[0; 256]));
    }

    #[test]
    fn short_keys_and_other_keys_get_no_secret() {
        let short = rsa_public_key(&[0xc5; 255], &[1, 0, 1]).expect("a key");
        assert_eq!(Recipient::read(&short).err(), Some(RecipientError::Size(2040)));
        let mut modulus = [0xc5; 256];
        modulus[0] = 0x45;
        let short = rsa_public_key(&modulus, &[1, 0, 1]).expect("a key");
        assert_eq!(Recipient::read(&short).err(), Some(RecipientError::Size(2047)));
        assert_eq!(Recipient::read(b"no key").err(), Some(RecipientError::NotRsa));
    }
}

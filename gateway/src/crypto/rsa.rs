//! The public half of RSA: numbers that private keys are asked to work on, and encryption to recipients.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use crypto_bigint::{
    BoxedUint, Odd,
    modular::{BoxedMontyForm, BoxedMontyParams},
};
use portcullis_hsm::public_key::rsa_components;
use std::fmt;

/// Whether a number (big-endian) is as long as a key's modulus and below it; the key is a SubjectPublicKeyInfo in DER.
pub fn is_below_modulus(public_key: &[u8], number: &[u8]) -> bool {
    // Numbers of equal length compare as their bytes do.
    rsa_components(public_key).is_ok_and(|(modulus, _)| number.len() == modulus.len() && number < modulus.as_slice())
}

/// Whether a number (big-endian, as long as the modulus) is what a signature of the private key opens to: RSAVP1 (RFC 8017 section
/// 5.2.2) without any padding. `None` if the public key is not one. All three are public, and the time taken depends on them.
pub fn opens_to(public_key: &[u8], signature: &[u8], number: &[u8]) -> Option<bool> {
    let (modulus, exponent) = rsa_components(public_key).ok()?;
    if signature.len() != modulus.len() || signature >= modulus.as_slice() {
        return Some(false);
    }
    let odd = Odd::new(BoxedUint::from_be_slice_vartime(&modulus)).into_option()?;
    let signature = BoxedUint::from_be_slice(signature, odd.bits_precision()).ok()?;
    let opened = BoxedMontyForm::new(signature, &BoxedMontyParams::new_vartime(odd))
        .pow(&BoxedUint::from_be_slice_vartime(&exponent))
        .retrieve()
        .to_be_bytes();
    // The library's numbers are of whole words, which may be longer than the modulus.
    let start = opened.len() - modulus.len();
    Some(opened[start..] == *number)
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

    #[test]
    fn a_raw_signature_opens_to_what_was_signed_and_to_nothing_else() {
        // 2^(2048) - 1 is odd, and with the exponent 3 a small number's cube is below it: no private key is needed to know the answer.
        let key = rsa_public_key(&[0xff; 256], &[3]).expect("a key");
        let number = |tail: &[u8]| [&vec![0; 256 - tail.len()][..], tail].concat();
        let signature = number(&[7]);
        assert_eq!(opens_to(&key, &signature, &number(&[1, 87])), Some(true));
        assert_eq!(opens_to(&key, &signature, &number(&[1, 88])), Some(false));
        assert_eq!(opens_to(&key, &signature[1..], &number(&[1, 87])), Some(false));
        assert_eq!(opens_to(&key, &signature, &number(&[1, 87])[1..]), Some(false));
        assert_eq!(opens_to(&key, &[0xff; 256], &number(&[])), Some(false));
        assert_eq!(opens_to(b"no key", &signature, &signature), None);
    }
}

//! ECDSA with digests of any length, and Ed25519: what is put to a key, and signatures that are checked.

use aws_lc_rs::{
    digest::{self, Digest},
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use der::{Encode, Sequence, asn1::UintRef};

/// A curve for ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl Curve {
    /// The length of the field, and of each half of a signature.
    pub(crate) fn length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// A digest of any length as one of `length` bytes that stands for the same number (FIPS 186-5, section 6.4.1: the leftmost
    /// bits, as many as the order has). `None` where there is none.
    pub(crate) fn digest_of_length(self, digest: &[u8], length: usize) -> Option<Vec<u8>> {
        let order = self.length();
        // The order of P-521 has 521 bits: nothing up to 65 bytes is shortened.
        let digest = match self {
            Self::P521 if digest.len() >= order => return None,
            _ => &digest[..digest.len().min(order)],
        };
        let significant = length.min(order);
        let padding = significant.checked_sub(digest.len())?;
        let mut same = vec![0; padding];
        same.extend_from_slice(digest);
        same.resize(length, 0);
        Some(same)
    }

    /// Checks a signature, r and s one after the other, over a digest of any length.
    pub(crate) fn verifies(self, point: &[u8], digest: &[u8], signature: &[u8]) -> Option<bool> {
        let (algorithm, hash): (&dyn VerificationAlgorithm, _) = match self {
            Self::P256 => (&signature::ECDSA_P256_SHA256_ASN1, &digest::SHA256),
            Self::P384 => (&signature::ECDSA_P384_SHA384_ASN1, &digest::SHA384),
            Self::P521 => (&signature::ECDSA_P521_SHA512_ASN1, &digest::SHA512),
        };
        let same = self.digest_of_length(digest, hash.output_len())?;
        let same = Digest::import_less_safe(&same, hash).ok()?;
        if signature.len() != 2 * self.length() {
            return Some(false);
        }
        let (r, s) = signature.split_at(self.length());
        let signature = EcdsaSignature {
            r: UintRef::new(r).ok()?,
            s: UintRef::new(s).ok()?,
        };
        let key = UnparsedPublicKey::new(algorithm, point);
        Some(key.verify_digest(&same, &signature.to_der().ok()?).is_ok())
    }
}

/// Checks an Ed25519 signature (RFC 8032).
pub(crate) fn ed25519_verifies(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&signature::ED25519, point)
        .verify(message, signature)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    #[test]
    fn a_digest_of_another_length_stands_for_the_same_number() {
        let (short, long) = ([7; 20], [9; 64]);
        assert_eq!(
            Curve::P256.digest_of_length(&short, 32).expect("a digest"),
            [&[0; 12][..], &short].concat()
        );
        assert_eq!(Curve::P256.digest_of_length(&long, 32).expect("a digest"), [9; 32]);
        assert_eq!(
            Curve::P256.digest_of_length(&short, 64).expect("a digest"),
            [&[0; 12][..], &short, &[0; 32]].concat()
        );
        assert_eq!(Curve::P384.digest_of_length(&long, 32), None);
        assert_eq!(Curve::P521.digest_of_length(&long, 64).expect("a digest"), long);
        assert_eq!(Curve::P521.digest_of_length(&[1; 66], 64), None);
    }

    #[test]
    fn signatures_are_checked_and_no_others() {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).expect("a key");
        let point = pair.public_key().as_ref();
        let signed = pair.sign(&random, b"message").expect("a signature");
        let digest = super::super::hash::Hash::Sha256.of(b"message");
        assert_eq!(Curve::P256.verifies(point, &digest, signed.as_ref()), Some(true));
        assert_eq!(Curve::P256.verifies(point, &[1; 32], signed.as_ref()), Some(false));
        assert_eq!(Curve::P256.verifies(point, &digest, &signed.as_ref()[1..]), Some(false));
    }
}

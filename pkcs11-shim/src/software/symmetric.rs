//! Codes and the modes of AES with secrets that are their callers' own, and which no HSM ever sees.

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{
        self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, PaddedBlockDecryptingKey,
        PaddedBlockEncryptingKey, UnboundCipherKey,
    },
    cmac, hmac,
    iv::FixedLength,
};
use portcullis_proto::v1::Mechanism;
use zeroize::Zeroizing;

/// A mode of AES with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aes<'a> {
    Ecb,
    Cbc(&'a [u8; 16]),
    CbcPad(&'a [u8; 16]),
    Counter(&'a [u8; 16]),
    Gcm {
        nonce: &'a [u8; 12],
        associated_data: &'a [u8],
    },
}

/// A whole message authentication code. `None` where the secret or the mechanism is of another kind.
pub(crate) fn mac(mechanism: Mechanism, secret: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match mechanism {
        Mechanism::HmacSha256 => hmac::HMAC_SHA256,
        Mechanism::HmacSha384 => hmac::HMAC_SHA384,
        Mechanism::HmacSha512 => hmac::HMAC_SHA512,
        Mechanism::AesCmac => {
            let algorithm = match secret.len() {
                16 => cmac::AES_128,
                24 => cmac::AES_192,
                32 => cmac::AES_256,
                _ => return None,
            };
            let key = cmac::Key::new(algorithm, secret).ok()?;
            return cmac::sign(&key, data).ok().map(|tag| tag.as_ref().to_vec());
        }
        _ => return None,
    };
    let key = hmac::Key::new(algorithm, secret);
    Some(hmac::sign(&key, data).as_ref().to_vec())
}

/// Encrypts; GCM puts its tag of 16 bytes at the end. `None` where the secret or the length is wrong.
pub(crate) fn encrypt(secret: &[u8], mode: Aes<'_>, plaintext: &[u8]) -> Option<Vec<u8>> {
    let mut data = plaintext.to_vec();
    match mode {
        Aes::Ecb => {
            let key = EncryptingKey::ecb(cipher_key(secret)?).ok()?;
            key.less_safe_encrypt(&mut data, EncryptionContext::None).ok()?;
        }
        Aes::Cbc(vector) => {
            let key = EncryptingKey::cbc(cipher_key(secret)?).ok()?;
            key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(FixedLength::from(vector)))
                .ok()?;
        }
        Aes::CbcPad(vector) => {
            let key = PaddedBlockEncryptingKey::cbc_pkcs7(cipher_key(secret)?).ok()?;
            key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(FixedLength::from(vector)))
                .ok()?;
        }
        Aes::Counter(block) => {
            let key = EncryptingKey::ctr(cipher_key(secret)?).ok()?;
            key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(FixedLength::from(block)))
                .ok()?;
        }
        Aes::Gcm { nonce, associated_data } => {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            gcm_key(secret)?
                .seal_in_place_append_tag(nonce, Aad::from(associated_data), &mut data)
                .ok()?;
        }
    }
    Some(data)
}

/// Decrypts. `None` where anything is wrong with secret, length, padding or tag.
pub(crate) fn decrypt(secret: &[u8], mode: Aes<'_>, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut data = Zeroizing::new(ciphertext.to_vec());
    let context = |vector: &[u8; 16]| DecryptionContext::Iv128(FixedLength::from(vector));
    let length = match mode {
        Aes::Ecb => {
            let key = DecryptingKey::ecb(cipher_key(secret)?).ok()?;
            key.decrypt(&mut data, DecryptionContext::None).ok()?.len()
        }
        Aes::Cbc(vector) => {
            let key = DecryptingKey::cbc(cipher_key(secret)?).ok()?;
            key.decrypt(&mut data, context(vector)).ok()?.len()
        }
        Aes::CbcPad(vector) => {
            let key = PaddedBlockDecryptingKey::cbc_pkcs7(cipher_key(secret)?).ok()?;
            key.decrypt(&mut data, context(vector)).ok()?.len()
        }
        Aes::Counter(block) => {
            let key = DecryptingKey::ctr(cipher_key(secret)?).ok()?;
            key.decrypt(&mut data, context(block)).ok()?.len()
        }
        Aes::Gcm { nonce, associated_data } => {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = gcm_key(secret)?.open_in_place(nonce, Aad::from(associated_data), &mut data);
            opened.ok()?.len()
        }
    };
    data.truncate(length);
    Some(data)
}

fn cipher_key(secret: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = match secret.len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        32 => &cipher::AES_256,
        _ => return None,
    };
    UnboundCipherKey::new(algorithm, secret).ok()
}

fn gcm_key(secret: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match secret.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        32 => &aead::AES_256_GCM,
        _ => return None,
    };
    UnboundKey::new(algorithm, secret).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SP 800-38A, appendix F: the first block of its plaintext under the key of 128 bits.
    #[test]
    fn modes_give_the_vectors_of_the_standard() {
        let bytes = |text: &str| hex::decode(text).expect("hexadecimal");
        let key = bytes("2b7e151628aed2a6abf7158809cf4f3c");
        let plaintext = bytes("6bc1bee22e409f96e93d7e117393172a");
        let vector: [u8; 16] = std::array::from_fn(|at| at as u8);
        let block: [u8; 16] = std::array::from_fn(|at| 0xf0 + at as u8);
        for (mode, expected) in [
            (Aes::Ecb, "3ad77bb40d7a3660a89ecaf32466ef97"),
            (Aes::Cbc(&vector), "7649abac8119b246cee98e9b12e9197d"),
            (Aes::Counter(&block), "874d6191b620e3261bef6864990db6ce"),
        ] {
            let made = encrypt(&key, mode, &plaintext).expect("a ciphertext");
            assert_eq!(made, bytes(expected), "{mode:?}");
            assert_eq!(*decrypt(&key, mode, &made).expect("a plaintext"), plaintext, "{mode:?}");
        }
        // RFC 4493, example 2.
        let code = mac(Mechanism::AesCmac, &key, &plaintext).expect("a code");
        assert_eq!(code, bytes("070a16b46b4d4144f79bdd9dd04a287c"));
        // RFC 4231, test case 2.
        let code = mac(Mechanism::HmacSha256, b"Jefe", b"what do ya want for nothing?").expect("a code");
        assert_eq!(
            code,
            bytes("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
    }

    #[test]
    fn what_was_changed_or_is_no_key_gives_nothing() {
        let (key, vector) = ([7; 32], [9; 16]);
        let gcm = Aes::Gcm {
            nonce: &[1; 12],
            associated_data: b"data",
        };
        for mode in [gcm, Aes::CbcPad(&vector)] {
            let mut made = encrypt(&key, mode, b"text").expect("a ciphertext");
            assert_eq!(**decrypt(&key, mode, &made).expect("a plaintext"), *b"text");
            *made.last_mut().expect("it is not empty") ^= 0x40;
            assert!(decrypt(&key, mode, &made).is_none_or(|plain| **plain != *b"text"));
            assert_eq!(encrypt(&key[..31], mode, b"text"), None);
        }
        assert_eq!(encrypt(&key, Aes::Cbc(&vector), b"no block"), None);
        assert_eq!(mac(Mechanism::AesCmac, &key[..5], b"text"), None);
        assert_eq!(mac(Mechanism::EcdsaSha256, &key, b"text"), None);
    }
}

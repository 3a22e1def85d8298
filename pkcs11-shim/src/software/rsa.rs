//! The public half of RSA, and the encodings of RFC 8017.

use super::hash::Hash;
use aws_lc_rs::rand;
use crypto_bigint::{
    BoxedUint, Odd,
    modular::{BoxedMontyForm, BoxedMontyParams},
};

/// RSAEP and RSAVP1 (RFC 8017, sections 5.1.1 and 5.2.2): the number to the public exponent. `None` unless it is as long as the
/// modulus and below it. Everything is public, and the time taken depends on it; plaintexts come with random padding.
pub(crate) fn public_operation(modulus: &[u8], exponent: &[u8], number: &[u8]) -> Option<Vec<u8>> {
    if number.len() != modulus.len() || number >= modulus {
        return None;
    }
    let odd = Odd::new(BoxedUint::from_be_slice_vartime(modulus)).into_option()?;
    let number = BoxedUint::from_be_slice(number, odd.bits_precision()).ok()?;
    let result = BoxedMontyForm::new(number, &BoxedMontyParams::new_vartime(odd))
        .pow(&BoxedUint::from_be_slice_vartime(exponent))
        .retrieve()
        .to_be_bytes();
    // The library's numbers are of whole words, which may be longer than the modulus.
    Some(result[result.len() - modulus.len()..].to_vec())
}

/// EMSA-PKCS1-v1_5 (section 9.2) of what is to be signed: a DigestInfo, or whatever the caller has. `None` if it is too long.
pub(crate) fn pad_signature(content: &[u8], length: usize) -> Option<Vec<u8>> {
    let padding = length.checked_sub(content.len() + 3).filter(|padding| *padding >= 8)?;
    let mut padded = vec![0, 1];
    padded.resize(2 + padding, 0xff);
    padded.push(0);
    padded.extend_from_slice(content);
    Some(padded)
}

/// EME-PKCS1-v1_5 (section 7.2.1). `None` if the plaintext is too long.
pub(crate) fn pad_encryption(plaintext: &[u8], length: usize) -> Option<Vec<u8>> {
    let padding = length
        .checked_sub(plaintext.len() + 3)
        .filter(|padding| *padding >= 8)?;
    let mut padded = vec![0, 2];
    while padded.len() < 2 + padding {
        let mut byte = [0];
        rand::fill(&mut byte).ok()?;
        // No padding byte is zero: a zero ends the padding.
        padded.extend(byte.iter().filter(|byte| **byte != 0));
    }
    padded.push(0);
    padded.extend_from_slice(plaintext);
    Some(padded)
}

/// EME-OAEP (section 7.1.1) with the same hash in the mask. `None` if the plaintext is too long.
pub(crate) fn pad_oaep(plaintext: &[u8], label: &[u8], hash: Hash, length: usize) -> Option<Vec<u8>> {
    let size = hash.length();
    let padding = length.checked_sub(plaintext.len() + 2 * size + 2)?;
    let mut block = hash.of(label);
    block.resize(size + padding, 0);
    block.push(1);
    block.extend_from_slice(plaintext);
    let mut seed = vec![0; size];
    rand::fill(&mut seed).ok()?;
    mask(&mut block, &seed, hash);
    mask(&mut seed, &block, hash);
    Some([&[0], &seed[..], &block].concat())
}

/// EMSA-PSS (section 9.1.1) of a digest, for a modulus of so many bits. `None` if that is too short.
pub(crate) fn pad_pss(digest: &[u8], hash: Hash, mgf: Hash, salt: usize, bits: usize) -> Option<Vec<u8>> {
    let mut salted = vec![0; salt];
    rand::fill(&mut salted).ok()?;
    let length = (bits - 1).div_ceil(8);
    let padding = length.checked_sub(hash.length() + salt + 2)?;
    let fingerprint = hash.of(&[&[0; 8], digest, &salted].concat());
    let mut block = vec![0; padding];
    block.push(1);
    block.extend_from_slice(&salted);
    mask(&mut block, &fingerprint, mgf);
    block[0] &= 0xff >> (8 * length - (bits - 1));
    let encoded = [&block[..], &fingerprint, &[0xbc]].concat();
    // As long as the modulus, which may have one byte more.
    Some([&vec![0; bits.div_ceil(8) - length][..], &encoded].concat())
}

/// EMSA-PSS verification (section 9.1.2) of what a signature opens to.
pub(crate) fn is_pss(opened: &[u8], digest: &[u8], hash: Hash, mgf: Hash, salt: usize, bits: usize) -> bool {
    let length = (bits - 1).div_ceil(8);
    let (ahead, encoded) = opened.split_at(opened.len() - length.min(opened.len()));
    let size = hash.length();
    let (Some((&0xbc, rest)), Some(start)) = (encoded.split_last(), length.checked_sub(size + 1)) else {
        return false;
    };
    let (block, fingerprint) = rest.split_at(start);
    let Some(padding) = start.checked_sub(salt + 1) else {
        return false;
    };
    let unused = 8 * length - (bits - 1);
    if ahead.iter().any(|byte| *byte != 0) || block[0] & !(0xff >> unused) != 0 {
        return false;
    }
    let mut block = block.to_vec();
    mask(&mut block, fingerprint, mgf);
    block[0] &= 0xff >> unused;
    block[..padding].iter().all(|byte| *byte == 0)
        && block[padding] == 1
        && hash.of(&[&[0; 8], digest, &block[padding + 1..]].concat()) == fingerprint
}

/// How many bits a modulus has.
pub(crate) fn bits(modulus: &[u8]) -> usize {
    8 * modulus.len() - modulus.first().map_or(0, |first| first.leading_zeros() as usize)
}

/// MGF1 (appendix B.2.1), over what is masked.
fn mask(target: &mut [u8], seed: &[u8], hash: Hash) {
    for (counter, block) in (0_u32..).zip(target.chunks_mut(hash.length())) {
        let stream = hash.of(&[seed, &counter.to_be_bytes()].concat());
        for (byte, masked) in block.iter_mut().zip(stream) {
            *byte ^= masked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{
        encoding::AsDer,
        rsa::{
            KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey,
        },
        signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair},
    };

    fn key() -> (RsaKeyPair, Vec<u8>, Vec<u8>) {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let public = pair.public_key();
        let (modulus, exponent) = (public.modulus(), public.exponent());
        (
            RsaKeyPair::from_pkcs8(pair.as_der().expect("PKCS#8").as_ref()).expect("a key"),
            modulus.big_endian_without_leading_zero().to_vec(),
            exponent.big_endian_without_leading_zero().to_vec(),
        )
    }

    fn sign(pair: &RsaKeyPair, scheme: &'static dyn RsaEncoding) -> Vec<u8> {
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        pair.sign(scheme, &random, b"message", &mut signature)
            .expect("a signature");
        signature
    }

    #[test]
    fn signatures_of_another_implementation_open_to_what_is_expected() {
        let (pair, modulus, exponent) = key();
        let opened = public_operation(&modulus, &exponent, &sign(&pair, &RSA_PKCS1_SHA256)).expect("a number");
        let info = [Hash::Sha256.digest_info().expect("SHA-2"), &Hash::Sha256.of(b"message")].concat();
        assert_eq!(pad_signature(&info, modulus.len()), Some(opened));

        let opened = public_operation(&modulus, &exponent, &sign(&pair, &RSA_PSS_SHA384)).expect("a number");
        let digest = Hash::Sha384.of(b"message");
        let is = |digest: &[u8], salt| is_pss(&opened, digest, Hash::Sha384, Hash::Sha384, salt, bits(&modulus));
        assert!(is(&digest, 48));
        assert!(!is(&digest, 32) && !is(&[0; 48], 48) && !is(&digest, 4000));
        assert_eq!(public_operation(&modulus, &exponent, &modulus), None);
    }

    #[test]
    fn another_implementation_decrypts_what_was_padded_here() {
        let (pair, modulus, exponent) = key();
        let private = PrivateDecryptingKey::from_pkcs8(pair.as_der().expect("PKCS#8").as_ref()).expect("a key");
        let mut plain = vec![0; modulus.len()];
        let oaep = pad_oaep(b"secret", b"label", Hash::Sha256, modulus.len()).expect("short enough");
        let ciphertext = public_operation(&modulus, &exponent, &oaep).expect("a number");
        let opener = OaepPrivateDecryptingKey::new(private.clone()).expect("a key");
        let opened = opener.decrypt(&OAEP_SHA256_MGF1SHA256, &ciphertext, &mut plain, Some(b"label"));
        assert_eq!(opened.expect("a plaintext"), b"secret");

        let padded = pad_encryption(b"secret", modulus.len()).expect("short enough");
        let ciphertext = public_operation(&modulus, &exponent, &padded).expect("a number");
        let opener = Pkcs1PrivateDecryptingKey::new(private).expect("a key");
        assert_eq!(opener.decrypt(&ciphertext, &mut plain).expect("a plaintext"), b"secret");
        assert!(pad_encryption(&[0; 246], 256).is_none() && pad_oaep(&[0; 191], b"", Hash::Sha256, 256).is_none());
    }

    #[test]
    fn what_is_padded_as_pss_is_recognised_for_every_number_of_bits() {
        for size in [2040, 2041, 2047, 2048] {
            let digest = Hash::Sha256.of(b"message");
            let padded = pad_pss(&digest, Hash::Sha256, Hash::Sha1, 20, size).expect("long enough");
            assert_eq!(padded.len(), size.div_ceil(8));
            assert!(is_pss(&padded, &digest, Hash::Sha256, Hash::Sha1, 20, size), "{size}");
            for at in 0..padded.len() {
                let mut changed = padded.clone();
                changed[at] ^= 0x80;
                assert!(
                    !is_pss(&changed, &digest, Hash::Sha256, Hash::Sha1, 20, size),
                    "{size}, byte {at}"
                );
            }
        }
    }
}

//! Keys made outside of any HSM, and key wrapping by Rust crates that the gateway does not use.

use crate::program::{openssl, temporary_directory};
use aes_kw::{KeyInit, KwAes256, KwpAes256};
use portcullis_client::v1::KeyType;
use rand::Rng;
use rsa::{
    Oaep, RsaPrivateKey, RsaPublicKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey},
};
use sha1::Sha1;
use sha2::Sha256;
use std::fs;

/// A key in clear.
pub struct Material {
    /// A secret key's value, or PKCS#8 in DER.
    pub value: Vec<u8>,
    /// SubjectPublicKeyInfo in DER; empty for secret keys.
    pub public_key: Vec<u8>,
}

impl Material {
    /// A new key of a type: key pairs by OpenSSL, secret keys from the system's random generator.
    pub fn generate(key_type: KeyType) -> Self {
        let pair = |arguments: &[&str]| Self::pair(arguments);
        let curve = |name: &str| {
            let curve = format!("ec_paramgen_curve:{name}");
            Self::pair(&["-algorithm", "EC", "-pkeyopt", &curve])
        };
        match key_type {
            KeyType::Rsa2048 => pair(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
            KeyType::Rsa3072 => pair(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
            KeyType::Rsa4096 => pair(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"]),
            KeyType::EcP256 => curve("P-256"),
            KeyType::EcP384 => curve("P-384"),
            KeyType::EcP521 => curve("P-521"),
            KeyType::Ed25519 => pair(&["-algorithm", "ED25519"]),
            KeyType::Aes128 => Self::secret(16),
            KeyType::Aes256 | KeyType::HmacSha256 => Self::secret(32),
            KeyType::HmacSha384 => Self::secret(48),
            KeyType::HmacSha512 => Self::secret(64),
            KeyType::Unspecified => panic!("no key type"),
        }
    }

    /// The key pair of a curve with this private number, by OpenSSL.
    pub fn from_scalar(key_type: KeyType, number: &[u8]) -> Self {
        let curve = match key_type {
            KeyType::EcP256 => "06082a8648ce3d030107",
            KeyType::EcP384 => "06052b81040022",
            KeyType::EcP521 => "06052b81040023",
            other => panic!("{} is no such curve", other.as_str_name()),
        };
        // ECPrivateKey (RFC 5915) without the public key, which OpenSSL computes.
        let curve = hex::decode(curve).expect("hexadecimal");
        let tagged = |tag: u8, value: &[u8]| [&[tag, value.len() as u8], value].concat();
        let inner = [vec![2, 1, 1], tagged(4, number), tagged(0xa0, &curve)].concat();
        let directory = temporary_directory();
        let path = directory.path();
        fs::write(path.join("key.der"), tagged(0x30, &inner)).expect("a file for OpenSSL");
        let from = ["-in", "key.der", "-inform", "DER", "-outform", "DER"];
        let topk8 = ["pkcs8", "-topk8", "-nocrypt"];
        Self {
            value: openssl(path, topk8.iter().chain(&from)).succeeded().stdout,
            public_key: openssl(path, ["pkey", "-pubout"].iter().chain(&from))
                .succeeded()
                .stdout,
        }
    }

    /// Random bytes.
    pub fn secret(length: usize) -> Self {
        let mut value = vec![0; length];
        rand::rng().fill_bytes(&mut value);
        Self {
            value,
            public_key: Vec::new(),
        }
    }

    fn pair(arguments: &[&str]) -> Self {
        let directory = temporary_directory();
        let path = directory.path();
        openssl(path, ["genpkey", "-out", "key.pem"].iter().chain(arguments)).succeeded();
        // In DER `genpkey` writes some types in older forms than PKCS#8.
        let topk8 = ["pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER"];
        let public = ["pkey", "-in", "key.pem", "-pubout", "-outform", "DER"];
        Self {
            value: openssl(path, topk8).succeeded().stdout,
            public_key: openssl(path, public).succeeded().stdout,
        }
    }
}

/// The hash of OAEP.
#[derive(Clone, Copy)]
pub enum OaepHash {
    /// SHA-1 with MGF1-SHA-1.
    Sha1,
    /// SHA-256 with MGF1-SHA-256.
    Sha256,
}

/// Wraps by RFC 5649 under a 256-bit key.
pub fn kwp_wrap(key: &[u8], material: &[u8]) -> Vec<u8> {
    let wrapping = KwpAes256::new_from_slice(key).expect("a 256-bit key");
    let mut wrapped = vec![0; material.len().next_multiple_of(8) + 8];
    wrapping
        .wrap_key(material, &mut wrapped)
        .expect("room for the wrapped key");
    wrapped
}

/// Unwraps by RFC 5649; `None` if that was not wrapped so.
pub fn kwp_unwrap(key: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    let wrapping = KwpAes256::new_from_slice(key).expect("a 256-bit key");
    let mut material = vec![0; wrapped.len()];
    wrapping.unwrap_key(wrapped, &mut material).ok().map(<[u8]>::to_vec)
}

/// Unwraps by RFC 3394; `None` if that was not wrapped so.
pub fn kw_unwrap(key: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    let wrapping = KwAes256::new_from_slice(key).expect("a 256-bit key");
    let mut material = vec![0; wrapped.len()];
    wrapping.unwrap_key(wrapped, &mut material).ok().map(<[u8]>::to_vec)
}

/// Wraps for an RSA public key (SubjectPublicKeyInfo in DER) in the layout of `CKM_RSA_AES_KEY_WRAP`.
pub fn rsa_aes_wrap(public_key: &[u8], hash: OaepHash, material: &[u8]) -> Vec<u8> {
    let key = RsaPublicKey::from_public_key_der(public_key).expect("an RSA public key");
    let passing = Material::secret(32).value;
    let mut random = rand::rng();
    let to_rsa = match hash {
        OaepHash::Sha1 => key.encrypt(&mut random, Oaep::<Sha1>::new(), &passing),
        OaepHash::Sha256 => key.encrypt(&mut random, Oaep::<Sha256>::new(), &passing),
    };
    [to_rsa.expect("an encrypted key"), kwp_wrap(&passing, material)].concat()
}

/// Unwraps the same with the private key (PKCS#8 in DER); `None` if that was not wrapped so.
pub fn rsa_aes_unwrap(private_key: &[u8], hash: OaepHash, wrapped: &[u8]) -> Option<Vec<u8>> {
    use rsa::traits::PublicKeyParts;
    let key = RsaPrivateKey::from_pkcs8_der(private_key).expect("an RSA private key");
    let (to_rsa, to_aes) = wrapped.split_at_checked(key.size())?;
    let passing = match hash {
        OaepHash::Sha1 => key.decrypt(Oaep::<Sha1>::new(), to_rsa),
        OaepHash::Sha256 => key.decrypt(Oaep::<Sha256>::new(), to_rsa),
    };
    kwp_unwrap(&passing.ok()?, to_aes)
}

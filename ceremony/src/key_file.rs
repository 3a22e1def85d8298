//! Keys as people have them: public keys in an environment, private keys in files on their own media.

use base64::{Engine, engine::general_purpose::STANDARD};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use portcullis_provisioning::signing_key::{PublicKey, SigningKey};
use zeroize::Zeroizing;

/// Why a key is not taken. Says nothing of a private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefused {
    /// Not a public key that counts.
    #[error("{0}")]
    Public(String),
    /// Not a private key in a form that is read.
    #[error(
        "expected a private key of Ed25519 or P-256: PKCS#8 in PEM, with or without a passphrase, or an OpenSSH key without one"
    )]
    Private,
    /// An OpenSSH private key with a passphrase.
    #[error(
        "an OpenSSH key with a passphrase is not read; expected PKCS#8 in PEM, which `openssl genpkey -algorithm ed25519 -aes256` writes with a passphrase"
    )]
    EncryptedOpenSsh,
    /// The passphrase is wrong.
    #[error("the passphrase is wrong")]
    Passphrase,
}

/// Reads a public key: a line of OpenSSH, PEM, or SubjectPublicKeyInfo in base64.
pub fn parse_public(text: &str) -> Result<PublicKey, KeyRefused> {
    let refused = |error: portcullis_provisioning::Error| KeyRefused::Public(error.to_string());
    let text = text.trim();
    if text.starts_with("-----BEGIN") {
        return PublicKey::from_pem(text).map_err(refused);
    }
    let mut words = text.split_ascii_whitespace();
    if let (Some(kind @ (ED25519 | P256)), Some(blob)) = (words.next(), words.next()) {
        return STANDARD
            .decode(blob)
            .ok()
            .and_then(|blob| public_of_openssh(kind, &blob))
            .ok_or_else(|| KeyRefused::Public(format!("it is not a whole {kind} key of OpenSSH")));
    }
    PublicKey::try_from(text.to_owned()).map_err(refused)
}

/// A private key as it stands in a file.
pub enum PrivateKeyFile {
    /// It can be used.
    Open(SigningKey),
    /// It needs a passphrase.
    Locked(LockedKey),
}

/// An encrypted private key.
pub struct LockedKey(SecretDocument);

impl PrivateKeyFile {
    /// Reads a private key: PKCS#8 in PEM (RFC 7468), or the OpenSSH format.
    pub fn parse(text: &str) -> Result<Self, KeyRefused> {
        if let Some(inner) = between(text.trim(), OPENSSH_BEGIN, OPENSSH_END) {
            let base64 = Zeroizing::new(inner.split_ascii_whitespace().collect::<String>());
            let file = STANDARD.decode(base64.as_bytes()).map_err(|_| KeyRefused::Private)?;
            return private_of_openssh(&Zeroizing::new(file)).map(Self::Open);
        }
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| KeyRefused::Private)?;
        match label {
            "PRIVATE KEY" => SigningKey::from_der(document.as_bytes())
                .map(Self::Open)
                .map_err(|_| KeyRefused::Private),
            "ENCRYPTED PRIVATE KEY" => Ok(Self::Locked(LockedKey(document))),
            _ => Err(KeyRefused::Private),
        }
    }
}

impl LockedKey {
    /// Decrypts it.
    pub fn unlock(&self, passphrase: &[u8]) -> Result<SigningKey, KeyRefused> {
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(self.0.as_bytes()).map_err(|_| KeyRefused::Private)?;
        let open = encrypted.decrypt(passphrase).map_err(|_| KeyRefused::Passphrase)?;
        SigningKey::from_der(open.as_bytes()).map_err(|_| KeyRefused::Private)
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.strip_prefix(begin)?.strip_suffix(end)
}

fn public_of_openssh(kind: &str, blob: &[u8]) -> Option<PublicKey> {
    let mut reader = Reader(blob);
    if reader.string()? != kind.as_bytes() {
        return None;
    }
    let der = match kind {
        ED25519 => [ED25519_SPKI, reader.string()?].concat(),
        _ if reader.string()? == P256_CURVE => [P256_SPKI, reader.string()?].concat(),
        _ => return None,
    };
    reader.0.is_empty().then_some(())?;
    PublicKey::from_der(&der).ok()
}

/// The private key of an unencrypted file in the format of openssh-portable's PROTOCOL.key.
fn private_of_openssh(file: &[u8]) -> Result<SigningKey, KeyRefused> {
    let mut reader = Reader(file.strip_prefix(OPENSSH_MAGIC).ok_or(KeyRefused::Private)?);
    let cipher = reader.string().ok_or(KeyRefused::Private)?;
    if cipher != b"none" {
        return Err(KeyRefused::EncryptedOpenSsh);
    }
    let pkcs8 = reader.private_key().ok_or(KeyRefused::Private)?;
    SigningKey::from_der(&pkcs8).map_err(|_| KeyRefused::Private)
}

/// Reads the fields of OpenSSH: lengths of 32 bits before texts (RFC 4251 section 5).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// What stands behind the name of the cipher, as PKCS#8.
    fn private_key(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let (_kdf, _options) = (self.string()?, self.string()?);
        if self.number()? != 1 {
            return None;
        }
        let _public = self.string()?;
        let mut inner = Reader(self.string()?);
        if inner.number()? != inner.number()? {
            return None;
        }
        match inner.string()? {
            kind if kind == ED25519.as_bytes() => {
                let _public = inner.string()?;
                let seed = inner.string()?.get(..32)?;
                Some(Zeroizing::new([ED25519_PKCS8, seed].concat()))
            }
            kind if kind == P256.as_bytes() && inner.string()? == P256_CURVE => {
                let point = inner.string()?;
                let number = inner.string()?;
                // A number has a zero byte in front where its first bit is set, and none that it does not need.
                let number = number.strip_prefix(&[0]).unwrap_or(number);
                let mut scalar = Zeroizing::new([0; 32]);
                scalar
                    .get_mut(32_usize.checked_sub(number.len())?..)?
                    .copy_from_slice(number);
                let parts = [P256_PKCS8, scalar.as_slice(), P256_PKCS8_POINT, point];
                (point.len() == 65).then(|| Zeroizing::new(parts.concat()))
            }
            _ => None,
        }
    }
}

const ED25519: &str = "ssh-ed25519";
const P256: &str = "ecdsa-sha2-nistp256";
const P256_CURVE: &[u8] = b"nistp256";
const OPENSSH_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const OPENSSH_END: &str = "-----END OPENSSH PRIVATE KEY-----";
const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";

/// What stands before the 32 bytes of the key (RFC 8410 section 4).
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What stands before the 65 bytes of the point (RFC 5480 section 2).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What stands before the 32 bytes of the seed (RFC 8410 section 7).
const ED25519_PKCS8: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What stands before the 32 bytes of the scalar (RFC 5915 section 3, in PKCS#8).
const P256_PKCS8: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
];

/// What stands between the scalar and the 65 bytes of the point.
const P256_PKCS8_POINT: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

//! AES modes without authentication, for callers that name them: a changed ciphertext is not noticed.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{Mechanism, Operation, PermittedUse},
    pkcs11::Session,
    template::{self, AES_BLOCK},
};
use zeroize::Zeroizing;

/// What encryption in such a mode returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareOutput {
    /// The random initialisation vector, or first counter block; empty in ECB mode.
    pub iv: Vec<u8>,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
}

impl Member {
    /// Encrypts under a fresh random initialisation vector from the token.
    pub fn encrypt_bare(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        mechanism: Mechanism,
        plaintext: &[u8],
    ) -> Result<BareOutput, Error> {
        let length = template::iv_length(mechanism).ok_or_else(|| wrong(mechanism))?;
        let mut iv = vec![0; length];
        let permitted_use = PermittedUse::new(Operation::Encrypt, mechanism);
        if length > 0 {
            session.generate_random(&mut iv)?;
        }
        let call = template::bare_call(mechanism, &iv).ok_or_else(|| wrong(mechanism))?;
        let ciphertext = self.use_key(session, key, permitted_use, |session, key| {
            session.encrypt(call, key.handle(), plaintext, AES_BLOCK)
        })?;
        Ok(BareOutput { iv, ciphertext })
    }

    /// Decrypts. Whatever is wrong with length or padding is [`Error::DecryptionFailed`].
    pub fn decrypt_bare(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        mechanism: Mechanism,
        iv: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let call = template::bare_call(mechanism, iv).ok_or_else(|| wrong(mechanism))?;
        let permitted_use = PermittedUse::new(Operation::Decrypt, mechanism);
        self.decrypt_with(session, key, permitted_use, |session, key| {
            session.decrypt(call, key.handle(), ciphertext)
        })
    }
}

fn wrong(mechanism: Mechanism) -> Error {
    Error::Refused(format!("{mechanism} does not go with such an initialisation vector"))
}

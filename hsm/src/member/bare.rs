//! AES modes whose result is their ciphertext alone, for callers that name them: most authenticate nothing, and some take a vector that
//! the caller is trusted to choose well.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{Mechanism, Operation, PermittedUse},
    pkcs11::Session,
    template::{self, AES_BLOCK},
};
use zeroize::Zeroizing;

/// A mode with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode<'a> {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The initialisation vector, or first counter block. To encrypt, empty unless the mechanism takes the caller's.
    pub iv: &'a [u8],
    /// The associated data, for AES-GCM.
    pub associated_data: &'a [u8],
}

/// What encryption in such a mode returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareOutput {
    /// The initialisation vector, or first counter block; empty in ECB mode.
    pub iv: Vec<u8>,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
}

impl Member {
    /// Encrypts: under the caller's initialisation vector where the mechanism takes that, else under a fresh random one from the
    /// token.
    pub fn encrypt_bare(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        mode: Mode<'_>,
        plaintext: &[u8],
    ) -> Result<BareOutput, Error> {
        let mechanism = mode.mechanism;
        let permitted_use = PermittedUse::new(Operation::Encrypt, mechanism);
        let iv = match (mechanism.takes_callers_iv(), mode.iv) {
            (true, iv) => iv.to_vec(),
            (false, []) => {
                let mut iv = vec![0; template::iv_length(mechanism).ok_or_else(|| wrong(mechanism))?];
                if !iv.is_empty() {
                    session.generate_random(&mut iv)?;
                }
                iv
            }
            (false, _) => return Err(wrong(mechanism)),
        };
        let call = template::bare_call(mechanism, &iv, mode.associated_data).ok_or_else(|| wrong(mechanism))?;
        let ciphertext = self.use_key(session, key, permitted_use, |session, key| {
            session.encrypt(call, key.handle(), plaintext, AES_BLOCK)
        })?;
        Ok(BareOutput { iv, ciphertext })
    }

    /// Decrypts. Whatever is wrong with length, padding or tag is [`Error::DecryptionFailed`].
    pub fn decrypt_bare(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        mode: Mode<'_>,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let call = template::bare_call(mode.mechanism, mode.iv, mode.associated_data);
        let call = call.ok_or_else(|| wrong(mode.mechanism))?;
        let permitted_use = PermittedUse::new(Operation::Decrypt, mode.mechanism);
        self.decrypt_with(session, key, permitted_use, |session, key| {
            session.decrypt(call, key.handle(), ciphertext)
        })
    }
}

fn wrong(mechanism: Mechanism) -> Error {
    Error::Refused(format!("{mechanism} does not go with such an initialisation vector"))
}

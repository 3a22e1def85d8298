//! Authenticated encryption, data keys, and encrypting anew: what must not be seen outside stays in one call of these.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{Mechanism, Operation, PermittedUse},
    pkcs11::{CallMechanism, Session},
};
use zeroize::Zeroizing;

/// What AES-GCM encryption returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcmOutput {
    /// The random nonce.
    pub nonce: [u8; 12],
    /// The ciphertext with the 16-byte tag at its end.
    pub ciphertext: Vec<u8>,
}

/// The associated data of AES-GCM in its two parts: the nonce stands between them, so that a header that holds the nonce
/// is authenticated whole.
#[derive(Debug, Clone, Copy)]
pub struct GcmAssociatedData<'a> {
    /// Before the nonce.
    pub before_nonce: &'a [u8],
    /// After the nonce.
    pub after_nonce: &'a [u8],
}

impl GcmAssociatedData<'_> {
    fn around(&self, nonce: &[u8; 12]) -> Vec<u8> {
        [self.before_nonce, nonce, self.after_nonce].concat()
    }
}

/// A key with the associated data that goes with it.
#[derive(Debug, Clone, Copy)]
pub struct Gcm<'a> {
    /// The key.
    pub key: KeyReference<'a>,
    /// What is authenticated with the ciphertext.
    pub associated_data: GcmAssociatedData<'a>,
}

impl Member {
    /// Encrypts by AES-GCM under a fresh random nonce from the token.
    pub fn encrypt_gcm(&self, session: &mut Session, gcm: Gcm<'_>, plaintext: &[u8]) -> Result<GcmOutput, Error> {
        let permitted_use = PermittedUse::new(Operation::Encrypt, Mechanism::AesGcm);
        let mut nonce = [0; 12];
        let ciphertext = self.use_key(session, gcm.key, permitted_use, |session, key| {
            session.generate_random(&mut nonce)?;
            let associated_data = gcm.associated_data.around(&nonce);
            let mechanism = CallMechanism::Gcm {
                nonce: &nonce,
                associated_data: &associated_data,
            };
            session.encrypt(mechanism, key.handle(), plaintext, GCM_TAG_LENGTH)
        })?;
        Ok(GcmOutput { nonce, ciphertext })
    }

    /// Decrypts AES-GCM. Whatever is wrong with the ciphertext or its associated data is [`Error::DecryptionFailed`].
    pub fn decrypt_gcm(
        &self,
        session: &mut Session,
        gcm: Gcm<'_>,
        nonce: &[u8; 12],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let permitted_use = PermittedUse::new(Operation::Decrypt, Mechanism::AesGcm);
        let associated_data = gcm.associated_data.around(nonce);
        let mechanism = CallMechanism::Gcm {
            nonce,
            associated_data: &associated_data,
        };
        self.decrypt_with(session, gcm.key, permitted_use, |session, key| {
            session.decrypt(mechanism, key.handle(), ciphertext)
        })
    }

    /// Draws a data key of so many bytes from the token and encrypts it; returns both.
    pub fn generate_data_key(
        &self,
        session: &mut Session,
        gcm: Gcm<'_>,
        length: usize,
    ) -> Result<(GcmOutput, Zeroizing<Vec<u8>>), Error> {
        let data_key = self.random(session, length)?;
        let encrypted = self.encrypt_gcm(session, gcm, &data_key)?;
        Ok((encrypted, data_key))
    }

    /// Decrypts with one key and encrypts with another, or with the same one under other associated data.
    pub fn re_encrypt(
        &self,
        session: &mut Session,
        source: Gcm<'_>,
        nonce: &[u8; 12],
        ciphertext: &[u8],
        destination: Gcm<'_>,
    ) -> Result<GcmOutput, Error> {
        // Before the work, so that a key that is not loaded is not found out about half-way. It is pinned by its own use.
        let pinned = self.key_for(session, destination.key, Operation::Encrypt, Mechanism::AesGcm)?;
        let plaintext = self.decrypt_gcm(session, source, nonce, ciphertext)?;
        let output = self.encrypt_gcm(session, destination, &plaintext);
        drop(pinned);
        output
    }
}

const GCM_TAG_LENGTH: usize = 16;

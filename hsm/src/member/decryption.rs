//! Whether a failed decryption is about the ciphertext or about the member.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation, PermittedUse},
    loaded::LoadedKey,
    pkcs11::{Attribute, CallError, CallMechanism, CallResult, Session, SessionKind},
    return_code::{Class, ReturnCode},
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::{CKA_VALUE_LEN, CKM_AES_KEY_GEN};

impl Member {
    /// Decrypts with a key. After an error that may be about the ciphertext or about the member, the member must decrypt something
    /// else, and fail again with the ciphertext, before that is called wrong.
    pub(super) fn decrypt_with<T>(
        &self,
        session: &mut Session,
        reference: KeyReference<'_>,
        permitted_use: PermittedUse,
        decrypt: impl Fn(&mut Session, &LoadedKey) -> CallResult<T>,
    ) -> Result<T, Error> {
        let error = match self.use_key(session, reference, permitted_use, &decrypt) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if !is_ambiguous(&error) {
            return Err(self.judge_decryption(error));
        }
        if !self.still_decrypts() {
            return Err(error);
        }
        *session = self.open_session(SessionKind::ReadOnly)?;
        self.use_key(session, reference, permitted_use, decrypt)
            .map_err(|error| self.judge_decryption(error))
    }

    /// What a failed decryption means: one answer for everything that may be wrong with a ciphertext.
    ///
    /// Tokens answer a wrong tag or padding with anything from `CKR_ENCRYPTED_DATA_INVALID` to `CKR_GENERAL_ERROR`. A code
    /// that could also mean a broken member is judged by what the member does otherwise: if it still gives the known answer, the
    /// ciphertext was wrong. Otherwise anyone could take members out of use by sending rubbish. What failed before the decryption, such
    /// as loading the key, says nothing of the ciphertext.
    fn judge_decryption(&self, error: Error) -> Error {
        let Error::Call(CallError { function, code }) = error else {
            return error;
        };
        if function != DECRYPTION {
            return error;
        }
        match code {
            ReturnCode::ENCRYPTED_DATA_INVALID
            | ReturnCode::ENCRYPTED_DATA_LEN_RANGE
            | ReturnCode::AEAD_DECRYPT_FAILED
            | ReturnCode::DATA_INVALID
            | ReturnCode::DATA_LEN_RANGE
            | ReturnCode::SIGNATURE_INVALID => Error::DecryptionFailed,
            code if code.class() == Class::MemberFault && self.still_answers() => Error::DecryptionFailed,
            _ => error,
        }
    }

    /// Whether the member decrypts with a new key what it encrypted with it, where it has AES-GCM at all.
    fn still_decrypts(&self) -> bool {
        let has = |operation| self.capabilities.supports(operation, Mechanism::AesGcm);
        if !has(Operation::Encrypt) || !has(Operation::Decrypt) || !self.capabilities.generates(KeyType::Aes256) {
            return true;
        }
        let usage = Usage {
            encrypt: true,
            decrypt: true,
            ..Usage::NONE
        };
        let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Forbidden, usage)
            .with(Attribute::number(CKA_VALUE_LEN, 32));
        // The key is used once and dies with the session, so any nonce will do.
        let mechanism = CallMechanism::Gcm {
            nonce: &[0; 12],
            associated_data: &[],
        };
        let plaintext = [0; 16];
        let tried = self.open_session(SessionKind::ReadOnly).and_then(|mut session| {
            let key = session.generate_key(CallMechanism::Plain(CKM_AES_KEY_GEN), &template)?;
            let ciphertext = session.encrypt(mechanism, key, &plaintext, 16)?;
            Ok(session.decrypt(mechanism, key, &ciphertext)?)
        });
        tried.is_ok_and(|decrypted| decrypted.as_slice() == plaintext)
    }
}

/// Whether a decryption's error may be about the ciphertext or about the member.
fn is_ambiguous(error: &Error) -> bool {
    matches!(error, Error::Call(CallError { function, code })
        if *function == DECRYPTION && code.class() == Class::MemberFault)
}

/// The call that sees the ciphertext.
const DECRYPTION: &str = "C_Decrypt";

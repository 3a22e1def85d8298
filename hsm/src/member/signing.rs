//! Signatures and message authentication codes.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{Mechanism, Operation, PermittedUse},
    pkcs11::Session,
    return_code::ReturnCode,
    template,
};

impl Member {
    /// Signs or MACs. `data` is the digest where the mechanism hashes, else the message.
    pub fn sign(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        permitted_use: PermittedUse,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mechanism = permitted_use.mechanism;
        let input = template::signing_input(mechanism, data);
        self.use_key(session, key, permitted_use, |session, key| {
            session.sign(
                template::signing_call(mechanism),
                key.handle(),
                &input,
                SIGNATURE_CAPACITY,
            )
        })
    }

    /// Says whether a message authentication code is right. The token compares, so that the right one never leaves it and a
    /// key that may only verify cannot be made to sign.
    pub fn verify_mac(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        mechanism: Mechanism,
        data: &[u8],
        mac: &[u8],
    ) -> Result<bool, Error> {
        let permitted_use = PermittedUse::new(Operation::MacVerify, mechanism);
        let verified = self.use_key(session, key, permitted_use, |session, key| {
            session.verify(template::signing_call(mechanism), key.handle(), data, mac)
        });
        match verified {
            Ok(()) => Ok(true),
            Err(Error::Call(error)) if WRONG.contains(&error.code) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// More than an RSA-4096 signature has.
const SIGNATURE_CAPACITY: usize = 1024;
const WRONG: [ReturnCode; 2] = [ReturnCode::SIGNATURE_INVALID, ReturnCode::SIGNATURE_LEN_RANGE];

//! RSA decryption and key agreement.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{Family, KeyType, Mechanism, Operation, PermittedUse},
    pkcs11::{Attribute, CallMechanism, CallResult, ObjectHandle, Session},
    return_code::Class,
    template,
};
use cryptoki_sys::{CKA_VALUE, CKA_VALUE_LEN};
use zeroize::Zeroizing;

impl Member {
    /// Decrypts what was encrypted to an RSA public key. Whatever is wrong with its length or padding is
    /// [`Error::DecryptionFailed`], by one path.
    pub fn decrypt_asymmetric(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        mechanism: Mechanism,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let call = template::decryption_call(mechanism)
            .ok_or_else(|| Error::Refused(format!("{mechanism} does not decrypt with a private key")))?;
        let permitted_use = PermittedUse::new(Operation::Decrypt, mechanism);
        let (plaintext, key_type) = self.decrypt_with(session, key, permitted_use, |session, key| {
            Ok((session.decrypt(call, key.handle(), ciphertext)?, key.key_type()))
        })?;
        match (mechanism, key_type.family()) {
            (Mechanism::RsaRaw, Family::Rsa(bits)) => padded(plaintext, bits as usize / 8),
            _ => Ok(plaintext),
        }
    }

    /// Agrees on a secret with a peer: the x-coordinate of the shared point (SP 800-56A), as long as the field. The caller
    /// has made sure that the peer's uncompressed point is on the key's curve.
    pub fn agree(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        peer_point: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let permitted_use = PermittedUse::new(Operation::Derive, Mechanism::Ecdh);
        let (secret, key_type) = self.use_key(session, key, permitted_use, |session, key| {
            let derived = derive(session, key.handle(), key.key_type(), peer_point)?;
            let secret = session
                .attribute(derived, CKA_VALUE, SECRET_CAPACITY)
                .map(Zeroizing::new);
            session.destroy_object(derived)?;
            Ok((secret?, key.key_type()))
        })?;
        let length = key_type
            .field_length()
            .ok_or_else(|| Error::Refused(format!("a key of type {key_type} does not agree on secrets")))?;
        padded(secret, length)
    }
}

/// Derives the shared secret as a readable session object. It is asked for in the field's length; a token that strips leading
/// zeros refuses that for one secret in 256, and is asked again for what it has.
fn derive(session: &mut Session, key: ObjectHandle, key_type: KeyType, peer_point: &[u8]) -> CallResult<ObjectHandle> {
    let mechanism = CallMechanism::Ecdh { peer_point };
    let template = template::shared_secret();
    let length = key_type.field_length().unwrap_or_default() as u64;
    let whole = template.clone().with(Attribute::number(CKA_VALUE_LEN, length));
    session
        .derive_key(mechanism, key, &whole)
        .or_else(|error| match error.code.class() {
            Class::CallerFault | Class::MemberFault => session.derive_key(mechanism, key, &template),
            _ => Err(error),
        })
}

/// The number with leading zeros, as long as it must be.
fn padded(number: Zeroizing<Vec<u8>>, length: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let missing = length
        .checked_sub(number.len())
        .ok_or_else(|| Error::Refused(format!("the token returned {} bytes instead of {length}", number.len())))?;
    if missing == 0 {
        return Ok(number);
    }
    let mut whole = Zeroizing::new(vec![0; length]);
    whole[missing..].copy_from_slice(&number);
    Ok(whole)
}

/// More than a coordinate of P-521 has.
const SECRET_CAPACITY: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripped_zeros_come_back_and_nothing_is_cut() {
        let pad = |bytes: &[u8], length| padded(Zeroizing::new(bytes.to_vec()), length).map(|whole| whole.to_vec());
        assert!(matches!(pad(&[7, 8], 4), Ok(whole) if whole == [0, 0, 7, 8]));
        assert!(matches!(pad(&[7, 8], 2), Ok(whole) if whole == [7, 8]));
        assert!(matches!(pad(&[7, 8], 1), Err(Error::Refused(_))));
    }
}

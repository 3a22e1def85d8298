//! Export: a portable key leaves the domain, wrapped for another HSM or a registered recipient.

use super::{KeyReference, Member};
use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation},
    domain::{OaepHash, WRAPPED_CAPACITY},
    key_token::{KeyToken, Origin, Storage},
    pkcs11::{Attribute, CallMechanism, ObjectHandle, Session},
    public_key::rsa_components,
    template::{self, Extraction, Lifetime, Usage},
};
use cryptoki_sys::*;

/// For whom a key is wrapped.
#[derive(Clone, Copy)]
pub enum Recipient<'a> {
    /// A wrapping key of this domain, by AES key wrap with or without padding.
    WrappingKey {
        /// Generated in an HSM and never portable.
        key: KeyReference<'a>,
        /// AES_KW or AES_KWP.
        mechanism: Mechanism,
    },
    /// An RSA public key (SubjectPublicKeyInfo in DER), in the layout of `CKM_RSA_AES_KEY_WRAP` (PKCS#11 3.0 section 6.1.25).
    RsaPublicKey {
        /// The recipient's key.
        public_key: &'a [u8],
        /// The hash of OAEP.
        hash: OaepHash,
    },
}

impl Member {
    /// Wraps a portable key for a recipient. The key is loaded extractable for this alone, and destroyed at once.
    ///
    /// # Errors
    ///
    /// [`Error::ExportRefused`] for a key that is not portable, a wrapping key that was imported or is portable itself, and a
    /// recipient that is no RSA public key. [`Error::NotLoaded`] where a token is needed and was not sent.
    pub fn export(
        &self,
        session: &mut Session,
        key: KeyReference<'_>,
        recipient: Recipient<'_>,
    ) -> Result<Vec<u8>, Error> {
        // The token itself is always needed: what is loaded for use cannot be wrapped.
        let sealed = key.sealed.ok_or(Error::NotLoaded)?;
        let token = self.authentic_token(session, key.digest, sealed)?;
        if token.storage != Storage::Portable {
            return Err(Error::ExportRefused("it was not created exportable".to_owned()));
        }
        match recipient {
            Recipient::WrappingKey { key, mechanism } => {
                let wrapping = self.key_for(session, key, Operation::Wrap, mechanism)?;
                let (origin, storage) = (wrapping.origin(), wrapping.storage());
                if origin != Origin::Generated || storage == Storage::Portable {
                    return Err(Error::ExportRefused(
                        "the wrapping key was imported or is exportable itself, so it may be known outside of HSMs"
                            .to_owned(),
                    ));
                }
                let mechanism = match mechanism {
                    // The token's own name for RFC 5649.
                    Mechanism::AesKwp => CallMechanism::Plain(self.key_wrap()?),
                    // RFC 3394 has no place for a length, and private keys are of any.
                    _ if token.key_type.is_asymmetric() => {
                        return Err(Error::ExportRefused(
                            "a private key is wrapped by AES_KWP; AES_KW takes whole blocks only".to_owned(),
                        ));
                    }
                    mechanism => CallMechanism::Plain(template::pkcs11_mechanism(mechanism)),
                };
                self.wrapped_once(session, &token, |session, exported| {
                    Ok(session.wrap_key(mechanism, wrapping.handle(), exported, WRAPPED_CAPACITY)?)
                })
            }
            Recipient::RsaPublicKey { public_key, hash } => {
                let (modulus, exponent) = rsa_components(public_key).map_err(|error| {
                    Error::ExportRefused(format!("the recipient's key is not an RSA public key: {error}"))
                })?;
                let recipient = session.create_object(&template::wrapping_public_key(&modulus, &exponent))?;
                let passing = self.passing_key(session)?;
                let to_rsa = session.wrap_key(hash.call(), recipient, passing, WRAPPED_CAPACITY)?;
                let to_aes = self.wrapped_once(session, &token, |session, exported| {
                    let key_wrap = CallMechanism::Plain(self.key_wrap()?);
                    Ok(session.wrap_key(key_wrap, passing, exported, WRAPPED_CAPACITY)?)
                })?;
                session.destroy_object(passing)?;
                session.destroy_object(recipient)?;
                Ok([to_rsa, to_aes].concat())
            }
        }
    }

    /// Loads a portable key extractable, lets it be wrapped, and destroys it however that went. If it cannot be destroyed,
    /// the error has the caller close the session, and the object dies with that.
    fn wrapped_once(
        &self,
        session: &mut Session,
        token: &KeyToken,
        wrap: impl FnOnce(&mut Session, ObjectHandle) -> Result<Vec<u8>, Error>,
    ) -> Result<Vec<u8>, Error> {
        let under = self.domain()?.wrapping(Extraction::Allowed)?;
        let template = template::key(token.key_type, Lifetime::Session, Extraction::Allowed, Usage::NONE);
        let exported = session.unwrap_key(under.mechanism, under.key, &token.wrapped, &template)?;
        let wrapped = wrap(session, exported);
        session.destroy_object(exported)?;
        wrapped
    }

    /// The AES key between the recipient's RSA key and the exported key: born here, wrapped once, gone.
    fn passing_key(&self, session: &mut Session) -> Result<ObjectHandle, Error> {
        let usage = Usage {
            wrap: true,
            ..Usage::NONE
        };
        let template = template::key(KeyType::Aes256, Lifetime::Session, Extraction::Allowed, usage)
            .with(Attribute::number(CKA_VALUE_LEN, 32));
        let template = template::frozen(template, &[self.key_wrap()?]);
        Ok(session.generate_key(CallMechanism::Plain(CKM_AES_KEY_GEN), &template)?)
    }
}

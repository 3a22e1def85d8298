//! Signing and verification, single and in parts. Nothing is asked of the gateway before the whole message is there.

use super::scheme::Scheme;
use crate::{
    error::{Error, Result},
    gateway::Pool,
    key::Key,
    mechanism::Mechanism,
    object::{Content, Object, Secret},
    output::Output,
    session::Next,
};
use aws_lc_rs::digest::Context;
use cryptoki_sys::*;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A signature that is made or checked.
#[derive(Clone)]
pub(crate) struct Signature {
    signer: Signer,
    scheme: Scheme,
    input: Input,
    in_parts: bool,
}

/// By what it is signed.
#[derive(Clone)]
enum Signer {
    Key(Arc<Key>),
    /// The caller's own, which makes codes here.
    Secret(Arc<Secret>),
}

/// What came of the message.
#[derive(Clone)]
enum Input {
    Hash(Context),
    Whole(Zeroizing<Vec<u8>>),
}

impl Signature {
    /// Begins to sign.
    pub(crate) fn signing(mechanism: &Mechanism, object: &Object) -> Result<Self> {
        match &object.content {
            Content::PrivateKey(key) | Content::SecretKey(key) => {
                let scheme = Scheme::of(mechanism, key)?;
                scheme.require_permission(key)?;
                Ok(Self::new(Signer::Key(Arc::clone(key)), scheme))
            }
            Content::Secret(secret) => Self::own(mechanism, secret),
            Content::PublicKey(_) => Err(CKR_KEY_TYPE_INCONSISTENT.into()),
            Content::Certificate(_) | Content::Data(_) => Err(CKR_KEY_HANDLE_INVALID.into()),
        }
    }

    /// Begins to verify.
    pub(crate) fn verifying(mechanism: &Mechanism, object: &Object) -> Result<Self> {
        match &object.content {
            Content::PublicKey(key) | Content::SecretKey(key) => {
                let scheme = Scheme::of(mechanism, key)?;
                if matches!(scheme, Scheme::Mac { .. }) {
                    scheme.require_permission(key)?;
                }
                Ok(Self::new(Signer::Key(Arc::clone(key)), scheme))
            }
            Content::Secret(secret) => Self::own(mechanism, secret),
            Content::PrivateKey(_) => Err(CKR_KEY_TYPE_INCONSISTENT.into()),
            Content::Certificate(_) | Content::Data(_) => Err(CKR_KEY_HANDLE_INVALID.into()),
        }
    }

    fn own(mechanism: &Mechanism, secret: &Arc<Secret>) -> Result<Self> {
        let scheme = Scheme::own(mechanism, secret)?;
        Ok(Self::new(Signer::Secret(Arc::clone(secret)), scheme))
    }

    fn new(signer: Signer, scheme: Scheme) -> Self {
        let input = match scheme.message_hash() {
            Some(hash) => Input::Hash(hash.begin()),
            None => Input::Whole(Zeroizing::default()),
        };
        Self {
            signer,
            scheme,
            input,
            in_parts: false,
        }
    }

    /// Signs the whole message.
    pub(crate) fn sign(&mut self, pool: &Pool, data: &[u8], output: &mut Output<'_>) -> Result<Next> {
        self.require_whole()?;
        if !output.has_room(self.length())? {
            return Ok(Next::Active);
        }
        self.take(data)?;
        self.end(pool, output)
    }

    /// Takes a part of the message.
    pub(crate) fn update(&mut self, data: &[u8]) -> Result<Next> {
        if !self.scheme.takes_parts() {
            return Err(Error::new(
                CKR_FUNCTION_NOT_SUPPORTED,
                "the mechanism signs in one part alone",
            ));
        }
        self.in_parts = true;
        self.take(data)?;
        Ok(Next::Active)
    }

    /// Signs what came in parts.
    pub(crate) fn end(&mut self, pool: &Pool, output: &mut Output<'_>) -> Result<Next> {
        if !output.has_room(self.length())? {
            return Ok(Next::Active);
        }
        let input = self.input();
        output.put(&match &self.signer {
            Signer::Key(key) => self.scheme.sign(pool, key, &input)?,
            Signer::Secret(secret) => self.scheme.sign_here(secret, &input)?,
        })?;
        Ok(Next::Ended)
    }

    /// Checks the signature of the whole message.
    pub(crate) fn verify(&mut self, pool: &Pool, data: &[u8], signature: &[u8]) -> Result<Next> {
        self.require_whole()?;
        self.take(data)?;
        self.verify_end(pool, signature)
    }

    /// Checks the signature of what came in parts.
    pub(crate) fn verify_end(&mut self, pool: &Pool, signature: &[u8]) -> Result<Next> {
        let input = self.input();
        match &self.signer {
            Signer::Key(key) => self.scheme.verify(pool, key, &input, signature)?,
            Signer::Secret(_) if signature.len() != self.length() => return Err(CKR_SIGNATURE_LEN_RANGE.into()),
            Signer::Secret(secret) => {
                if !bool::from(self.scheme.sign_here(secret, &input)?.ct_eq(signature)) {
                    return Err(CKR_SIGNATURE_INVALID.into());
                }
            }
        }
        Ok(Next::Ended)
    }

    fn length(&self) -> usize {
        match &self.signer {
            Signer::Key(key) => self.scheme.length(key),
            Signer::Secret(_) => self.scheme.code_length(),
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<()> {
        match &mut self.input {
            Input::Hash(context) => context.update(data),
            Input::Whole(whole) if whole.len() + data.len() > MOST_BUFFERED => {
                let message = format!("the HSM must see the message whole, and takes at most {MOST_BUFFERED} bytes");
                return Err(Error::new(CKR_DATA_LEN_RANGE, message));
            }
            Input::Whole(whole) => whole.extend_from_slice(data),
        }
        Ok(())
    }

    fn input(&self) -> Zeroizing<Vec<u8>> {
        match &self.input {
            Input::Hash(context) => Zeroizing::new(context.clone().finish().as_ref().to_vec()),
            Input::Whole(whole) => whole.clone(),
        }
    }

    fn require_whole(&self) -> Result<()> {
        match self.in_parts {
            true => Err(CKR_OPERATION_ACTIVE.into()),
            false => Ok(()),
        }
    }
}

/// What is kept of a message that must be seen whole: as much as the gateway takes if it is not told otherwise.
pub(crate) const MOST_BUFFERED: usize = 1 << 20;

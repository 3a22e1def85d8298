//! Signing and verification, single and in parts. Nothing is asked of the gateway before the whole message is there.

use super::scheme::Scheme;
use crate::{
    error::{Error, Result},
    gateway::Pool,
    key::Key,
    mechanism::Mechanism,
    object::{Content, Object},
    output::Output,
    session::Next,
};
use aws_lc_rs::digest::Context;
use cryptoki_sys::*;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A signature that is made or checked.
#[derive(Clone)]
pub(crate) struct Signature {
    key: Arc<Key>,
    scheme: Scheme,
    input: Input,
    in_parts: bool,
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
        let (Content::PrivateKey(key) | Content::SecretKey(key)) = &object.content else {
            return Err(unfit(object));
        };
        let scheme = Scheme::of(mechanism, key)?;
        scheme.require_permission(key)?;
        Ok(Self::new(key, scheme))
    }

    /// Begins to verify.
    pub(crate) fn verifying(mechanism: &Mechanism, object: &Object) -> Result<Self> {
        let (Content::PublicKey(key) | Content::SecretKey(key)) = &object.content else {
            return Err(unfit(object));
        };
        let scheme = Scheme::of(mechanism, key)?;
        if matches!(scheme, Scheme::Mac { .. }) {
            scheme.require_permission(key)?;
        }
        Ok(Self::new(key, scheme))
    }

    fn new(key: &Arc<Key>, scheme: Scheme) -> Self {
        let input = match scheme.message_hash() {
            Some(hash) => Input::Hash(hash.begin()),
            None => Input::Whole(Zeroizing::default()),
        };
        Self {
            key: Arc::clone(key),
            scheme,
            input,
            in_parts: false,
        }
    }

    /// Signs the whole message.
    pub(crate) fn sign(&mut self, pool: &Pool, data: &[u8], output: &mut Output<'_>) -> Result<Next> {
        self.require_whole()?;
        if !output.has_room(self.scheme.length(&self.key))? {
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
        if !output.has_room(self.scheme.length(&self.key))? {
            return Ok(Next::Active);
        }
        output.put(&self.scheme.sign(pool, &self.key, &self.input())?)?;
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
        self.scheme.verify(pool, &self.key, &self.input(), signature)?;
        Ok(Next::Ended)
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

/// Why an object signs and verifies nothing.
fn unfit(object: &Object) -> Error {
    match object.content {
        Content::PublicKey(_) | Content::PrivateKey(_) => CKR_KEY_TYPE_INCONSISTENT.into(),
        Content::Secret(_) | Content::SecretKey(_) => CKR_KEY_FUNCTION_NOT_PERMITTED.into(),
        Content::Certificate(_) | Content::Data(_) => CKR_KEY_HANDLE_INVALID.into(),
    }
}

/// What is kept of a message that must be seen whole: as much as the gateway takes if it is not told otherwise.
pub(crate) const MOST_BUFFERED: usize = 1 << 20;

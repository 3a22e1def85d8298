//! Digests, which need no key.

use crate::{error::Result, mechanism::Mechanism, output::Output, session::Next, software::hash::Hash};
use aws_lc_rs::digest::Context;
use cryptoki_sys::CKR_OPERATION_ACTIVE;

/// A digest under way.
#[derive(Clone)]
pub(crate) struct Digesting {
    hash: Hash,
    context: Context,
    in_parts: bool,
}

impl Digesting {
    pub(crate) fn new(mechanism: &Mechanism) -> Result<Self> {
        let hash = Hash::by_mechanism(mechanism.kind).ok_or_else(|| mechanism.invalid())?;
        mechanism.without_parameters()?;
        Ok(Self {
            hash,
            context: hash.begin(),
            in_parts: false,
        })
    }

    /// The digest of all there is.
    pub(crate) fn whole(&mut self, data: &[u8], output: &mut Output<'_>) -> Result<Next> {
        if self.in_parts {
            return Err(CKR_OPERATION_ACTIVE.into());
        }
        if !output.has_room(self.hash.length())? {
            return Ok(Next::Active);
        }
        output.put(&self.hash.of(data))?;
        Ok(Next::Ended)
    }

    pub(crate) fn update(&mut self, data: &[u8]) -> Result<Next> {
        self.in_parts = true;
        self.context.update(data);
        Ok(Next::Active)
    }

    pub(crate) fn end(&mut self, output: &mut Output<'_>) -> Result<Next> {
        if !output.has_room(self.hash.length())? {
            return Ok(Next::Active);
        }
        output.put(self.context.clone().finish().as_ref())?;
        Ok(Next::Ended)
    }
}

//! Where results go: the convention of PKCS#11 for results of variable length (section 5.2).

use crate::error::Result;
use cryptoki_sys::{CK_ULONG, CKR_BUFFER_TOO_SMALL};

/// A caller's buffer, or its question for the length.
pub(crate) struct Output<'a> {
    buffer: Option<&'a mut [u8]>,
    length: &'a mut CK_ULONG,
}

impl<'a> Output<'a> {
    pub(crate) fn new(buffer: Option<&'a mut [u8]>, length: &'a mut CK_ULONG) -> Self {
        Self { buffer, length }
    }

    /// Whether it asks for the length alone.
    pub(crate) fn is_query(&self) -> bool {
        self.buffer.is_none()
    }

    /// Answers a question for the length.
    pub(crate) fn tell(&mut self, length: usize) {
        *self.length = length as CK_ULONG;
    }

    /// Whether so many bytes can be put there: no, for a question, which is answered thereby; an error where the buffer is short.
    pub(crate) fn has_room(&mut self, length: usize) -> Result<bool> {
        match &self.buffer {
            Some(buffer) if buffer.len() >= length => Ok(true),
            Some(_) => {
                self.tell(length);
                Err(CKR_BUFFER_TOO_SMALL.into())
            }
            None => {
                self.tell(length);
                Ok(false)
            }
        }
    }

    /// Puts a result there.
    pub(crate) fn put(&mut self, result: &[u8]) -> Result<()> {
        if self.has_room(result.len())?
            && let Some(buffer) = &mut self.buffer
        {
            buffer[..result.len()].copy_from_slice(result);
            self.tell(result.len());
        }
        Ok(())
    }
}

//! Random numbers (PKCS#11 3.0, section 5.19).

use crate::{
    error::{Error, Result},
    library,
};
use cryptoki_sys::*;
use portcullis_proto::v1;
use std::ptr;
use zeroize::Zeroizing;

/// # Safety
///
/// None is needed: nothing is mixed into an HSM's generator.
pub(super) unsafe fn seed(session: CK_SESSION_HANDLE, _seed: CK_BYTE_PTR, _length: CK_ULONG) -> Result<()> {
    library::current()?.session(session)?;
    Err(CKR_RANDOM_SEED_NOT_SUPPORTED.into())
}

/// # Safety
///
/// `data` is null or points to room for `length` bytes.
pub(super) unsafe fn generate(session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, length: CK_ULONG) -> Result<()> {
    let library = library::current()?;
    library.session(session)?;
    if data.is_null() {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    let length = usize::try_from(length).map_err(|_| Error::from(CKR_ARGUMENTS_BAD))?;
    let mut filled = 0;
    while filled < length {
        let wanted = (length - filled).min(MOST_AT_ONCE);
        let answer = library.pool.generate_random(v1::GenerateRandomRequest {
            length_bytes: wanted as u32,
        })?;
        let drawn = Zeroizing::new(answer.data.to_vec());
        if drawn.len() != wanted {
            return Err(CKR_DEVICE_ERROR.into());
        }
        // SAFETY: there is room for `length` bytes by the caller's promise, and `filled + wanted` are no more.
        unsafe { ptr::copy_nonoverlapping(drawn.as_ptr(), data.add(filled), wanted) };
        filled += wanted;
    }
    Ok(())
}

/// What the gateway gives in one answer.
const MOST_AT_ONCE: usize = 65_536;

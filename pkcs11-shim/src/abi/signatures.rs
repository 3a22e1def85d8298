//! Signing and verification (PKCS#11 3.0, sections 5.11 and 5.13).

use super::memory;
use crate::{
    error::Result,
    library,
    operation::signature::Signature,
    session::{begin, step},
};
use cryptoki_sys::*;

/// # Safety
///
/// As for [`memory::mechanism`].
pub(super) unsafe fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let mechanism = unsafe { memory::mechanism(mechanism) }?;
    let key = library.key(&token, key)?;
    begin(&mut session.active().sign, || Signature::signing(&mechanism, &key))
}

/// # Safety
///
/// As for [`memory::input`] and [`memory::output`].
pub(super) unsafe fn sign(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().sign, |signature| {
        // SAFETY: by the caller's promise.
        let (data, mut output) = unsafe { (memory::input(data, length)?, memory::output(result, result_length)?) };
        signature.sign(&library.pool, &data, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::input`].
pub(super) unsafe fn sign_update(session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, length: CK_ULONG) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().sign, |signature| {
        // SAFETY: by the caller's promise.
        let data = unsafe { memory::input(data, length) }?;
        signature.update(&data)
    })
}

/// # Safety
///
/// As for [`memory::output`].
pub(super) unsafe fn sign_final(
    session: CK_SESSION_HANDLE,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().sign, |signature| {
        // SAFETY: by the caller's promise.
        let mut output = unsafe { memory::output(result, result_length) }?;
        signature.end(&library.pool, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::mechanism`].
pub(super) unsafe fn verify_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let mechanism = unsafe { memory::mechanism(mechanism) }?;
    let key = library.key(&token, key)?;
    begin(&mut session.active().verify, || Signature::verifying(&mechanism, &key))
}

/// # Safety
///
/// As for [`memory::input`], twice.
pub(super) unsafe fn verify(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    signature: CK_BYTE_PTR,
    signature_length: CK_ULONG,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().verify, |verification| {
        // SAFETY: by the caller's promise.
        let (data, signature) = unsafe {
            (
                memory::input(data, length)?,
                memory::input(signature, signature_length)?,
            )
        };
        verification.verify(&library.pool, &data, &signature)
    })
}

/// # Safety
///
/// As for [`memory::input`].
pub(super) unsafe fn verify_update(session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, length: CK_ULONG) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().verify, |verification| {
        // SAFETY: by the caller's promise.
        let data = unsafe { memory::input(data, length) }?;
        verification.update(&data)
    })
}

/// # Safety
///
/// As for [`memory::input`].
pub(super) unsafe fn verify_final(session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, length: CK_ULONG) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().verify, |verification| {
        // SAFETY: by the caller's promise.
        let data = unsafe { memory::input(data, length) }?;
        verification.verify_end(&library.pool, &data)
    })
}

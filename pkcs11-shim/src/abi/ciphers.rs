//! Encryption and decryption (PKCS#11 3.0, sections 5.8 and 5.9).

use super::memory;
use crate::{
    error::Result,
    library,
    operation::cipher::{Cipher, Direction},
    session::{begin, step},
};
use cryptoki_sys::*;

/// # Safety
///
/// As for [`memory::mechanism`].
pub(super) unsafe fn encrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let mechanism = unsafe { memory::mechanism(mechanism) }?;
    let key = library.key(&token, key)?;
    begin(&mut session.active().encrypt, || {
        Cipher::new(&mechanism, &key, Direction::Encrypt)
    })
}

/// # Safety
///
/// As for [`memory::input`] and [`memory::output`].
pub(super) unsafe fn encrypt(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().encrypt, |cipher| {
        // SAFETY: by the caller's promise.
        let (data, mut output) = unsafe { (memory::input(data, length)?, memory::output(result, result_length)?) };
        cipher.whole(&library.pool, &data, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::input`] and [`memory::output`].
pub(super) unsafe fn encrypt_update(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().encrypt, |cipher| {
        // SAFETY: by the caller's promise.
        let (data, mut output) = unsafe { (memory::input(data, length)?, memory::output(result, result_length)?) };
        cipher.update(&data, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::output`].
pub(super) unsafe fn encrypt_final(
    session: CK_SESSION_HANDLE,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().encrypt, |cipher| {
        // SAFETY: by the caller's promise.
        let mut output = unsafe { memory::output(result, result_length) }?;
        cipher.end(&library.pool, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::mechanism`].
pub(super) unsafe fn decrypt_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let mechanism = unsafe { memory::mechanism(mechanism) }?;
    let key = library.key(&token, key)?;
    begin(&mut session.active().decrypt, || {
        Cipher::new(&mechanism, &key, Direction::Decrypt)
    })
}

/// # Safety
///
/// As for [`memory::input`] and [`memory::output`].
pub(super) unsafe fn decrypt(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().decrypt, |cipher| {
        // SAFETY: by the caller's promise.
        let (data, mut output) = unsafe { (memory::input(data, length)?, memory::output(result, result_length)?) };
        cipher.whole(&library.pool, &data, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::input`] and [`memory::output`].
pub(super) unsafe fn decrypt_update(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().decrypt, |cipher| {
        // SAFETY: by the caller's promise.
        let (data, mut output) = unsafe { (memory::input(data, length)?, memory::output(result, result_length)?) };
        cipher.update(&data, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::output`].
pub(super) unsafe fn decrypt_final(
    session: CK_SESSION_HANDLE,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().decrypt, |cipher| {
        // SAFETY: by the caller's promise.
        let mut output = unsafe { memory::output(result, result_length) }?;
        cipher.end(&library.pool, &mut output)
    })
}

//! Message digesting (PKCS#11 3.0, section 5.10).

use super::memory;
use crate::{
    error::{Error, Result},
    library,
    object::Content,
    operation::digest::Digesting,
    session::{begin, step},
};
use cryptoki_sys::*;

/// # Safety
///
/// As for [`memory::mechanism`].
pub(super) unsafe fn init(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let mechanism = unsafe { memory::mechanism(mechanism) }?;
    begin(&mut session.active().digest, || Digesting::new(&mechanism))
}

/// # Safety
///
/// As for [`memory::input`] and [`memory::output`].
pub(super) unsafe fn whole(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().digest, |digest| {
        // SAFETY: by the caller's promise.
        let (data, mut output) = unsafe { (memory::input(data, length)?, memory::output(result, result_length)?) };
        digest.whole(&data, &mut output)
    })
}

/// # Safety
///
/// As for [`memory::input`].
pub(super) unsafe fn update(session: CK_SESSION_HANDLE, data: CK_BYTE_PTR, length: CK_ULONG) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().digest, |digest| {
        // SAFETY: by the caller's promise.
        let data = unsafe { memory::input(data, length) }?;
        digest.update(&data)
    })
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn key(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    step(&mut session.active().digest, |digest| {
        match &library.key(&token, key)?.content {
            Content::Secret(secret) => digest.update(&secret.value),
            // Its value is in an HSM.
            Content::SecretKey(_) => Err(CKR_KEY_INDIGESTIBLE.into()),
            _ => Err(Error::from(CKR_KEY_HANDLE_INVALID)),
        }
    })
}

/// # Safety
///
/// As for [`memory::output`].
pub(super) unsafe fn end(session: CK_SESSION_HANDLE, result: CK_BYTE_PTR, result_length: CK_ULONG_PTR) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    step(&mut session.active().digest, |digest| {
        // SAFETY: by the caller's promise.
        let mut output = unsafe { memory::output(result, result_length) }?;
        digest.end(&mut output)
    })
}

//! Key management (PKCS#11 3.0, section 5.18).

use super::memory;
use crate::{
    creation,
    error::{Error, Result},
    library,
    operation::{
        derivation,
        generation::Wanted,
        wrapping::{self, Arrival},
    },
    storage,
    token::lock,
};
use cryptoki_sys::*;

/// # Safety
///
/// As for [`memory::mechanism`] and [`memory::template`]; `key` is null or points to a place for a handle.
pub(super) unsafe fn generate(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    key: CK_OBJECT_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let (mechanism, template) = unsafe { (memory::mechanism(mechanism)?, memory::template(template, count)?) };
    // SAFETY: by the caller's promise.
    let place = unsafe { memory::place(key) }?;
    let wanted = Wanted::secret(&mechanism, &template, library.config.new_keys)?;
    let made = storage::generate(&library, &session, &token, wanted)?;
    *place = *made.first().ok_or_else(|| Error::from(CKR_DEVICE_ERROR))?;
    Ok(())
}

/// # Safety
///
/// As for [`memory::mechanism`] and [`memory::template`], twice; `public_key` and `private_key` are null or point to places for handles.
#[allow(clippy::too_many_arguments, reason = "the standard has so many")]
pub(super) unsafe fn generate_pair(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    public: CK_ATTRIBUTE_PTR,
    public_count: CK_ULONG,
    private: CK_ATTRIBUTE_PTR,
    private_count: CK_ULONG,
    public_key: CK_OBJECT_HANDLE_PTR,
    private_key: CK_OBJECT_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let mechanism = unsafe { memory::mechanism(mechanism) }?;
    // SAFETY: by the caller's promise.
    let (public, private) = unsafe {
        (
            memory::template(public, public_count)?,
            memory::template(private, private_count)?,
        )
    };
    if public_key.is_null() || private_key.is_null() {
        return Err(CKR_ARGUMENTS_BAD.into());
    }
    let wanted = Wanted::pair(&mechanism, &public, &private, library.config.new_keys)?;
    let made = storage::generate(&library, &session, &token, wanted)?;
    let [made_private, made_public] = made.try_into().map_err(|_| Error::from(CKR_DEVICE_ERROR))?;
    // SAFETY: not null, and places for handles by the caller's promise.
    unsafe {
        public_key.write(made_public);
        private_key.write(made_private);
    }
    Ok(())
}

/// # Safety
///
/// As for [`memory::mechanism`] and [`memory::output`].
pub(super) unsafe fn wrap(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    result: CK_BYTE_PTR,
    result_length: CK_ULONG_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (_, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let (mechanism, mut output) = unsafe { (memory::mechanism(mechanism)?, memory::output(result, result_length)?) };
    let wrapping = library.object(&token, wrapping).map_err(|error| match error.code() {
        CKR_OBJECT_HANDLE_INVALID => CKR_WRAPPING_KEY_HANDLE_INVALID.into(),
        _ => error,
    })?;
    let key = library.key(&token, key)?;
    wrapping::wrap(&library.pool, &mechanism, &wrapping, &key, &mut output)
}

/// # Safety
///
/// As for [`memory::mechanism`], [`memory::input`] and [`memory::template`]; `key` is null or points to a place for a handle.
#[allow(clippy::too_many_arguments, reason = "the standard has so many")]
pub(super) unsafe fn unwrap(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    unwrapping: CK_OBJECT_HANDLE,
    wrapped: CK_BYTE_PTR,
    length: CK_ULONG,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    key: CK_OBJECT_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let (mechanism, template) = unsafe { (memory::mechanism(mechanism)?, memory::template(template, count)?) };
    // SAFETY: by the caller's promise.
    let (wrapped, place) = unsafe { (memory::input(wrapped, length)?, memory::place(key)?) };
    let unwrapping = library.object(&token, unwrapping).map_err(|error| match error.code() {
        CKR_OBJECT_HANDLE_INVALID => CKR_UNWRAPPING_KEY_HANDLE_INVALID.into(),
        _ => error,
    })?;
    let arrival = Arrival::new(&mechanism, &unwrapping, &wrapped, &template)?;
    *place = storage::unwrap(&library, &session, &token, arrival, &wrapped)?;
    Ok(())
}

/// # Safety
///
/// As for [`memory::mechanism`] and [`memory::template`]; `key` is null or points to a place for a handle.
pub(super) unsafe fn derive(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    base: CK_OBJECT_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
    key: CK_OBJECT_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let (mechanism, template) = unsafe { (memory::mechanism(mechanism)?, memory::template(template, count)?) };
    // SAFETY: by the caller's promise.
    let place = unsafe { memory::place(key) }?;
    let base = library.key(&token, base)?;
    if !library.config.own_secrets {
        return Err(creation::no_own_secrets());
    }
    let content = derivation::derive(&library.pool, &mechanism, &base, &template)?;
    *place = lock(&library.objects).put(token.slot, Some(session.handle), content);
    Ok(())
}

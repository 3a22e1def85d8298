//! Session management (PKCS#11 3.0, section 5.6), and the legacy functions of section 5.20.

use super::memory;
use crate::{
    config::PinMode,
    error::{Error, Result},
    library::{self, Library},
    token::{Token, lock},
};
use cryptoki_sys::*;
use std::fs;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// # Safety
///
/// `session` is null or points to a place for it. The notification is never called.
pub(super) unsafe fn open(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _application: CK_VOID_PTR,
    _notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> Result<()> {
    let library = library::current()?;
    library.token(slot)?;
    // SAFETY: by the caller's promise.
    let place = unsafe { memory::place(session) }?;
    if flags & CKF_SERIAL_SESSION == 0 {
        return Err(CKR_SESSION_PARALLEL_NOT_SUPPORTED.into());
    }
    *place = lock(&library.sessions).open(slot, flags & CKF_RW_SESSION != 0);
    Ok(())
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn close(session: CK_SESSION_HANDLE) -> Result<()> {
    let library = library::current()?;
    let closed = lock(&library.sessions).close(session)?;
    let token = library.token(closed.slot)?;
    after_closing(&library, &token, &[session]);
    Ok(())
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn close_all(slot: CK_SLOT_ID) -> Result<()> {
    let library = library::current()?;
    let token = library.token(slot)?;
    let closed: Vec<_> = {
        let mut sessions = lock(&library.sessions);
        let open = sessions.of_slot(slot);
        open.into_iter()
            .filter(|handle| sessions.close(*handle).is_ok())
            .collect()
    };
    after_closing(&library, &token, &closed);
    Ok(())
}

/// # Safety
///
/// `info` is null or points to a place for it.
pub(super) unsafe fn info(session: CK_SESSION_HANDLE, info: CK_SESSION_INFO_PTR) -> Result<()> {
    let library = library::current()?;
    let (session, token) = library.session(session)?;
    let (writes, flags) = match session.is_read_write {
        true => (true, CKF_SERIAL_SESSION | CKF_RW_SESSION),
        false => (false, CKF_SERIAL_SESSION),
    };
    let state = match (token.is_logged_in(), writes) {
        (false, false) => CKS_RO_PUBLIC_SESSION,
        (false, true) => CKS_RW_PUBLIC_SESSION,
        (true, false) => CKS_RO_USER_FUNCTIONS,
        (true, true) => CKS_RW_USER_FUNCTIONS,
    };
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(info) }? = CK_SESSION_INFO {
        slotID: session.slot,
        state,
        flags,
        ulDeviceError: 0,
    };
    Ok(())
}

/// # Safety
///
/// `pin` is null or points to `length` bytes.
pub(super) unsafe fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: CK_UTF8CHAR_PTR,
    length: CK_ULONG,
) -> Result<()> {
    let library = library::current()?;
    let (_, token) = library.session(session)?;
    // SAFETY: by the caller's promise.
    let pin = unsafe { memory::input(pin, length) }?;
    match user {
        CKU_USER if token.is_logged_in() => return Err(CKR_USER_ALREADY_LOGGED_IN.into()),
        CKU_USER => {}
        // No key asks for it.
        CKU_CONTEXT_SPECIFIC => return Err(CKR_OPERATION_NOT_INITIALIZED.into()),
        // Who administers a ring does so by its own name at the gateway.
        CKU_SO => return Err(Error::new(CKR_USER_TYPE_INVALID, "there is no security officer here")),
        _ => return Err(CKR_USER_TYPE_INVALID.into()),
    }
    if let PinMode::Required(file) = &library.config.pin {
        let unreadable = |error| Error::new(CKR_GENERAL_ERROR, format!("cannot read {}: {error}", file.display()));
        let expected = Zeroizing::new(fs::read(file).map_err(unreadable)?);
        let expected = expected.strip_suffix(b"\n").unwrap_or(&expected);
        if expected.is_empty() || !bool::from(expected.ct_eq(&pin)) {
            return Err(CKR_PIN_INCORRECT.into());
        }
    }
    token.set_logged_in(true);
    Ok(())
}

/// # Safety
///
/// As for [`login`].
pub(super) unsafe fn login_user(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: CK_UTF8CHAR_PTR,
    length: CK_ULONG,
    _name: CK_UTF8CHAR_PTR,
    name_length: CK_ULONG,
) -> Result<()> {
    if name_length > 0 {
        return Err(Error::new(
            CKR_ARGUMENTS_BAD,
            "who the user is, the connection says: expected no name",
        ));
    }
    // SAFETY: the caller's promise is the same.
    unsafe { login(session, user, pin, length) }
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn logout(session: CK_SESSION_HANDLE) -> Result<()> {
    let library = library::current()?;
    let (_, token) = library.session(session)?;
    if !token.is_logged_in() {
        return Err(CKR_USER_NOT_LOGGED_IN.into());
    }
    log_out(&library, &token);
    Ok(())
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn cancel(session: CK_SESSION_HANDLE, flags: CK_FLAGS) -> Result<()> {
    let library = library::current()?;
    let (session, _) = library.session(session)?;
    let mut active = session.active();
    let is_meant = |flag| flags & flag != 0;
    if is_meant(CKF_FIND_OBJECTS) {
        active.find = None;
    }
    if is_meant(CKF_ENCRYPT) {
        active.encrypt = None;
    }
    if is_meant(CKF_DECRYPT) {
        active.decrypt = None;
    }
    if is_meant(CKF_DIGEST) {
        active.digest = None;
    }
    if is_meant(CKF_SIGN) {
        active.sign = None;
    }
    if is_meant(CKF_VERIFY) {
        active.verify = None;
    }
    Ok(())
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn function_status(session: CK_SESSION_HANDLE) -> Result<()> {
    library::current()?.session(session)?;
    Err(CKR_FUNCTION_NOT_PARALLEL.into())
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn cancel_function(session: CK_SESSION_HANDLE) -> Result<()> {
    library::current()?.session(session)?;
    Err(CKR_FUNCTION_NOT_PARALLEL.into())
}

/// What sessions made goes with them, and the login with the last one.
fn after_closing(library: &Library, token: &Token, closed: &[CK_SESSION_HANDLE]) {
    let mut objects = lock(&library.objects);
    for session in closed {
        objects.remove_of(*session);
    }
    drop(objects);
    if lock(&library.sessions).count(token.slot).0 == 0 {
        token.set_logged_in(false);
    }
}

/// Private session objects go with the login (PKCS#11 3.0, section 5.6.9), where it is needed to see them.
fn log_out(library: &Library, token: &Token) {
    token.set_logged_in(false);
    if !library.shows_private(token) {
        let mut objects = lock(&library.objects);
        for handle in objects.of_sessions(token.slot) {
            if objects.find(token.slot, handle).is_ok_and(|object| object.is_private()) {
                objects.remove(handle);
            }
        }
    }
}

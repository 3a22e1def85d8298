//! Slot and token management (PKCS#11 3.0, section 5.5).

use super::{
    general::{VERSION, padded},
    memory,
};
use crate::{
    config::PinMode,
    error::{Error, Result},
    library,
    software::hash::Hash,
    token::lock,
};
use cryptoki_sys::*;

/// # Safety
///
/// As for [`memory::put_list`].
pub(super) unsafe fn slot_list(_present: CK_BBOOL, slots: CK_SLOT_ID_PTR, count: CK_ULONG_PTR) -> Result<()> {
    // Every slot has its token, always.
    let tokens = library::current()?.tokens()?;
    let list: Vec<_> = tokens.iter().map(|token| token.slot).collect();
    // SAFETY: by the caller's promise.
    unsafe { memory::put_list(&list, slots, count) }
}

/// # Safety
///
/// `info` is null or points to a place for it.
pub(super) unsafe fn slot_info(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR) -> Result<()> {
    let token = library::current()?.token(slot)?;
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(info) }? = CK_SLOT_INFO {
        slotDescription: padded(&format!("Portcullis key ring {}", token.ring)),
        manufacturerID: padded("Portcullis"),
        flags: CKF_TOKEN_PRESENT | CKF_HW_SLOT,
        hardwareVersion: VERSION,
        firmwareVersion: VERSION,
    };
    Ok(())
}

/// # Safety
///
/// `info` is null or points to a place for it.
pub(super) unsafe fn token_info(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) -> Result<()> {
    let library = library::current()?;
    let token = library.token(slot)?;
    let (sessions, writing) = lock(&library.sessions).count(slot);
    let login = match library.config.pin {
        PinMode::Ignored => 0,
        PinMode::Required(_) => CKF_LOGIN_REQUIRED,
    };
    // The same in every process, and known without asking anybody.
    let serial = hex::encode(&Hash::Sha256.of(token.ring.as_bytes())[..8]);
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(info) }? = CK_TOKEN_INFO {
        label: padded(&token.ring),
        manufacturerID: padded("Portcullis"),
        model: padded("key ring"),
        serialNumber: padded(&serial),
        flags: CKF_RNG | CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | login,
        ulMaxSessionCount: CK_EFFECTIVELY_INFINITE,
        ulSessionCount: sessions as CK_ULONG,
        ulMaxRwSessionCount: CK_EFFECTIVELY_INFINITE,
        ulRwSessionCount: writing as CK_ULONG,
        ulMaxPinLen: 255,
        ulMinPinLen: 0,
        ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
        ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
        ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
        ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
        hardwareVersion: VERSION,
        firmwareVersion: VERSION,
        utcTime: padded(""),
    };
    Ok(())
}

/// # Safety
///
/// As for [`memory::put_list`].
pub(super) unsafe fn mechanism_list(slot: CK_SLOT_ID, list: CK_MECHANISM_TYPE_PTR, count: CK_ULONG_PTR) -> Result<()> {
    let library = library::current()?;
    library.token(slot)?;
    let kinds: Vec<_> = library.mechanisms().iter().map(|row| row.kind).collect();
    // SAFETY: by the caller's promise.
    unsafe { memory::put_list(&kinds, list, count) }
}

/// # Safety
///
/// `info` is null or points to a place for it.
pub(super) unsafe fn mechanism_info(
    slot: CK_SLOT_ID,
    kind: CK_MECHANISM_TYPE,
    info: CK_MECHANISM_INFO_PTR,
) -> Result<()> {
    let library = library::current()?;
    library.token(slot)?;
    let row = library.mechanisms().into_iter().find(|row| row.kind == kind);
    let row = row.ok_or_else(|| Error::from(CKR_MECHANISM_INVALID))?;
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(info) }? = CK_MECHANISM_INFO {
        ulMinKeySize: row.least,
        ulMaxKeySize: row.most,
        flags: row.flags,
    };
    Ok(())
}

/// # Safety
///
/// None is needed: tokens neither come nor go.
pub(super) unsafe fn wait(flags: CK_FLAGS, _slot: CK_SLOT_ID_PTR, reserved: CK_VOID_PTR) -> Result<()> {
    library::current()?;
    match (reserved.is_null(), flags & CKF_DONT_BLOCK != 0) {
        (false, _) => Err(CKR_ARGUMENTS_BAD.into()),
        (true, true) => Err(CKR_NO_EVENT.into()),
        // Nothing would ever end the wait.
        (true, false) => Err(CKR_FUNCTION_NOT_SUPPORTED.into()),
    }
}

//! General-purpose functions (PKCS#11 3.0, section 5.4).

use super::{FUNCTION_LIST, FUNCTION_LIST_3_0, memory};
use crate::{
    error::{Error, Result},
    library,
};
use cryptoki_sys::*;
use std::{
    ffi::{CStr, c_void},
    ptr,
};

/// # Safety
///
/// `arguments` is null or points to a `CK_C_INITIALIZE_ARGS`.
pub(super) unsafe fn initialize(arguments: CK_VOID_PTR) -> Result<()> {
    if !arguments.is_null() {
        // SAFETY: not null, and such a structure by the caller's promise.
        let arguments = unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().read() };
        let given = [
            arguments.CreateMutex.is_some(),
            arguments.DestroyMutex.is_some(),
            arguments.LockMutex.is_some(),
            arguments.UnlockMutex.is_some(),
        ];
        // Some callers pass a configuration for other modules in `pReserved`: the standard says that this is not taken.
        if !arguments.pReserved.is_null() || (given.contains(&true) && given.contains(&false)) {
            return Err(CKR_ARGUMENTS_BAD.into());
        }
        // The module locks by the operating system's means, and creates no threads: only who forbids that is refused.
        if given[0] && arguments.flags & CKF_OS_LOCKING_OK == 0 {
            return Err(CKR_CANT_LOCK.into());
        }
    }
    library::initialize()
}

/// # Safety
///
/// None is needed.
pub(super) unsafe fn finalize(reserved: CK_VOID_PTR) -> Result<()> {
    match reserved.is_null() {
        true => library::finalize(),
        false => Err(CKR_ARGUMENTS_BAD.into()),
    }
}

/// # Safety
///
/// `info` is null or points to a place for it.
pub(super) unsafe fn info(info: CK_INFO_PTR) -> Result<()> {
    library::current()?;
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(info) }? = CK_INFO {
        cryptokiVersion: CK_VERSION { major: 3, minor: 0 },
        manufacturerID: padded("Portcullis"),
        flags: 0,
        libraryDescription: padded("Portcullis gateway"),
        libraryVersion: VERSION,
    };
    Ok(())
}

/// # Safety
///
/// `list` is null or points to a place for a pointer.
pub(super) unsafe fn function_list(list: CK_FUNCTION_LIST_PTR_PTR) -> Result<()> {
    // The list is constant; the type wants a mutable pointer through which nobody may write.
    // SAFETY: by the caller's promise.
    *unsafe { memory::place(list) }? = (&raw const FUNCTION_LIST).cast_mut();
    Ok(())
}

/// # Safety
///
/// As for [`memory::put_list`].
pub(super) unsafe fn interface_list(list: *mut CK_INTERFACE, count: CK_ULONG_PTR) -> Result<()> {
    let interfaces = INTERFACES.each_ref().map(|interface| interface.0);
    // SAFETY: by the caller's promise.
    unsafe { memory::put_list(&interfaces, list, count) }
}

/// # Safety
///
/// `name` is null or a string that ends with zero; `version` is null or points to a version; `interface` is null or points to a place
/// for a pointer.
pub(super) unsafe fn interface(
    name: CK_UTF8CHAR_PTR,
    version: *mut CK_VERSION,
    interface: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> Result<()> {
    // SAFETY: by the caller's promise.
    let place = unsafe { memory::place(interface) }?;
    // SAFETY: not null, and a string by the caller's promise.
    let is_named = name.is_null() || unsafe { CStr::from_ptr(name.cast()) } == NAME;
    // SAFETY: null or a version, by the caller's promise.
    let version = unsafe { version.as_ref() }.map(|version| (version.major, version.minor));
    let fits =
        |one: &&Interface| version.is_none_or(|version| version == one.1) && flags & one.0.flags == flags && is_named;
    let found = INTERFACES
        .iter()
        .find(fits)
        .ok_or_else(|| Error::from(CKR_FUNCTION_FAILED))?;
    *place = ptr::from_ref(&found.0).cast_mut();
    Ok(())
}

/// An interface and its version.
struct Interface(CK_INTERFACE, (CK_BYTE, CK_BYTE));

// SAFETY: its pointers are to constants, which nobody writes.
unsafe impl Sync for Interface {}

/// The newest one first: it is what a caller gets that names no version.
static INTERFACES: [Interface; 2] = [
    Interface(described(&raw const FUNCTION_LIST_3_0 as *const c_void), (3, 0)),
    Interface(described(&raw const FUNCTION_LIST as *const c_void), (2, 40)),
];

const fn described(list: *const c_void) -> CK_INTERFACE {
    CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: list.cast_mut(),
        flags: CKF_INTERFACE_FORK_SAFE,
    }
}

/// Text as the standard has it in structures: padded with blanks, without an end. What is too long is cut.
pub(super) fn padded<const LENGTH: usize>(text: &str) -> [CK_UTF8CHAR; LENGTH] {
    let mut end = text.len().min(LENGTH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut padded = [b' '; LENGTH];
    padded[..end].copy_from_slice(&text.as_bytes()[..end]);
    padded
}

pub(super) const VERSION: CK_VERSION = CK_VERSION { major: 0, minor: 1 };
const NAME: &CStr = c"PKCS 11";

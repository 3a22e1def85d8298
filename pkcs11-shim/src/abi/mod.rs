//! The C surface: the only place where pointers of a caller are followed.
//!
//! The entry points and the function lists of 2.40 and 3.0 are made from one description. Each entry point is a few lines in the
//! file of its chapter of the standard, which turns pointers into values, asks the library and writes the result.
//!
//! - `general` (5.4), `slots` (5.5), `sessions` (5.6), `objects` (5.7), `ciphers` (5.8, 5.9), `digests` (5.10), `signatures`
//!   (5.11, 5.13), `keys` (5.18), `random` (5.19).
//! - `memory`: what pointers mean. `host`: signals and descriptors of the process around the module.

mod ciphers;
mod digests;
mod general;
pub(crate) mod host;
mod keys;
mod memory;
mod objects;
mod random;
mod sessions;
mod signatures;
mod slots;

pub(crate) use memory::mechanism_of;

use crate::{
    error::{Error, Result},
    library,
    log::{Level, LogSettings},
};
use cryptoki_sys::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

macro_rules! entry_points {
    (
        2.40 { $($chapter:ident::$inner:ident = $name:ident($($argument:ident: $type:ty),*);)* }
        3.0 { $($new_chapter:ident::$new_inner:ident = $new_name:ident($($new_argument:ident: $new_type:ty),*);)* }
        absent in 2.40 { $($absent:ident($($absent_argument:ident: $absent_type:ty),*);)* }
        absent in 3.0 { $($new_absent:ident($($new_absent_argument:ident: $new_absent_type:ty),*);)* }
    ) => {
        $(entry_point!($chapter::$inner = $name($($argument: $type),*));)*
        $(entry_point!($new_chapter::$new_inner = $new_name($($new_argument: $new_type),*));)*
        $(absent_entry_point!($absent($($absent_argument: $absent_type),*));)*
        $(absent_entry_point!($new_absent($($new_absent_argument: $new_absent_type),*));)*

        /// What callers of 2.40 get.
        static FUNCTION_LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            $($name: Some($name),)*
            $($absent: Some($absent),)*
        };

        /// What callers of 3.0 get.
        static FUNCTION_LIST_3_0: CK_FUNCTION_LIST_3_0 = CK_FUNCTION_LIST_3_0 {
            version: CK_VERSION { major: 3, minor: 0 },
            $($name: Some($name),)*
            $($absent: Some($absent),)*
            $($new_name: Some($new_name),)*
            $($new_absent: Some($new_absent),)*
        };
    };
}

macro_rules! entry_point {
    ($chapter:ident::$inner:ident = $name:ident($($argument:ident: $type:ty),*)) => {
        /// The function of this name in the standard.
        ///
        /// # Safety
        ///
        /// What the standard asks of its caller.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the names of the standard")]
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            // SAFETY: the arguments are the caller's, who has made the standard's promises.
            guarded(stringify!($name), || unsafe { $chapter::$inner($($argument),*) })
        }
    };
}

macro_rules! absent_entry_point {
    ($name:ident($($argument:ident: $type:ty),*)) => {
        /// The function of this name in the standard, which is not carried.
        ///
        /// # Safety
        ///
        /// None is needed: it looks at nothing.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the names of the standard")]
        pub(crate) unsafe extern "C" fn $name($(_: $type),*) -> CK_RV {
            guarded(stringify!($name), not_carried)
        }
    };
}

/// Does a call, and turns its end into a return code: a panic too.
fn guarded(function: &str, call: impl FnOnce() -> Result<()>) -> CK_RV {
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or_default();
        Err(Error::new(CKR_GENERAL_ERROR, format!("the module failed: {words}")))
    });
    let Err(error) = result else {
        return CKR_OK;
    };
    // A log that fails must not be what a host notices.
    drop(catch_unwind(AssertUnwindSafe(|| match library::current() {
        Ok(library) => library.log(function, &error),
        // There is no configuration that says where to.
        Err(_) if error.detail().is_some() => {
            LogSettings::default().write(Level::Error, &format!("{function}: {error}"))
        }
        Err(_) => {}
    })));
    error.code()
}

fn not_carried() -> Result<()> {
    library::current()?;
    Err(CKR_FUNCTION_NOT_SUPPORTED.into())
}

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Attributes = CK_ATTRIBUTE_PTR;
type MechanismPointer = CK_MECHANISM_PTR;
type Bytes = CK_BYTE_PTR;
type Length = CK_ULONG;
type Lengths = CK_ULONG_PTR;
type Objects = CK_OBJECT_HANDLE_PTR;

entry_points! {
    2.40 {
        general::initialize = C_Initialize(arguments: CK_VOID_PTR);
        general::finalize = C_Finalize(reserved: CK_VOID_PTR);
        general::info = C_GetInfo(info: CK_INFO_PTR);
        general::function_list = C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR);
        slots::slot_list = C_GetSlotList(present: CK_BBOOL, slots: CK_SLOT_ID_PTR, count: Lengths);
        slots::slot_info = C_GetSlotInfo(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR);
        slots::token_info = C_GetTokenInfo(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR);
        slots::mechanism_list = C_GetMechanismList(slot: CK_SLOT_ID, list: CK_MECHANISM_TYPE_PTR, count: Lengths);
        slots::mechanism_info = C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: CK_MECHANISM_INFO_PTR);
        slots::wait = C_WaitForSlotEvent(flags: CK_FLAGS, slot: CK_SLOT_ID_PTR, reserved: CK_VOID_PTR);
        sessions::open = C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, application: CK_VOID_PTR, notify: CK_NOTIFY,
            session: CK_SESSION_HANDLE_PTR);
        sessions::close = C_CloseSession(session: Session);
        sessions::close_all = C_CloseAllSessions(slot: CK_SLOT_ID);
        sessions::info = C_GetSessionInfo(session: Session, info: CK_SESSION_INFO_PTR);
        sessions::login = C_Login(session: Session, user: CK_USER_TYPE, pin: CK_UTF8CHAR_PTR, length: Length);
        sessions::logout = C_Logout(session: Session);
        sessions::function_status = C_GetFunctionStatus(session: Session);
        sessions::cancel_function = C_CancelFunction(session: Session);
        objects::create = C_CreateObject(session: Session, template: Attributes, count: Length, object: Objects);
        objects::copy = C_CopyObject(session: Session, object: Object, template: Attributes, count: Length, copy: Objects);
        objects::destroy = C_DestroyObject(session: Session, object: Object);
        objects::size = C_GetObjectSize(session: Session, object: Object, size: Lengths);
        objects::attributes = C_GetAttributeValue(session: Session, object: Object, template: Attributes, count: Length);
        objects::set_attributes = C_SetAttributeValue(session: Session, object: Object, template: Attributes, count: Length);
        objects::find_init = C_FindObjectsInit(session: Session, template: Attributes, count: Length);
        objects::find = C_FindObjects(session: Session, objects: Objects, most: Length, count: Lengths);
        objects::find_final = C_FindObjectsFinal(session: Session);
        ciphers::encrypt_init = C_EncryptInit(session: Session, mechanism: MechanismPointer, key: Object);
        ciphers::encrypt = C_Encrypt(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        ciphers::encrypt_update = C_EncryptUpdate(session: Session, data: Bytes, length: Length, result: Bytes,
            result_length: Lengths);
        ciphers::encrypt_final = C_EncryptFinal(session: Session, result: Bytes, result_length: Lengths);
        ciphers::decrypt_init = C_DecryptInit(session: Session, mechanism: MechanismPointer, key: Object);
        ciphers::decrypt = C_Decrypt(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        ciphers::decrypt_update = C_DecryptUpdate(session: Session, data: Bytes, length: Length, result: Bytes,
            result_length: Lengths);
        ciphers::decrypt_final = C_DecryptFinal(session: Session, result: Bytes, result_length: Lengths);
        digests::init = C_DigestInit(session: Session, mechanism: MechanismPointer);
        digests::whole = C_Digest(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        digests::update = C_DigestUpdate(session: Session, data: Bytes, length: Length);
        digests::key = C_DigestKey(session: Session, key: Object);
        digests::end = C_DigestFinal(session: Session, result: Bytes, result_length: Lengths);
        signatures::sign_init = C_SignInit(session: Session, mechanism: MechanismPointer, key: Object);
        signatures::sign = C_Sign(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        signatures::sign_update = C_SignUpdate(session: Session, data: Bytes, length: Length);
        signatures::sign_final = C_SignFinal(session: Session, result: Bytes, result_length: Lengths);
        signatures::verify_init = C_VerifyInit(session: Session, mechanism: MechanismPointer, key: Object);
        signatures::verify = C_Verify(session: Session, data: Bytes, length: Length, signature: Bytes, signature_length: Length);
        signatures::verify_update = C_VerifyUpdate(session: Session, data: Bytes, length: Length);
        signatures::verify_final = C_VerifyFinal(session: Session, signature: Bytes, length: Length);
        keys::generate = C_GenerateKey(session: Session, mechanism: MechanismPointer, template: Attributes, count: Length,
            key: Objects);
        keys::generate_pair = C_GenerateKeyPair(session: Session, mechanism: MechanismPointer, public: Attributes,
            public_count: Length, private: Attributes, private_count: Length, public_key: Objects, private_key: Objects);
        keys::wrap = C_WrapKey(session: Session, mechanism: MechanismPointer, wrapping: Object, key: Object, result: Bytes,
            result_length: Lengths);
        keys::unwrap = C_UnwrapKey(session: Session, mechanism: MechanismPointer, unwrapping: Object, wrapped: Bytes,
            length: Length, template: Attributes, count: Length, key: Objects);
        keys::derive = C_DeriveKey(session: Session, mechanism: MechanismPointer, base: Object, template: Attributes,
            count: Length, key: Objects);
        random::seed = C_SeedRandom(session: Session, seed: Bytes, length: Length);
        random::generate = C_GenerateRandom(session: Session, data: Bytes, length: Length);
    }
    3.0 {
        general::interface_list = C_GetInterfaceList(list: *mut CK_INTERFACE, count: Lengths);
        general::interface = C_GetInterface(name: CK_UTF8CHAR_PTR, version: *mut CK_VERSION, interface: *mut *mut CK_INTERFACE,
            flags: CK_FLAGS);
        sessions::login_user = C_LoginUser(session: Session, user: CK_USER_TYPE, pin: CK_UTF8CHAR_PTR, length: Length,
            name: CK_UTF8CHAR_PTR, name_length: Length);
        sessions::cancel = C_SessionCancel(session: Session, flags: CK_FLAGS);
    }
    absent in 2.40 {
        C_InitToken(slot: CK_SLOT_ID, pin: CK_UTF8CHAR_PTR, length: Length, label: CK_UTF8CHAR_PTR);
        C_InitPIN(session: Session, pin: CK_UTF8CHAR_PTR, length: Length);
        C_SetPIN(session: Session, old: CK_UTF8CHAR_PTR, old_length: Length, new: CK_UTF8CHAR_PTR, new_length: Length);
        C_GetOperationState(session: Session, state: Bytes, length: Lengths);
        C_SetOperationState(session: Session, state: Bytes, length: Length, encryption: Object, authentication: Object);
        C_SignRecoverInit(session: Session, mechanism: MechanismPointer, key: Object);
        C_SignRecover(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        C_VerifyRecoverInit(session: Session, mechanism: MechanismPointer, key: Object);
        C_VerifyRecover(session: Session, signature: Bytes, length: Length, data: Bytes, data_length: Lengths);
        C_DigestEncryptUpdate(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        C_DecryptDigestUpdate(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        C_SignEncryptUpdate(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        C_DecryptVerifyUpdate(session: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
    }
    absent in 3.0 {
        C_MessageEncryptInit(session: Session, mechanism: MechanismPointer, key: Object);
        C_EncryptMessage(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, associated: Bytes,
            associated_length: Length, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        C_EncryptMessageBegin(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, associated: Bytes,
            associated_length: Length);
        C_EncryptMessageNext(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, data: Bytes, length: Length,
            result: Bytes, result_length: Lengths, flags: CK_FLAGS);
        C_MessageEncryptFinal(session: Session);
        C_MessageDecryptInit(session: Session, mechanism: MechanismPointer, key: Object);
        C_DecryptMessage(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, associated: Bytes,
            associated_length: Length, data: Bytes, length: Length, result: Bytes, result_length: Lengths);
        C_DecryptMessageBegin(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, associated: Bytes,
            associated_length: Length);
        C_DecryptMessageNext(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, data: Bytes, length: Length,
            result: Bytes, result_length: Lengths, flags: CK_FLAGS);
        C_MessageDecryptFinal(session: Session);
        C_MessageSignInit(session: Session, mechanism: MechanismPointer, key: Object);
        C_SignMessage(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, data: Bytes, length: Length,
            result: Bytes, result_length: Lengths);
        C_SignMessageBegin(session: Session, parameter: CK_VOID_PTR, parameter_length: Length);
        C_SignMessageNext(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, data: Bytes, length: Length,
            result: Bytes, result_length: Lengths);
        C_MessageSignFinal(session: Session);
        C_MessageVerifyInit(session: Session, mechanism: MechanismPointer, key: Object);
        C_VerifyMessage(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, data: Bytes, length: Length,
            signature: Bytes, signature_length: Length);
        C_VerifyMessageBegin(session: Session, parameter: CK_VOID_PTR, parameter_length: Length);
        C_VerifyMessageNext(session: Session, parameter: CK_VOID_PTR, parameter_length: Length, data: Bytes, length: Length,
            signature: Bytes, signature_length: Length);
        C_MessageVerifyFinal(session: Session);
    }
}

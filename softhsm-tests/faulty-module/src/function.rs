//! The functions of PKCS#11 2.40 and the entry points, made from one description.
//!
//! Each function is described by its parameters and by what they are to the module around it:
//!
//! - `session(s)`: the session that it works in;
//! - `by(m)`: the mechanism; `begins()`: of an operation that later calls continue;
//! - `takes(k, …)`: object handles from the caller; `gives(p, …)`: pointers to new ones; `finds(p, n)`: to `n` of them;
//!   `destroys(k)`: one that is gone then;
//! - `puts(p, n)`: a result of `n` bytes, which a rule may spoil;
//! - `opens(slot, p)`, `closes(s)`, `closes_all(slot)`, `ends()`: what becomes of sessions;
//! - `tells(p)`: the token's information.

use crate::module::{Call, guarded};
use cryptoki_sys::*;
use serde::{Deserialize, Serialize};
use std::slice;

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) { $($role:ident($($which:ident),*))* })*) => {
        /// A function that the module forwards, by its name in the standard.
        #[allow(missing_docs, non_camel_case_types, reason = "the names of the standard")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Function { $($name),* }

        impl Function {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
        }

        /// What callers get.
        pub(crate) static FUNCTION_LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            C_GetFunctionList: Some(crate::C_GetFunctionList),
            $($name: Some($name)),*
        };

        $(
            #[allow(non_snake_case, reason = "the names of the standard")]
            unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                guarded(|module| {
                    #[allow(unused_mut, reason = "some functions have neither session nor mechanism")]
                    let mut call = Call { function: Function::$name, session: None, mechanism: None };
                    $(before!(call, $role, $($which),*);)*
                    module.serve(call, |forwarding| {
                        $(translate!(forwarding, $role, $($which),*);)*
                        let Some(function) = forwarding.real().$name else {
                            return CKR_FUNCTION_NOT_SUPPORTED;
                        };
                        // SAFETY: the arguments are the caller's, who has promised to the standard that they are valid; in the place
                        // of its object handles are those for which the real module gave them.
                        let code = unsafe { function($($argument),*) };
                        if code != CKR_OK {
                            return code;
                        }
                        $(settle!(forwarding, $role, $($which),*);)*
                        CKR_OK
                    })
                })
            }
        )*
    };
}

/// What the rules are told of a call.
macro_rules! before {
    ($call:ident, session, $session:ident) => {
        $call.session = Some($session)
    };
    ($call:ident, by, $mechanism:ident) => {
        // SAFETY: null or a mechanism, by the caller's promise to the standard.
        $call.mechanism = unsafe { $mechanism.as_ref() }.map(|mechanism| mechanism.mechanism)
    };
    ($call:ident, $other:ident, $($which:ident),*) => {};
}

/// From the caller's handles to the real ones.
macro_rules! translate {
    ($forwarding:ident, takes, $($key:ident),*) => { $(let $key = $forwarding.object($key);)* };
    ($forwarding:ident, destroys, $object:ident) => { let $object = $forwarding.object($object); };
    ($forwarding:ident, $other:ident, $($which:ident),*) => {};
}

/// What follows from a call that succeeded.
macro_rules! settle {
    ($forwarding:ident, begins,) => {
        $forwarding.began()
    };
    ($forwarding:ident, gives, $($object:ident),*) => {$(
        // SAFETY: null or a handle that the call has just written.
        if let Some(object) = unsafe { $object.as_mut() } {
            $forwarding.give(slice::from_mut(object));
        }
    )*};
    ($forwarding:ident, finds, $objects:ident, $count:ident) => {
        // SAFETY: null or a count that the call has just written.
        if let Some(count) = unsafe { $count.as_ref() } && !$objects.is_null() {
            // SAFETY: the call has just written so many handles there.
            $forwarding.give(unsafe { slice::from_raw_parts_mut($objects, *count as usize) });
        }
    };
    ($forwarding:ident, destroys, $object:ident) => {
        $forwarding.destroyed($object)
    };
    ($forwarding:ident, puts, $result:ident, $length:ident) => {
        // SAFETY: null or a length that the call has just written.
        if let Some(length) = unsafe { $length.as_ref() } && !$result.is_null() {
            // SAFETY: it was not asked for the length alone, so it has just written so many bytes there.
            $forwarding.put_out(unsafe { slice::from_raw_parts_mut($result, *length as usize) });
        }
    };
    ($forwarding:ident, opens, $slot:ident, $session:ident) => {
        // SAFETY: null or a handle that the call has just written.
        if let Some(session) = unsafe { $session.as_ref() } {
            let code = $forwarding.opened($slot, *session);
            if code != CKR_OK {
                return code;
            }
        }
    };
    ($forwarding:ident, closes, $session:ident) => {
        $forwarding.closed($session)
    };
    ($forwarding:ident, closes_all, $slot:ident) => {
        $forwarding.closed_all($slot)
    };
    ($forwarding:ident, ends,) => {
        $forwarding.ended()
    };
    ($forwarding:ident, tells, $info:ident) => {
        // SAFETY: null or what the call has just filled.
        if let (Some(info), Some(most)) = (unsafe { $info.as_mut() }, $forwarding.told_sessions()) {
            info.ulMaxSessionCount = most;
        }
    };
    ($forwarding:ident, $other:ident, $($which:ident),*) => {};
}

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Attributes = CK_ATTRIBUTE_PTR;
type Mechanism = CK_MECHANISM_PTR;
type Bytes = CK_BYTE_PTR;
type Length = CK_ULONG;
type Lengths = CK_ULONG_PTR;

functions! {
    C_Initialize(arguments: CK_VOID_PTR) {}
    C_Finalize(reserved: CK_VOID_PTR) { ends() }
    C_GetInfo(info: CK_INFO_PTR) {}
    C_GetSlotList(present: CK_BBOOL, slots: CK_SLOT_ID_PTR, count: Lengths) {}
    C_GetSlotInfo(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR) {}
    C_GetTokenInfo(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) { tells(info) }
    C_GetMechanismList(slot: CK_SLOT_ID, list: CK_MECHANISM_TYPE_PTR, count: Lengths) {}
    C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: CK_MECHANISM_INFO_PTR) {}
    C_InitToken(slot: CK_SLOT_ID, pin: CK_UTF8CHAR_PTR, length: Length, label: CK_UTF8CHAR_PTR) {}
    C_InitPIN(s: Session, pin: CK_UTF8CHAR_PTR, length: Length) { session(s) }
    C_SetPIN(s: Session, old: CK_UTF8CHAR_PTR, old_length: Length, new: CK_UTF8CHAR_PTR, new_length: Length) { session(s) }
    C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, application: CK_VOID_PTR, notify: CK_NOTIFY, new: CK_SESSION_HANDLE_PTR)
        { opens(slot, new) }
    C_CloseSession(s: Session) { session(s) closes(s) }
    C_CloseAllSessions(slot: CK_SLOT_ID) { closes_all(slot) }
    C_GetSessionInfo(s: Session, info: CK_SESSION_INFO_PTR) { session(s) }
    C_GetOperationState(s: Session, state: Bytes, length: Lengths) { session(s) }
    C_SetOperationState(s: Session, state: Bytes, length: Length, encryption: Object, authentication: Object)
        { session(s) takes(encryption, authentication) }
    C_Login(s: Session, user: CK_USER_TYPE, pin: CK_UTF8CHAR_PTR, length: Length) { session(s) }
    C_Logout(s: Session) { session(s) }
    C_CreateObject(s: Session, template: Attributes, count: Length, object: CK_OBJECT_HANDLE_PTR) { session(s) gives(object) }
    C_CopyObject(s: Session, object: Object, template: Attributes, count: Length, copy: CK_OBJECT_HANDLE_PTR)
        { session(s) takes(object) gives(copy) }
    C_DestroyObject(s: Session, object: Object) { session(s) destroys(object) }
    C_GetObjectSize(s: Session, object: Object, size: Lengths) { session(s) takes(object) }
    C_GetAttributeValue(s: Session, object: Object, template: Attributes, count: Length) { session(s) takes(object) }
    C_SetAttributeValue(s: Session, object: Object, template: Attributes, count: Length) { session(s) takes(object) }
    C_FindObjectsInit(s: Session, template: Attributes, count: Length) { session(s) }
    C_FindObjects(s: Session, objects: CK_OBJECT_HANDLE_PTR, most: Length, count: Lengths) { session(s) finds(objects, count) }
    C_FindObjectsFinal(s: Session) { session(s) }
    C_EncryptInit(s: Session, mechanism: Mechanism, key: Object) { session(s) by(mechanism) takes(key) begins() }
    C_Encrypt(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_EncryptUpdate(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_EncryptFinal(s: Session, result: Bytes, result_length: Lengths) { session(s) puts(result, result_length) }
    C_DecryptInit(s: Session, mechanism: Mechanism, key: Object) { session(s) by(mechanism) takes(key) begins() }
    C_Decrypt(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_DecryptUpdate(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_DecryptFinal(s: Session, result: Bytes, result_length: Lengths) { session(s) puts(result, result_length) }
    C_DigestInit(s: Session, mechanism: Mechanism) { session(s) by(mechanism) begins() }
    C_Digest(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_DigestUpdate(s: Session, data: Bytes, length: Length) { session(s) }
    C_DigestKey(s: Session, key: Object) { session(s) takes(key) }
    C_DigestFinal(s: Session, result: Bytes, result_length: Lengths) { session(s) puts(result, result_length) }
    C_SignInit(s: Session, mechanism: Mechanism, key: Object) { session(s) by(mechanism) takes(key) begins() }
    C_Sign(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_SignUpdate(s: Session, data: Bytes, length: Length) { session(s) }
    C_SignFinal(s: Session, result: Bytes, result_length: Lengths) { session(s) puts(result, result_length) }
    C_SignRecoverInit(s: Session, mechanism: Mechanism, key: Object) { session(s) by(mechanism) takes(key) begins() }
    C_SignRecover(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_VerifyInit(s: Session, mechanism: Mechanism, key: Object) { session(s) by(mechanism) takes(key) begins() }
    C_Verify(s: Session, data: Bytes, length: Length, signature: Bytes, signature_length: Length) { session(s) }
    C_VerifyUpdate(s: Session, data: Bytes, length: Length) { session(s) }
    C_VerifyFinal(s: Session, signature: Bytes, signature_length: Length) { session(s) }
    C_VerifyRecoverInit(s: Session, mechanism: Mechanism, key: Object) { session(s) by(mechanism) takes(key) begins() }
    C_VerifyRecover(s: Session, signature: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_DigestEncryptUpdate(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_DecryptDigestUpdate(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_SignEncryptUpdate(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_DecryptVerifyUpdate(s: Session, data: Bytes, length: Length, result: Bytes, result_length: Lengths)
        { session(s) puts(result, result_length) }
    C_GenerateKey(s: Session, mechanism: Mechanism, template: Attributes, count: Length, key: CK_OBJECT_HANDLE_PTR)
        { session(s) by(mechanism) gives(key) }
    C_GenerateKeyPair(
        s: Session,
        mechanism: Mechanism,
        public: Attributes,
        public_count: Length,
        private: Attributes,
        private_count: Length,
        public_key: CK_OBJECT_HANDLE_PTR,
        private_key: CK_OBJECT_HANDLE_PTR
    ) { session(s) by(mechanism) gives(public_key, private_key) }
    C_WrapKey(s: Session, mechanism: Mechanism, wrapping: Object, key: Object, result: Bytes, result_length: Lengths)
        { session(s) by(mechanism) takes(wrapping, key) puts(result, result_length) }
    C_UnwrapKey(
        s: Session,
        mechanism: Mechanism,
        unwrapping: Object,
        wrapped: Bytes,
        length: Length,
        template: Attributes,
        count: Length,
        key: CK_OBJECT_HANDLE_PTR
    ) { session(s) by(mechanism) takes(unwrapping) gives(key) }
    C_DeriveKey(
        s: Session,
        mechanism: Mechanism,
        base: Object,
        template: Attributes,
        count: Length,
        key: CK_OBJECT_HANDLE_PTR
    ) { session(s) by(mechanism) takes(base) gives(key) }
    C_SeedRandom(s: Session, seed: Bytes, length: Length) { session(s) }
    C_GenerateRandom(s: Session, result: Bytes, length: Length) { session(s) }
    C_GetFunctionStatus(s: Session) { session(s) }
    C_CancelFunction(s: Session) { session(s) }
    C_WaitForSlotEvent(flags: CK_FLAGS, slot: CK_SLOT_ID_PTR, reserved: CK_VOID_PTR) {}
}

impl Function {
    /// Whether a token whose login is lost refuses it: all that uses keys and private objects.
    pub(crate) fn needs_login(self) -> bool {
        use Function::*;
        matches!(
            self,
            C_CreateObject | C_CopyObject | C_DestroyObject | C_GetAttributeValue | C_SetAttributeValue
        ) || (C_EncryptInit..=C_DecryptVerifyUpdate).contains(&self)
            || (C_GenerateKey..=C_DeriveKey).contains(&self)
    }
}

//! What every PKCS#11 return code means for the one who called: the only place where a code is judged.

use cryptoki_sys::*;
use std::fmt;

/// What to do about a return code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request cannot succeed anywhere: answer the caller.
    CallerFault,
    /// The session is gone or stuck: a new session on the same member, once.
    SessionLost,
    /// The login is gone: log in once, then as `SessionLost`.
    LoginLost,
    /// The object handle is gone: load a wrapped key again, once.
    HandleLost,
    /// The member is short of something: back off, use another member.
    Busy,
    /// The member failed: use another member, tell the breaker.
    MemberFault,
    /// The member needs a person: stop it. A wrong PIN is never tried again.
    Fatal,
}

/// A `CK_RV` other than `CKR_OK`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReturnCode(u64);

macro_rules! return_codes {
    ($($name:ident: $code:ident => $class:ident,)*) => {
        #[allow(missing_docs)]
        impl ReturnCode {
            $(pub const $name: Self = Self($code);)*
        }

        const TABLE: &[(u64, &str, Class)] = &[$(($code, stringify!($code), Class::$class),)*];
    };
}

// The codes of PKCS#11 3.2, which contain those of 3.0 and 2.40.
return_codes! {
    CANCEL: CKR_CANCEL => CallerFault,
    HOST_MEMORY: CKR_HOST_MEMORY => Busy,
    SLOT_ID_INVALID: CKR_SLOT_ID_INVALID => MemberFault,
    GENERAL_ERROR: CKR_GENERAL_ERROR => MemberFault,
    FUNCTION_FAILED: CKR_FUNCTION_FAILED => MemberFault,
    ARGUMENTS_BAD: CKR_ARGUMENTS_BAD => CallerFault,
    NO_EVENT: CKR_NO_EVENT => CallerFault,
    NEED_TO_CREATE_THREADS: CKR_NEED_TO_CREATE_THREADS => Fatal,
    CANT_LOCK: CKR_CANT_LOCK => Fatal,
    ATTRIBUTE_READ_ONLY: CKR_ATTRIBUTE_READ_ONLY => CallerFault,
    ATTRIBUTE_SENSITIVE: CKR_ATTRIBUTE_SENSITIVE => CallerFault,
    ATTRIBUTE_TYPE_INVALID: CKR_ATTRIBUTE_TYPE_INVALID => CallerFault,
    ATTRIBUTE_VALUE_INVALID: CKR_ATTRIBUTE_VALUE_INVALID => CallerFault,
    ACTION_PROHIBITED: CKR_ACTION_PROHIBITED => CallerFault,
    DATA_INVALID: CKR_DATA_INVALID => CallerFault,
    DATA_LEN_RANGE: CKR_DATA_LEN_RANGE => CallerFault,
    DEVICE_ERROR: CKR_DEVICE_ERROR => MemberFault,
    DEVICE_MEMORY: CKR_DEVICE_MEMORY => Busy,
    DEVICE_REMOVED: CKR_DEVICE_REMOVED => MemberFault,
    ENCRYPTED_DATA_INVALID: CKR_ENCRYPTED_DATA_INVALID => CallerFault,
    ENCRYPTED_DATA_LEN_RANGE: CKR_ENCRYPTED_DATA_LEN_RANGE => CallerFault,
    AEAD_DECRYPT_FAILED: CKR_AEAD_DECRYPT_FAILED => CallerFault,
    FUNCTION_CANCELED: CKR_FUNCTION_CANCELED => Busy,
    FUNCTION_NOT_PARALLEL: CKR_FUNCTION_NOT_PARALLEL => CallerFault,
    FUNCTION_NOT_SUPPORTED: CKR_FUNCTION_NOT_SUPPORTED => CallerFault,
    KEY_HANDLE_INVALID: CKR_KEY_HANDLE_INVALID => HandleLost,
    KEY_SIZE_RANGE: CKR_KEY_SIZE_RANGE => CallerFault,
    KEY_TYPE_INCONSISTENT: CKR_KEY_TYPE_INCONSISTENT => CallerFault,
    KEY_NOT_NEEDED: CKR_KEY_NOT_NEEDED => CallerFault,
    KEY_CHANGED: CKR_KEY_CHANGED => CallerFault,
    KEY_NEEDED: CKR_KEY_NEEDED => CallerFault,
    KEY_INDIGESTIBLE: CKR_KEY_INDIGESTIBLE => CallerFault,
    KEY_FUNCTION_NOT_PERMITTED: CKR_KEY_FUNCTION_NOT_PERMITTED => CallerFault,
    KEY_NOT_WRAPPABLE: CKR_KEY_NOT_WRAPPABLE => CallerFault,
    KEY_UNEXTRACTABLE: CKR_KEY_UNEXTRACTABLE => CallerFault,
    MECHANISM_INVALID: CKR_MECHANISM_INVALID => CallerFault,
    MECHANISM_PARAM_INVALID: CKR_MECHANISM_PARAM_INVALID => CallerFault,
    OBJECT_HANDLE_INVALID: CKR_OBJECT_HANDLE_INVALID => HandleLost,
    OPERATION_ACTIVE: CKR_OPERATION_ACTIVE => SessionLost,
    OPERATION_NOT_INITIALIZED: CKR_OPERATION_NOT_INITIALIZED => SessionLost,
    PIN_INCORRECT: CKR_PIN_INCORRECT => Fatal,
    PIN_INVALID: CKR_PIN_INVALID => Fatal,
    PIN_LEN_RANGE: CKR_PIN_LEN_RANGE => Fatal,
    PIN_EXPIRED: CKR_PIN_EXPIRED => Fatal,
    PIN_LOCKED: CKR_PIN_LOCKED => Fatal,
    SESSION_CLOSED: CKR_SESSION_CLOSED => SessionLost,
    SESSION_COUNT: CKR_SESSION_COUNT => Busy,
    SESSION_HANDLE_INVALID: CKR_SESSION_HANDLE_INVALID => SessionLost,
    SESSION_PARALLEL_NOT_SUPPORTED: CKR_SESSION_PARALLEL_NOT_SUPPORTED => Fatal,
    SESSION_READ_ONLY: CKR_SESSION_READ_ONLY => CallerFault,
    SESSION_EXISTS: CKR_SESSION_EXISTS => CallerFault,
    SESSION_READ_ONLY_EXISTS: CKR_SESSION_READ_ONLY_EXISTS => CallerFault,
    SESSION_READ_WRITE_SO_EXISTS: CKR_SESSION_READ_WRITE_SO_EXISTS => CallerFault,
    SIGNATURE_INVALID: CKR_SIGNATURE_INVALID => CallerFault,
    SIGNATURE_LEN_RANGE: CKR_SIGNATURE_LEN_RANGE => CallerFault,
    TEMPLATE_INCOMPLETE: CKR_TEMPLATE_INCOMPLETE => CallerFault,
    TEMPLATE_INCONSISTENT: CKR_TEMPLATE_INCONSISTENT => CallerFault,
    TOKEN_NOT_PRESENT: CKR_TOKEN_NOT_PRESENT => MemberFault,
    TOKEN_NOT_RECOGNIZED: CKR_TOKEN_NOT_RECOGNIZED => Fatal,
    TOKEN_WRITE_PROTECTED: CKR_TOKEN_WRITE_PROTECTED => CallerFault,
    UNWRAPPING_KEY_HANDLE_INVALID: CKR_UNWRAPPING_KEY_HANDLE_INVALID => HandleLost,
    UNWRAPPING_KEY_SIZE_RANGE: CKR_UNWRAPPING_KEY_SIZE_RANGE => CallerFault,
    UNWRAPPING_KEY_TYPE_INCONSISTENT: CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT => CallerFault,
    USER_ALREADY_LOGGED_IN: CKR_USER_ALREADY_LOGGED_IN => CallerFault,
    USER_NOT_LOGGED_IN: CKR_USER_NOT_LOGGED_IN => LoginLost,
    USER_PIN_NOT_INITIALIZED: CKR_USER_PIN_NOT_INITIALIZED => Fatal,
    USER_TYPE_INVALID: CKR_USER_TYPE_INVALID => Fatal,
    USER_ANOTHER_ALREADY_LOGGED_IN: CKR_USER_ANOTHER_ALREADY_LOGGED_IN => Fatal,
    USER_TOO_MANY_TYPES: CKR_USER_TOO_MANY_TYPES => Fatal,
    WRAPPED_KEY_INVALID: CKR_WRAPPED_KEY_INVALID => CallerFault,
    WRAPPED_KEY_LEN_RANGE: CKR_WRAPPED_KEY_LEN_RANGE => CallerFault,
    WRAPPING_KEY_HANDLE_INVALID: CKR_WRAPPING_KEY_HANDLE_INVALID => HandleLost,
    WRAPPING_KEY_SIZE_RANGE: CKR_WRAPPING_KEY_SIZE_RANGE => CallerFault,
    WRAPPING_KEY_TYPE_INCONSISTENT: CKR_WRAPPING_KEY_TYPE_INCONSISTENT => CallerFault,
    RANDOM_SEED_NOT_SUPPORTED: CKR_RANDOM_SEED_NOT_SUPPORTED => CallerFault,
    RANDOM_NO_RNG: CKR_RANDOM_NO_RNG => MemberFault,
    DOMAIN_PARAMS_INVALID: CKR_DOMAIN_PARAMS_INVALID => CallerFault,
    CURVE_NOT_SUPPORTED: CKR_CURVE_NOT_SUPPORTED => CallerFault,
    BUFFER_TOO_SMALL: CKR_BUFFER_TOO_SMALL => CallerFault,
    SAVED_STATE_INVALID: CKR_SAVED_STATE_INVALID => CallerFault,
    INFORMATION_SENSITIVE: CKR_INFORMATION_SENSITIVE => CallerFault,
    STATE_UNSAVEABLE: CKR_STATE_UNSAVEABLE => CallerFault,
    CRYPTOKI_NOT_INITIALIZED: CKR_CRYPTOKI_NOT_INITIALIZED => MemberFault,
    CRYPTOKI_ALREADY_INITIALIZED: CKR_CRYPTOKI_ALREADY_INITIALIZED => Fatal,
    MUTEX_BAD: CKR_MUTEX_BAD => MemberFault,
    MUTEX_NOT_LOCKED: CKR_MUTEX_NOT_LOCKED => MemberFault,
    NEW_PIN_MODE: CKR_NEW_PIN_MODE => Fatal,
    NEXT_OTP: CKR_NEXT_OTP => Fatal,
    EXCEEDED_MAX_ITERATIONS: CKR_EXCEEDED_MAX_ITERATIONS => Busy,
    FIPS_SELF_TEST_FAILED: CKR_FIPS_SELF_TEST_FAILED => Fatal,
    LIBRARY_LOAD_FAILED: CKR_LIBRARY_LOAD_FAILED => Fatal,
    PIN_TOO_WEAK: CKR_PIN_TOO_WEAK => Fatal,
    PUBLIC_KEY_INVALID: CKR_PUBLIC_KEY_INVALID => CallerFault,
    FUNCTION_REJECTED: CKR_FUNCTION_REJECTED => CallerFault,
    TOKEN_RESOURCE_EXCEEDED: CKR_TOKEN_RESOURCE_EXCEEDED => Busy,
    OPERATION_CANCEL_FAILED: CKR_OPERATION_CANCEL_FAILED => SessionLost,
    KEY_EXHAUSTED: CKR_KEY_EXHAUSTED => CallerFault,
    PENDING: CKR_PENDING => Busy,
    SESSION_ASYNC_NOT_SUPPORTED: CKR_SESSION_ASYNC_NOT_SUPPORTED => CallerFault,
    SEED_RANDOM_REQUIRED: CKR_SEED_RANDOM_REQUIRED => MemberFault,
    OPERATION_NOT_VALIDATED: CKR_OPERATION_NOT_VALIDATED => CallerFault,
    TOKEN_NOT_INITIALIZED: CKR_TOKEN_NOT_INITIALIZED => Fatal,
    PARAMETER_SET_NOT_SUPPORTED: CKR_PARAMETER_SET_NOT_SUPPORTED => CallerFault,
}

impl ReturnCode {
    /// A code as a module returned it.
    pub fn new(code: u64) -> Self {
        Self(code)
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }

    /// What to do about it. An unknown or vendor-defined code is a member's fault: another member may do better, and a
    /// member that keeps returning it is taken out of use.
    pub fn class(self) -> Class {
        self.row().map_or(Class::MemberFault, |(_, _, class)| *class)
    }

    fn row(self) -> Option<&'static (u64, &'static str, Class)> {
        TABLE.iter().find(|(code, _, _)| *code == self.0)
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some((code, name, _)) => write!(formatter, "{name} (0x{code:x})"),
            None if self.0 & CKR_VENDOR_DEFINED != 0 => write!(formatter, "vendor-defined code 0x{:x}", self.0),
            None => write!(formatter, "unknown return code 0x{:x}", self.0),
        }
    }
}

impl fmt::Debug for ReturnCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::{Class::*, *};

    /// Every code by its number in the standard, with what must be done about it. A change of the table has to be made
    /// here too, on purpose.
    const EXPECTED: &[(u64, Class)] = &[
        (0x1, CallerFault),   // CANCEL
        (0x2, Busy),          // HOST_MEMORY
        (0x3, MemberFault),   // SLOT_ID_INVALID
        (0x5, MemberFault),   // GENERAL_ERROR
        (0x6, MemberFault),   // FUNCTION_FAILED
        (0x7, CallerFault),   // ARGUMENTS_BAD
        (0x8, CallerFault),   // NO_EVENT
        (0x9, Fatal),         // NEED_TO_CREATE_THREADS
        (0xa, Fatal),         // CANT_LOCK
        (0x10, CallerFault),  // ATTRIBUTE_READ_ONLY
        (0x11, CallerFault),  // ATTRIBUTE_SENSITIVE
        (0x12, CallerFault),  // ATTRIBUTE_TYPE_INVALID
        (0x13, CallerFault),  // ATTRIBUTE_VALUE_INVALID
        (0x1b, CallerFault),  // ACTION_PROHIBITED
        (0x20, CallerFault),  // DATA_INVALID
        (0x21, CallerFault),  // DATA_LEN_RANGE
        (0x30, MemberFault),  // DEVICE_ERROR
        (0x31, Busy),         // DEVICE_MEMORY
        (0x32, MemberFault),  // DEVICE_REMOVED
        (0x40, CallerFault),  // ENCRYPTED_DATA_INVALID
        (0x41, CallerFault),  // ENCRYPTED_DATA_LEN_RANGE
        (0x42, CallerFault),  // AEAD_DECRYPT_FAILED
        (0x50, Busy),         // FUNCTION_CANCELED
        (0x51, CallerFault),  // FUNCTION_NOT_PARALLEL
        (0x54, CallerFault),  // FUNCTION_NOT_SUPPORTED
        (0x60, HandleLost),   // KEY_HANDLE_INVALID
        (0x62, CallerFault),  // KEY_SIZE_RANGE
        (0x63, CallerFault),  // KEY_TYPE_INCONSISTENT
        (0x64, CallerFault),  // KEY_NOT_NEEDED
        (0x65, CallerFault),  // KEY_CHANGED
        (0x66, CallerFault),  // KEY_NEEDED
        (0x67, CallerFault),  // KEY_INDIGESTIBLE
        (0x68, CallerFault),  // KEY_FUNCTION_NOT_PERMITTED
        (0x69, CallerFault),  // KEY_NOT_WRAPPABLE
        (0x6a, CallerFault),  // KEY_UNEXTRACTABLE
        (0x70, CallerFault),  // MECHANISM_INVALID
        (0x71, CallerFault),  // MECHANISM_PARAM_INVALID
        (0x82, HandleLost),   // OBJECT_HANDLE_INVALID
        (0x90, SessionLost),  // OPERATION_ACTIVE
        (0x91, SessionLost),  // OPERATION_NOT_INITIALIZED
        (0xa0, Fatal),        // PIN_INCORRECT
        (0xa1, Fatal),        // PIN_INVALID
        (0xa2, Fatal),        // PIN_LEN_RANGE
        (0xa3, Fatal),        // PIN_EXPIRED
        (0xa4, Fatal),        // PIN_LOCKED
        (0xb0, SessionLost),  // SESSION_CLOSED
        (0xb1, Busy),         // SESSION_COUNT
        (0xb3, SessionLost),  // SESSION_HANDLE_INVALID
        (0xb4, Fatal),        // SESSION_PARALLEL_NOT_SUPPORTED
        (0xb5, CallerFault),  // SESSION_READ_ONLY
        (0xb6, CallerFault),  // SESSION_EXISTS
        (0xb7, CallerFault),  // SESSION_READ_ONLY_EXISTS
        (0xb8, CallerFault),  // SESSION_READ_WRITE_SO_EXISTS
        (0xc0, CallerFault),  // SIGNATURE_INVALID
        (0xc1, CallerFault),  // SIGNATURE_LEN_RANGE
        (0xd0, CallerFault),  // TEMPLATE_INCOMPLETE
        (0xd1, CallerFault),  // TEMPLATE_INCONSISTENT
        (0xe0, MemberFault),  // TOKEN_NOT_PRESENT
        (0xe1, Fatal),        // TOKEN_NOT_RECOGNIZED
        (0xe2, CallerFault),  // TOKEN_WRITE_PROTECTED
        (0xf0, HandleLost),   // UNWRAPPING_KEY_HANDLE_INVALID
        (0xf1, CallerFault),  // UNWRAPPING_KEY_SIZE_RANGE
        (0xf2, CallerFault),  // UNWRAPPING_KEY_TYPE_INCONSISTENT
        (0x100, CallerFault), // USER_ALREADY_LOGGED_IN
        (0x101, LoginLost),   // USER_NOT_LOGGED_IN
        (0x102, Fatal),       // USER_PIN_NOT_INITIALIZED
        (0x103, Fatal),       // USER_TYPE_INVALID
        (0x104, Fatal),       // USER_ANOTHER_ALREADY_LOGGED_IN
        (0x105, Fatal),       // USER_TOO_MANY_TYPES
        (0x110, CallerFault), // WRAPPED_KEY_INVALID
        (0x112, CallerFault), // WRAPPED_KEY_LEN_RANGE
        (0x113, HandleLost),  // WRAPPING_KEY_HANDLE_INVALID
        (0x114, CallerFault), // WRAPPING_KEY_SIZE_RANGE
        (0x115, CallerFault), // WRAPPING_KEY_TYPE_INCONSISTENT
        (0x120, CallerFault), // RANDOM_SEED_NOT_SUPPORTED
        (0x121, MemberFault), // RANDOM_NO_RNG
        (0x130, CallerFault), // DOMAIN_PARAMS_INVALID
        (0x140, CallerFault), // CURVE_NOT_SUPPORTED
        (0x150, CallerFault), // BUFFER_TOO_SMALL
        (0x160, CallerFault), // SAVED_STATE_INVALID
        (0x170, CallerFault), // INFORMATION_SENSITIVE
        (0x180, CallerFault), // STATE_UNSAVEABLE
        (0x190, MemberFault), // CRYPTOKI_NOT_INITIALIZED
        (0x191, Fatal),       // CRYPTOKI_ALREADY_INITIALIZED
        (0x1a0, MemberFault), // MUTEX_BAD
        (0x1a1, MemberFault), // MUTEX_NOT_LOCKED
        (0x1b0, Fatal),       // NEW_PIN_MODE
        (0x1b1, Fatal),       // NEXT_OTP
        (0x1b5, Busy),        // EXCEEDED_MAX_ITERATIONS
        (0x1b6, Fatal),       // FIPS_SELF_TEST_FAILED
        (0x1b7, Fatal),       // LIBRARY_LOAD_FAILED
        (0x1b8, Fatal),       // PIN_TOO_WEAK
        (0x1b9, CallerFault), // PUBLIC_KEY_INVALID
        (0x200, CallerFault), // FUNCTION_REJECTED
        (0x201, Busy),        // TOKEN_RESOURCE_EXCEEDED
        (0x202, SessionLost), // OPERATION_CANCEL_FAILED
        (0x203, CallerFault), // KEY_EXHAUSTED
        (0x204, Busy),        // PENDING
        (0x205, CallerFault), // SESSION_ASYNC_NOT_SUPPORTED
        (0x206, MemberFault), // SEED_RANDOM_REQUIRED
        (0x207, CallerFault), // OPERATION_NOT_VALIDATED
        (0x208, Fatal),       // TOKEN_NOT_INITIALIZED
        (0x209, CallerFault), // PARAMETER_SET_NOT_SUPPORTED
    ];

    #[test]
    fn each_return_code_has_its_class() {
        for (code, class) in EXPECTED {
            let code = ReturnCode::new(*code);
            assert_eq!(code.class(), *class, "{code}");
        }
        assert_eq!(EXPECTED.len(), TABLE.len());
    }

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::HashSet<_> = TABLE.iter().map(|(code, _, _)| code).collect();
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn unknown_and_vendor_codes_are_the_members_fault_and_say_their_number() {
        for (code, shown) in [
            (0x8000_0001, "vendor-defined code 0x80000001"),
            (0x999, "unknown return code 0x999"),
        ] {
            let code = ReturnCode::new(code);
            assert_eq!(code.class(), MemberFault);
            assert_eq!(code.to_string(), shown);
        }
        assert_eq!(ReturnCode::PIN_INCORRECT.to_string(), "CKR_PIN_INCORRECT (0xa0)");
    }
}

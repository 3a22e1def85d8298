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

// The codes of PKCS#11 3.2, which contain those of 3.0 and 2.40, in the order of their numbers.
//
// A code is the caller's fault only if a request can provoke it on a member that is well: no other member is asked then. A code that
// no request can provoke, because the functions that return it are never called, comes from a member that is not well.
return_codes! {
    // What a callback returns, and no function.
    CANCEL: CKR_CANCEL => MemberFault,
    // The worker's own memory or the token's (`DEVICE_MEMORY`): other work has it, and gives it back.
    HOST_MEMORY: CKR_HOST_MEMORY => Busy,
    // Slots are renumbered when a module is initialised; a new worker looks for its token again.
    SLOT_ID_INVALID: CKR_SLOT_ID_INVALID => MemberFault,
    // Also what SoftHSM2 says of a wrong tag or wrapped key, of a token that is gone, and when it races with itself: whoever can tell
    // these apart does (`Member::judge_decryption`). CloudHSM says `FUNCTION_FAILED` when it is busy, after it has tried again itself.
    GENERAL_ERROR: CKR_GENERAL_ERROR => MemberFault,
    FUNCTION_FAILED: CKR_FUNCTION_FAILED => MemberFault,
    ARGUMENTS_BAD: CKR_ARGUMENTS_BAD => CallerFault,
    // Of `C_WaitForSlotEvent`, which is never called.
    NO_EVENT: CKR_NO_EVENT => MemberFault,
    // `C_Initialize` does not like how it is called, and will not like it the next time.
    NEED_TO_CREATE_THREADS: CKR_NEED_TO_CREATE_THREADS => Fatal,
    CANT_LOCK: CKR_CANT_LOCK => Fatal,
    ATTRIBUTE_READ_ONLY: CKR_ATTRIBUTE_READ_ONLY => CallerFault,
    ATTRIBUTE_SENSITIVE: CKR_ATTRIBUTE_SENSITIVE => CallerFault,
    ATTRIBUTE_TYPE_INVALID: CKR_ATTRIBUTE_TYPE_INVALID => CallerFault,
    ATTRIBUTE_VALUE_INVALID: CKR_ATTRIBUTE_VALUE_INVALID => CallerFault,
    ACTION_PROHIBITED: CKR_ACTION_PROHIBITED => CallerFault,
    DATA_INVALID: CKR_DATA_INVALID => CallerFault,
    DATA_LEN_RANGE: CKR_DATA_LEN_RANGE => CallerFault,
    // What network HSMs say when the network is gone; also kryoptic, of a wrong wrapped key.
    DEVICE_ERROR: CKR_DEVICE_ERROR => MemberFault,
    DEVICE_MEMORY: CKR_DEVICE_MEMORY => Busy,
    DEVICE_REMOVED: CKR_DEVICE_REMOVED => MemberFault,
    ENCRYPTED_DATA_INVALID: CKR_ENCRYPTED_DATA_INVALID => CallerFault,
    ENCRYPTED_DATA_LEN_RANGE: CKR_ENCRYPTED_DATA_LEN_RANGE => CallerFault,
    AEAD_DECRYPT_FAILED: CKR_AEAD_DECRYPT_FAILED => CallerFault,
    // Nobody here cancels: somebody at the HSM did, or its driver.
    FUNCTION_CANCELED: CKR_FUNCTION_CANCELED => Busy,
    // Of calls that have been obsolete since 2.0, which are never made.
    FUNCTION_NOT_PARALLEL: CKR_FUNCTION_NOT_PARALLEL => MemberFault,
    // Known before, mostly, from what the token lists; where it is not, asking again changes nothing.
    FUNCTION_NOT_SUPPORTED: CKR_FUNCTION_NOT_SUPPORTED => CallerFault,
    KEY_HANDLE_INVALID: CKR_KEY_HANDLE_INVALID => HandleLost,
    KEY_SIZE_RANGE: CKR_KEY_SIZE_RANGE => CallerFault,
    KEY_TYPE_INCONSISTENT: CKR_KEY_TYPE_INCONSISTENT => CallerFault,
    // Of `C_SetOperationState`, which is never called: also `SAVED_STATE_INVALID` and `STATE_UNSAVEABLE`.
    KEY_NOT_NEEDED: CKR_KEY_NOT_NEEDED => MemberFault,
    KEY_CHANGED: CKR_KEY_CHANGED => MemberFault,
    KEY_NEEDED: CKR_KEY_NEEDED => MemberFault,
    KEY_INDIGESTIBLE: CKR_KEY_INDIGESTIBLE => CallerFault,
    KEY_FUNCTION_NOT_PERMITTED: CKR_KEY_FUNCTION_NOT_PERMITTED => CallerFault,
    KEY_NOT_WRAPPABLE: CKR_KEY_NOT_WRAPPABLE => CallerFault,
    KEY_UNEXTRACTABLE: CKR_KEY_UNEXTRACTABLE => CallerFault,
    MECHANISM_INVALID: CKR_MECHANISM_INVALID => CallerFault,
    MECHANISM_PARAM_INVALID: CKR_MECHANISM_PARAM_INVALID => CallerFault,
    OBJECT_HANDLE_INVALID: CKR_OBJECT_HANDLE_INVALID => HandleLost,
    // An earlier error left something open that 2.40 cannot cancel, or the token forgot what was begun.
    OPERATION_ACTIVE: CKR_OPERATION_ACTIVE => SessionLost,
    OPERATION_NOT_INITIALIZED: CKR_OPERATION_NOT_INITIALIZED => SessionLost,
    // A token locks after a few wrong PINs, so every doubt about the PIN is a person's.
    PIN_INCORRECT: CKR_PIN_INCORRECT => Fatal,
    PIN_INVALID: CKR_PIN_INVALID => Fatal,
    PIN_LEN_RANGE: CKR_PIN_LEN_RANGE => Fatal,
    PIN_EXPIRED: CKR_PIN_EXPIRED => Fatal,
    PIN_LOCKED: CKR_PIN_LOCKED => Fatal,
    SESSION_CLOSED: CKR_SESSION_CLOSED => SessionLost,
    // Other sessions, or other users of the token, have them all.
    SESSION_COUNT: CKR_SESSION_COUNT => Busy,
    SESSION_HANDLE_INVALID: CKR_SESSION_HANDLE_INVALID => SessionLost,
    SESSION_PARALLEL_NOT_SUPPORTED: CKR_SESSION_PARALLEL_NOT_SUPPORTED => Fatal,
    // A token that wants other sessions than it is given is used in a way that it does not support, whoever asks.
    SESSION_READ_ONLY: CKR_SESSION_READ_ONLY => CallerFault,
    SESSION_EXISTS: CKR_SESSION_EXISTS => CallerFault,
    SESSION_READ_ONLY_EXISTS: CKR_SESSION_READ_ONLY_EXISTS => CallerFault,
    SESSION_READ_WRITE_SO_EXISTS: CKR_SESSION_READ_WRITE_SO_EXISTS => CallerFault,
    SIGNATURE_INVALID: CKR_SIGNATURE_INVALID => CallerFault,
    SIGNATURE_LEN_RANGE: CKR_SIGNATURE_LEN_RANGE => CallerFault,
    TEMPLATE_INCOMPLETE: CKR_TEMPLATE_INCOMPLETE => CallerFault,
    TEMPLATE_INCONSISTENT: CKR_TEMPLATE_INCONSISTENT => CallerFault,
    // It may be put back, and only a new worker sees it then.
    TOKEN_NOT_PRESENT: CKR_TOKEN_NOT_PRESENT => MemberFault,
    // Another token than before is in the slot, or none that the module knows.
    TOKEN_NOT_RECOGNIZED: CKR_TOKEN_NOT_RECOGNIZED => Fatal,
    TOKEN_WRITE_PROTECTED: CKR_TOKEN_WRITE_PROTECTED => CallerFault,
    UNWRAPPING_KEY_HANDLE_INVALID: CKR_UNWRAPPING_KEY_HANDLE_INVALID => HandleLost,
    UNWRAPPING_KEY_SIZE_RANGE: CKR_UNWRAPPING_KEY_SIZE_RANGE => CallerFault,
    UNWRAPPING_KEY_TYPE_INCONSISTENT: CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT => CallerFault,
    // Only of a login; whoever logs in again takes it for success.
    USER_ALREADY_LOGGED_IN: CKR_USER_ALREADY_LOGGED_IN => CallerFault,
    USER_NOT_LOGGED_IN: CKR_USER_NOT_LOGGED_IN => LoginLost,
    USER_PIN_NOT_INITIALIZED: CKR_USER_PIN_NOT_INITIALIZED => Fatal,
    // The token is used by others in the same process, or has no user: neither passes by itself.
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
    // Buffers are made for the longest answer there is: one that is longer is wrong.
    BUFFER_TOO_SMALL: CKR_BUFFER_TOO_SMALL => MemberFault,
    SAVED_STATE_INVALID: CKR_SAVED_STATE_INVALID => MemberFault,
    INFORMATION_SENSITIVE: CKR_INFORMATION_SENSITIVE => CallerFault,
    STATE_UNSAVEABLE: CKR_STATE_UNSAVEABLE => MemberFault,
    // The module lost itself: a new worker initialises it.
    CRYPTOKI_NOT_INITIALIZED: CKR_CRYPTOKI_NOT_INITIALIZED => MemberFault,
    // Two members in one process, which the worker prevents: the module is linked into something else.
    CRYPTOKI_ALREADY_INITIALIZED: CKR_CRYPTOKI_ALREADY_INITIALIZED => Fatal,
    MUTEX_BAD: CKR_MUTEX_BAD => MemberFault,
    MUTEX_NOT_LOCKED: CKR_MUTEX_NOT_LOCKED => MemberFault,
    NEW_PIN_MODE: CKR_NEW_PIN_MODE => Fatal,
    NEXT_OTP: CKR_NEXT_OTP => Fatal,
    // Bad luck in the generation of a key.
    EXCEEDED_MAX_ITERATIONS: CKR_EXCEEDED_MAX_ITERATIONS => Busy,
    FIPS_SELF_TEST_FAILED: CKR_FIPS_SELF_TEST_FAILED => Fatal,
    LIBRARY_LOAD_FAILED: CKR_LIBRARY_LOAD_FAILED => Fatal,
    PIN_TOO_WEAK: CKR_PIN_TOO_WEAK => Fatal,
    PUBLIC_KEY_INVALID: CKR_PUBLIC_KEY_INVALID => CallerFault,
    FUNCTION_REJECTED: CKR_FUNCTION_REJECTED => CallerFault,
    TOKEN_RESOURCE_EXCEEDED: CKR_TOKEN_RESOURCE_EXCEEDED => Busy,
    OPERATION_CANCEL_FAILED: CKR_OPERATION_CANCEL_FAILED => SessionLost,
    KEY_EXHAUSTED: CKR_KEY_EXHAUSTED => CallerFault,
    // Only of asynchronous sessions, which are never asked for; it says itself that it will pass.
    PENDING: CKR_PENDING => Busy,
    SESSION_ASYNC_NOT_SUPPORTED: CKR_SESSION_ASYNC_NOT_SUPPORTED => CallerFault,
    // Its random generator cannot be used, like `RANDOM_NO_RNG`.
    SEED_RANDOM_REQUIRED: CKR_SEED_RANDOM_REQUIRED => MemberFault,
    OPERATION_NOT_VALIDATED: CKR_OPERATION_NOT_VALIDATED => CallerFault,
    // Whether it was emptied on purpose is a person's to say.
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
    use std::{collections::BTreeMap, path::Path, process::Command};

    /// Every code with what must be done about it. A change of the table has to be made here too, on purpose.
    const EXPECTED: &[(&str, Class)] = &[
        ("CKR_CANCEL", MemberFault),
        ("CKR_HOST_MEMORY", Busy),
        ("CKR_SLOT_ID_INVALID", MemberFault),
        ("CKR_GENERAL_ERROR", MemberFault),
        ("CKR_FUNCTION_FAILED", MemberFault),
        ("CKR_ARGUMENTS_BAD", CallerFault),
        ("CKR_NO_EVENT", MemberFault),
        ("CKR_NEED_TO_CREATE_THREADS", Fatal),
        ("CKR_CANT_LOCK", Fatal),
        ("CKR_ATTRIBUTE_READ_ONLY", CallerFault),
        ("CKR_ATTRIBUTE_SENSITIVE", CallerFault),
        ("CKR_ATTRIBUTE_TYPE_INVALID", CallerFault),
        ("CKR_ATTRIBUTE_VALUE_INVALID", CallerFault),
        ("CKR_ACTION_PROHIBITED", CallerFault),
        ("CKR_DATA_INVALID", CallerFault),
        ("CKR_DATA_LEN_RANGE", CallerFault),
        ("CKR_DEVICE_ERROR", MemberFault),
        ("CKR_DEVICE_MEMORY", Busy),
        ("CKR_DEVICE_REMOVED", MemberFault),
        ("CKR_ENCRYPTED_DATA_INVALID", CallerFault),
        ("CKR_ENCRYPTED_DATA_LEN_RANGE", CallerFault),
        ("CKR_AEAD_DECRYPT_FAILED", CallerFault),
        ("CKR_FUNCTION_CANCELED", Busy),
        ("CKR_FUNCTION_NOT_PARALLEL", MemberFault),
        ("CKR_FUNCTION_NOT_SUPPORTED", CallerFault),
        ("CKR_KEY_HANDLE_INVALID", HandleLost),
        ("CKR_KEY_SIZE_RANGE", CallerFault),
        ("CKR_KEY_TYPE_INCONSISTENT", CallerFault),
        ("CKR_KEY_NOT_NEEDED", MemberFault),
        ("CKR_KEY_CHANGED", MemberFault),
        ("CKR_KEY_NEEDED", MemberFault),
        ("CKR_KEY_INDIGESTIBLE", CallerFault),
        ("CKR_KEY_FUNCTION_NOT_PERMITTED", CallerFault),
        ("CKR_KEY_NOT_WRAPPABLE", CallerFault),
        ("CKR_KEY_UNEXTRACTABLE", CallerFault),
        ("CKR_MECHANISM_INVALID", CallerFault),
        ("CKR_MECHANISM_PARAM_INVALID", CallerFault),
        ("CKR_OBJECT_HANDLE_INVALID", HandleLost),
        ("CKR_OPERATION_ACTIVE", SessionLost),
        ("CKR_OPERATION_NOT_INITIALIZED", SessionLost),
        ("CKR_PIN_INCORRECT", Fatal),
        ("CKR_PIN_INVALID", Fatal),
        ("CKR_PIN_LEN_RANGE", Fatal),
        ("CKR_PIN_EXPIRED", Fatal),
        ("CKR_PIN_LOCKED", Fatal),
        ("CKR_SESSION_CLOSED", SessionLost),
        ("CKR_SESSION_COUNT", Busy),
        ("CKR_SESSION_HANDLE_INVALID", SessionLost),
        ("CKR_SESSION_PARALLEL_NOT_SUPPORTED", Fatal),
        ("CKR_SESSION_READ_ONLY", CallerFault),
        ("CKR_SESSION_EXISTS", CallerFault),
        ("CKR_SESSION_READ_ONLY_EXISTS", CallerFault),
        ("CKR_SESSION_READ_WRITE_SO_EXISTS", CallerFault),
        ("CKR_SIGNATURE_INVALID", CallerFault),
        ("CKR_SIGNATURE_LEN_RANGE", CallerFault),
        ("CKR_TEMPLATE_INCOMPLETE", CallerFault),
        ("CKR_TEMPLATE_INCONSISTENT", CallerFault),
        ("CKR_TOKEN_NOT_PRESENT", MemberFault),
        ("CKR_TOKEN_NOT_RECOGNIZED", Fatal),
        ("CKR_TOKEN_WRITE_PROTECTED", CallerFault),
        ("CKR_UNWRAPPING_KEY_HANDLE_INVALID", HandleLost),
        ("CKR_UNWRAPPING_KEY_SIZE_RANGE", CallerFault),
        ("CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", CallerFault),
        ("CKR_USER_ALREADY_LOGGED_IN", CallerFault),
        ("CKR_USER_NOT_LOGGED_IN", LoginLost),
        ("CKR_USER_PIN_NOT_INITIALIZED", Fatal),
        ("CKR_USER_TYPE_INVALID", Fatal),
        ("CKR_USER_ANOTHER_ALREADY_LOGGED_IN", Fatal),
        ("CKR_USER_TOO_MANY_TYPES", Fatal),
        ("CKR_WRAPPED_KEY_INVALID", CallerFault),
        ("CKR_WRAPPED_KEY_LEN_RANGE", CallerFault),
        ("CKR_WRAPPING_KEY_HANDLE_INVALID", HandleLost),
        ("CKR_WRAPPING_KEY_SIZE_RANGE", CallerFault),
        ("CKR_WRAPPING_KEY_TYPE_INCONSISTENT", CallerFault),
        ("CKR_RANDOM_SEED_NOT_SUPPORTED", CallerFault),
        ("CKR_RANDOM_NO_RNG", MemberFault),
        ("CKR_DOMAIN_PARAMS_INVALID", CallerFault),
        ("CKR_CURVE_NOT_SUPPORTED", CallerFault),
        ("CKR_BUFFER_TOO_SMALL", MemberFault),
        ("CKR_SAVED_STATE_INVALID", MemberFault),
        ("CKR_INFORMATION_SENSITIVE", CallerFault),
        ("CKR_STATE_UNSAVEABLE", MemberFault),
        ("CKR_CRYPTOKI_NOT_INITIALIZED", MemberFault),
        ("CKR_CRYPTOKI_ALREADY_INITIALIZED", Fatal),
        ("CKR_MUTEX_BAD", MemberFault),
        ("CKR_MUTEX_NOT_LOCKED", MemberFault),
        ("CKR_NEW_PIN_MODE", Fatal),
        ("CKR_NEXT_OTP", Fatal),
        ("CKR_EXCEEDED_MAX_ITERATIONS", Busy),
        ("CKR_FIPS_SELF_TEST_FAILED", Fatal),
        ("CKR_LIBRARY_LOAD_FAILED", Fatal),
        ("CKR_PIN_TOO_WEAK", Fatal),
        ("CKR_PUBLIC_KEY_INVALID", CallerFault),
        ("CKR_FUNCTION_REJECTED", CallerFault),
        ("CKR_TOKEN_RESOURCE_EXCEEDED", Busy),
        ("CKR_OPERATION_CANCEL_FAILED", SessionLost),
        ("CKR_KEY_EXHAUSTED", CallerFault),
        ("CKR_PENDING", Busy),
        ("CKR_SESSION_ASYNC_NOT_SUPPORTED", CallerFault),
        ("CKR_SEED_RANDOM_REQUIRED", MemberFault),
        ("CKR_OPERATION_NOT_VALIDATED", CallerFault),
        ("CKR_TOKEN_NOT_INITIALIZED", Fatal),
        ("CKR_PARAMETER_SET_NOT_SUPPORTED", CallerFault),
    ];

    #[test]
    fn each_return_code_has_its_class() {
        for (name, class) in EXPECTED {
            let row = TABLE.iter().find(|(_, known, _)| known == name);
            let (code, _, _) = row.unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(ReturnCode::new(*code).class(), *class, "{name}");
        }
        assert_eq!(EXPECTED.len(), TABLE.len());
    }

    /// The constants of the standard as `cryptoki-sys` has them, read from its source: a list made by hand would lack what the
    /// table lacks.
    fn codes_of_the_standard() -> BTreeMap<String, u64> {
        let metadata = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version",
                "1",
                "--offline",
                "--locked",
                // Packages for other systems may not be there, and are not asked for.
                "--filter-platform",
                &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
                "--manifest-path",
            ])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .expect("cargo");
        assert!(
            metadata.status.success(),
            "{}",
            String::from_utf8_lossy(&metadata.stderr)
        );
        let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("cargo's metadata");
        let packages = metadata["packages"].as_array().expect("packages");
        let bindings = packages.iter().find(|package| package["name"] == "cryptoki-sys");
        let manifest = bindings.expect("cryptoki-sys")["manifest_path"]
            .as_str()
            .expect("a path");
        let source = Path::new(manifest).with_file_name("src/bindings/generic.rs");
        let source = std::fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let constants = source.lines().filter_map(|line| line.strip_prefix("pub const CKR_"));
        constants
            .map(|constant| {
                let (name, value) = constant.split_once(": CK_RV = ").expect("a return code");
                let value = value.trim_end_matches(';').parse().expect("a number");
                (format!("CKR_{name}"), value)
            })
            .collect()
    }

    #[test]
    fn no_code_of_the_standard_is_missing() {
        let standard = codes_of_the_standard();
        assert!(standard.len() > 100, "only {} codes were read", standard.len());
        for (name, value) in &standard {
            if !["CKR_OK", "CKR_VENDOR_DEFINED"].contains(&name.as_str()) {
                assert!(
                    TABLE.iter().any(|(code, known, _)| known == name && code == value),
                    "{name} ({value:#x}) is not in the table"
                );
            }
        }
        assert_eq!(TABLE.len() + 2, standard.len());
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

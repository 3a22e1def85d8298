//! Safe, blocking calls on a PKCS#11 module: one method, one C call.
//!
//! This is a thin layer over the `cryptoki-sys` bindings rather than the `cryptoki` crate, because the product needs
//! what that crate does not give: one `C_Sign` per signature instead of a size query first, attribute arrays in
//! templates (`CKA_UNWRAP_TEMPLATE`), the complete mechanism list, the raw return code of every call, and
//! modules whose `C_GetInterface` fails. It is the only module of the crate with `unsafe` code.
//!
//! Sizes are bytes. Handles are valid for the life of the process at most and are never stored.

#![allow(unsafe_code)]

mod attribute;
mod mechanism;
mod module;
mod session;

pub use attribute::{Attribute, Template};
pub use mechanism::CallMechanism;
pub use module::{Module, SlotId, TokenInfo};
pub use session::{ObjectHandle, Session, SessionKind, UserType};

use crate::return_code::ReturnCode;

/// A PKCS#11 call that did not return `CKR_OK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{function} returned {code}")]
pub struct CallError {
    /// The C function, for example `C_Sign`.
    pub function: &'static str,
    /// What it returned.
    pub code: ReturnCode,
}

/// The result of a PKCS#11 call.
pub type CallResult<T> = Result<T, CallError>;

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing or is not a shared library for this machine.
    #[error("cannot load the PKCS#11 module {path}: {reason}")]
    Library {
        /// The path as configured.
        path: String,
        /// What the loader said.
        reason: String,
    },
    /// The library has no `C_GetFunctionList`, or it failed, or its list misses a function.
    #[error("{path} is not a usable PKCS#11 module: {reason}")]
    NotAModule {
        /// The path as configured.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// `C_Initialize` failed.
    #[error("cannot initialise the PKCS#11 module {path}: {source}")]
    Initialise {
        /// The path as configured.
        path: String,
        /// The failed call.
        source: CallError,
    },
}

/// Calls a function of the module's list and turns its return code into a `Result`.
///
/// Expands to one indirect C call; the caller's `// SAFETY:` comment says why the arguments are valid.
macro_rules! call {
    ($module:expr, $function:ident ( $($argument:expr),* $(,)? )) => {{
        match $module.functions().$function {
            Some(function) => $crate::pkcs11::check(stringify!($function), function($($argument),*)),
            None => Err($crate::pkcs11::CallError {
                function: stringify!($function),
                code: $crate::return_code::ReturnCode::FUNCTION_NOT_SUPPORTED,
            }),
        }
    }};
}
pub(crate) use call;

fn check(function: &'static str, code: cryptoki_sys::CK_RV) -> CallResult<()> {
    if code == cryptoki_sys::CKR_OK {
        Ok(())
    } else {
        Err(CallError {
            function,
            code: ReturnCode::new(code),
        })
    }
}

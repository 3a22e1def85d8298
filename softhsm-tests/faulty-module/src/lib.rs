//! A PKCS#11 module that is SoftHSM2, except where a rule says otherwise. For tests alone: it is never shipped.
//!
//! The environment variable [`DIRECTORY_VARIABLE`] names a directory with two files. [`CONTROL_FILE`] holds the path of the real
//! module and the rules; it is looked at with every call, so a test changes it (by renaming a new one over it) while the worker
//! runs. [`COUNTS_FILE`] is shared memory of all processes that have the module loaded: how often each function was called, and how
//! often each rule struck. Both outlive the worker, so "the first three calls" are the first three of all its lives.
//!
//! - `rule`: what a rule says, and the control file ([`Rule`], [`Fault`], [`Control`]).
//! - `counts`: the shared counters ([`Counts`] for who reads them).
//! - `function`: the functions of PKCS#11 2.40 ([`Function`]) and the entry points, from one description.
//! - `control`: the control file as the module sees it, read anew when it changed.
//! - `module`: what happens to a call: rules, then the real module, then what the rules make of its answer.
//! - `sessions`, `handles`: the sessions that are open, and the object handles that callers are given instead of the real ones.
//!
//! No panic leaves an entry point: it becomes `CKR_GENERAL_ERROR`, as does a control file that cannot be read.

mod control;
mod counts;
mod function;
mod handles;
mod module;
mod rule;
mod sessions;

pub use counts::Counts;
pub use function::Function;
pub use rule::{Control, Crash, Fault, LIMIT_OF_RULES, Place, Rule};

use cryptoki_sys::{CK_FUNCTION_LIST_PTR_PTR, CK_RV, CKR_ARGUMENTS_BAD, CKR_GENERAL_ERROR, CKR_OK};

/// The environment variable that names the directory.
pub const DIRECTORY_VARIABLE: &str = "FAULTY_MODULE_DIRECTORY";

/// The real module and the rules, in TOML. Without this file the module cannot be loaded.
pub const CONTROL_FILE: &str = "control.toml";

/// The shared counters.
pub const COUNTS_FILE: &str = "counts";

/// Gives the function list (PKCS#11 2.40, section 5.4), and loads the real module the first time.
///
/// # Safety
///
/// As the standard says: `list` is null or points to a writable pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    let loaded = module::guarded(|_| CKR_OK);
    if loaded != CKR_OK {
        return CKR_GENERAL_ERROR;
    }
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, and writable by the caller's promise. The list is constant and lives as long as the library; the type
    // wants a mutable pointer through which nobody may write.
    unsafe { *list = (&raw const function::FUNCTION_LIST).cast_mut() };
    CKR_OK
}

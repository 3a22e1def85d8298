use super::{CallError, CallResult, LoadError, call, check};
use crate::return_code::ReturnCode;
use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR, CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_RV,
    CK_SLOT_ID, CK_TOKEN_INFO, CK_TRUE, CK_ULONG, CKF_LOGIN_REQUIRED, CKF_OS_LOCKING_OK, CKF_TOKEN_INITIALIZED,
    CKF_USER_PIN_INITIALIZED,
};
use libloading::Library;
use secrecy::{ExposeSecret, SecretSlice};
use std::{
    collections::HashSet,
    mem::MaybeUninit,
    path::{Path, PathBuf},
    ptr,
    sync::Mutex,
};

/// A slot of a module. Slot ids may change whenever the module is initialised: find tokens by label or serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId(pub(super) CK_SLOT_ID);

/// What a token says of itself (`CK_TOKEN_INFO`), with padding removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// At most 32 bytes.
    pub label: String,
    /// At most 32 bytes.
    pub manufacturer: String,
    /// At most 16 bytes.
    pub model: String,
    /// At most 16 bytes.
    pub serial_number: String,
    /// As `major.minor`.
    pub hardware_version: String,
    /// As `major.minor`.
    pub firmware_version: String,
    /// `C_InitToken` was called.
    pub initialised: bool,
    /// A user PIN was set.
    pub user_pin_initialised: bool,
    /// Private objects need a login.
    pub login_required: bool,
    /// The most sessions that an application may open; `None` where the token sets or tells no limit.
    pub session_limit: Option<u64>,
}

/// A loaded and initialised PKCS#11 module.
///
/// There is one per path and process: a second [`Module::load`] of a path that is in use is refused, because two
/// owners of one library race in it. It is finalised when it is dropped, so all sessions hold a share of it.
#[derive(Debug)]
pub struct Module {
    path: PathBuf,
    functions: CK_FUNCTION_LIST_PTR,
    // Keeps the code that `functions` points to; unloaded after `Drop::drop` has finalised the module.
    _library: Library,
}

// SAFETY: `functions` points to the module's constant function table, which lives as long as `_library`. The module was
// initialised with CKF_OS_LOCKING_OK, so PKCS#11 3.0 section 5.4 lets any thread call it.
unsafe impl Send for Module {}
// SAFETY: as for `Send`; a `&Module` gives access to the table and nothing else.
unsafe impl Sync for Module {}

static IN_USE: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

impl Module {
    /// Loads the module at `path` and initialises it for use by several threads.
    ///
    /// The 2.40 function list is used: it has all that is called here, every module has it, and some modules export a
    /// `C_GetInterface` that fails.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let shown = path.display().to_string();
        let in_use = || LoadError::NotAModule {
            path: shown.clone(),
            reason: "it is in use by this process".to_owned(),
        };
        // SAFETY: loading runs the library's constructors. The path comes from the operator's configuration, which
        // decides what code this process trusts, and nothing else runs in a worker before this.
        let library = unsafe { Library::new(path) }.map_err(|error| LoadError::Library {
            path: shown.clone(),
            reason: error.to_string(),
        })?;
        if !IN_USE
            .lock()
            .unwrap_or_else(|lock| lock.into_inner())
            .get_or_insert_default()
            .insert(path.to_owned())
        {
            return Err(in_use());
        }
        let release = ReleaseOnDrop(path);
        let not_a_module = |reason: String| LoadError::NotAModule {
            path: shown.clone(),
            reason,
        };
        let mut functions: CK_FUNCTION_LIST_PTR = ptr::null_mut();
        // SAFETY: C_GetFunctionList has this signature in every version of PKCS#11, and writes one pointer.
        let code = unsafe {
            let get = library
                .get::<unsafe extern "C" fn(*mut CK_FUNCTION_LIST_PTR) -> CK_RV>(b"C_GetFunctionList\0")
                .map_err(|_| not_a_module("it exports no C_GetFunctionList".to_owned()))?;
            get(&mut functions)
        };
        check("C_GetFunctionList", code).map_err(|error| not_a_module(error.to_string()))?;
        if functions.is_null() {
            return Err(not_a_module("C_GetFunctionList returned no list".to_owned()));
        }
        let module = Uninitialised { functions };
        let mut arguments = CK_C_INITIALIZE_ARGS {
            flags: CKF_OS_LOCKING_OK,
            ..zeroed_arguments()
        };
        // SAFETY: the arguments are valid for the call; C_Initialize keeps no pointer to them.
        unsafe { call!(module, C_Initialize(ptr::from_mut(&mut arguments).cast())) }.map_err(|source| {
            LoadError::Initialise {
                path: shown.clone(),
                source,
            }
        })?;
        std::mem::forget(release);
        Ok(Self {
            path: path.to_owned(),
            functions,
            _library: library,
        })
    }

    /// The slots that hold a token, initialised or not.
    pub fn slots_with_token(&self) -> CallResult<Vec<SlotId>> {
        for _ in 0..3 {
            let mut count: CK_ULONG = 0;
            // SAFETY: a null list asks for the count, which is written to `count`.
            unsafe { call!(self, C_GetSlotList(CK_TRUE, ptr::null_mut(), &mut count)) }?;
            let mut slots: Vec<CK_SLOT_ID> = vec![0; count as usize];
            // SAFETY: `slots` has room for `count` ids, and the call writes at most as many.
            match unsafe { call!(self, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &mut count)) } {
                Ok(()) => {
                    slots.truncate(count as usize);
                    return Ok(slots.into_iter().map(SlotId).collect());
                }
                // A token was plugged in between the two calls.
                Err(error) if error.code == ReturnCode::BUFFER_TOO_SMALL => {}
                Err(error) => return Err(error),
            }
        }
        Err(CallError {
            function: "C_GetSlotList",
            code: ReturnCode::BUFFER_TOO_SMALL,
        })
    }

    /// What the token in a slot says of itself. Reads the token, so it fails when the token has gone.
    pub fn token_info(&self, slot: SlotId) -> CallResult<TokenInfo> {
        let mut info = MaybeUninit::<CK_TOKEN_INFO>::zeroed();
        // SAFETY: the call fills the structure, whose fields are plain numbers and bytes, valid when zero.
        let info = unsafe {
            call!(self, C_GetTokenInfo(slot.0, info.as_mut_ptr()))?;
            info.assume_init()
        };
        let version = |version: cryptoki_sys::CK_VERSION| format!("{}.{}", version.major, version.minor);
        Ok(TokenInfo {
            label: unpadded(&info.label),
            manufacturer: unpadded(&info.manufacturerID),
            model: unpadded(&info.model),
            serial_number: unpadded(&info.serialNumber),
            hardware_version: version(info.hardwareVersion),
            firmware_version: version(info.firmwareVersion),
            initialised: info.flags & CKF_TOKEN_INITIALIZED != 0,
            user_pin_initialised: info.flags & CKF_USER_PIN_INITIALIZED != 0,
            login_required: info.flags & CKF_LOGIN_REQUIRED != 0,
            session_limit: match info.ulMaxSessionCount {
                cryptoki_sys::CK_EFFECTIVELY_INFINITE | cryptoki_sys::CK_UNAVAILABLE_INFORMATION => None,
                limit => Some(limit),
            },
        })
    }

    /// All mechanism types that a slot's token lists, known to this crate or not.
    pub fn mechanisms(&self, slot: SlotId) -> CallResult<Vec<CK_MECHANISM_TYPE>> {
        let mut count: CK_ULONG = 0;
        // SAFETY: a null list asks for the count.
        unsafe { call!(self, C_GetMechanismList(slot.0, ptr::null_mut(), &mut count)) }?;
        let mut list: Vec<CK_MECHANISM_TYPE> = vec![0; count as usize];
        // SAFETY: `list` has room for `count` types, and the call writes at most as many.
        unsafe { call!(self, C_GetMechanismList(slot.0, list.as_mut_ptr(), &mut count)) }?;
        list.truncate(count as usize);
        Ok(list)
    }

    /// The `CKF_*` flags of a mechanism: which kinds of operation the token does with it.
    pub fn mechanism_flags(&self, slot: SlotId, mechanism: CK_MECHANISM_TYPE) -> CallResult<u64> {
        let mut info = CK_MECHANISM_INFO {
            ulMinKeySize: 0,
            ulMaxKeySize: 0,
            flags: 0,
        };
        // SAFETY: the call fills the structure.
        unsafe { call!(self, C_GetMechanismInfo(slot.0, mechanism, &mut info)) }?;
        Ok(info.flags)
    }

    /// Initialises the token in a slot: its objects are lost. The label has at most 32 bytes.
    pub fn init_token(&self, slot: SlotId, so_pin: &SecretSlice<u8>, label: &str) -> CallResult<()> {
        let mut padded = [b' '; 32];
        let length = label.len().min(padded.len());
        padded[..length].copy_from_slice(&label.as_bytes()[..length]);
        let pin = so_pin.expose_secret();
        // SAFETY: the PIN and the 32-byte label are only read during the call.
        unsafe {
            call!(
                self,
                C_InitToken(
                    slot.0,
                    pin.as_ptr().cast_mut(),
                    pin.len() as CK_ULONG,
                    padded.as_mut_ptr()
                )
            )
        }
    }

    pub(super) fn functions(&self) -> &CK_FUNCTION_LIST {
        // SAFETY: not null (checked in `load`) and constant while the library is loaded, which `self` ensures.
        unsafe { &*self.functions }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: no session is left (each holds a share of the module), so no other thread is in the module.
        let outcome = unsafe { call!(self, C_Finalize(ptr::null_mut())) };
        if let Err(error) = outcome {
            tracing::warn!(module = %self.path.display(), %error, "the PKCS#11 module did not finalise");
        }
        drop(ReleaseOnDrop(&self.path));
    }
}

struct Uninitialised {
    functions: CK_FUNCTION_LIST_PTR,
}

impl Uninitialised {
    fn functions(&self) -> &CK_FUNCTION_LIST {
        // SAFETY: checked not to be null by `Module::load`, which also keeps the library loaded.
        unsafe { &*self.functions }
    }
}

struct ReleaseOnDrop<'a>(&'a Path);

impl Drop for ReleaseOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(paths) = IN_USE.lock().unwrap_or_else(|lock| lock.into_inner()).as_mut() {
            paths.remove(self.0);
        }
    }
}

fn zeroed_arguments() -> CK_C_INITIALIZE_ARGS {
    CK_C_INITIALIZE_ARGS {
        CreateMutex: None,
        DestroyMutex: None,
        LockMutex: None,
        UnlockMutex: None,
        flags: 0,
        pReserved: ptr::null_mut(),
    }
}

fn unpadded(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end_matches([' ', '\0']).to_owned()
}

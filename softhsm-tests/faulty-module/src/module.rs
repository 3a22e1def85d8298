//! What happens to a call: the rules, then the real module, then what the rules make of its answer.

use crate::{
    COUNTS_FILE, DIRECTORY_VARIABLE,
    control::ControlFile,
    counts::SharedCounts,
    function::Function,
    handles::Handles,
    rule::{Crash, Fault, Place, Rule},
    sessions::Sessions,
};
use cryptoki_sys::*;
use libloading::Library;
use rustix::process::{Signal, getpid, kill_process};
use std::{
    env,
    ffi::c_int,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process, ptr,
    sync::{Mutex, MutexGuard, OnceLock, RwLock},
    thread,
    time::Duration,
};

/// The real module and the state around it: one for each process.
#[derive(Debug)]
pub(crate) struct Module {
    real: CK_FUNCTION_LIST,
    control: ControlFile,
    counts: SharedCounts,
    // Calls of the real module share it; whoever takes sessions or handles from under them has it alone.
    calls: RwLock<()>,
    // Lock order: `calls`, `sessions`, `handles`.
    sessions: Mutex<Sessions>,
    handles: Mutex<Handles>,
    // Keeps the code that `real` points to.
    _library: Library,
}

/// A call as the rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) session: Option<CK_SESSION_HANDLE>,
    pub(crate) mechanism: Option<CK_MECHANISM_TYPE>,
}

/// What the rules say of a call, after they had their way with the process.
#[derive(Debug, Default)]
struct Decision {
    instead: Option<CK_RV>,
    afterwards: Option<CK_RV>,
    flip: Option<Place>,
    cap: Option<Cap>,
}

#[derive(Debug, Clone, Copy)]
struct Cap {
    rule: usize,
    limit: Option<u64>,
    most: u64,
    told: Option<u64>,
}

/// Runs the body of an entry point. A panic in it, or a module that cannot be loaded, is `CKR_GENERAL_ERROR`.
pub(crate) fn guarded(body: impl FnOnce(&Module) -> CK_RV) -> CK_RV {
    static MODULE: OnceLock<Result<Module, String>> = OnceLock::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| match MODULE.get_or_init(Module::load) {
        Ok(module) => body(module),
        Err(why) => failed(why),
    }));
    outcome.unwrap_or(CKR_GENERAL_ERROR)
}

impl Module {
    fn load() -> Result<Self, String> {
        let directory = env::var_os(DIRECTORY_VARIABLE)
            .map(PathBuf::from)
            .ok_or_else(|| format!("the environment variable {DIRECTORY_VARIABLE} names no directory"))?;
        let control = ControlFile::in_directory(&directory);
        let path = control.read()?.module;
        let unusable = |why: String| format!("the real module {path} cannot be used: {why}");
        // SAFETY: loading runs the library's constructors: the test names SoftHSM2, which may be loaded at any time.
        let library = unsafe { Library::new(&path) }.map_err(|error| unusable(error.to_string()))?;
        let mut list: CK_FUNCTION_LIST_PTR = ptr::null_mut();
        // SAFETY: C_GetFunctionList has this signature in every version of PKCS#11, and writes one pointer.
        let code = unsafe {
            let get = library
                .get::<unsafe extern "C" fn(CK_FUNCTION_LIST_PTR_PTR) -> CK_RV>(b"C_GetFunctionList\0")
                .map_err(|error| unusable(error.to_string()))?;
            get(&mut list)
        };
        if code != CKR_OK || list.is_null() {
            return Err(unusable(format!("C_GetFunctionList returned 0x{code:x}")));
        }
        let counts = directory.join(COUNTS_FILE);
        Ok(Self {
            // SAFETY: a module's list is constant, and is there since the library is.
            real: unsafe { *list },
            control,
            counts: SharedCounts::open(&counts).map_err(|error| format!("{}: {error}", counts.display()))?,
            calls: RwLock::new(()),
            sessions: Mutex::default(),
            handles: Mutex::default(),
            _library: library,
        })
    }

    /// Does a call, or what the rules make of it. `forward` asks the real module.
    pub(crate) fn serve(&self, mut call: Call, forward: impl FnOnce(&Forwarding<'_>) -> CK_RV) -> CK_RV {
        self.counts.note_call(call.function);
        if let (None, Some(session)) = (call.mechanism, call.session) {
            call.mechanism = lock(&self.sessions).mechanism(session);
        }
        let decision = match self.decide(call) {
            Ok(decision) => decision,
            Err(why) => return failed(&why),
        };
        if let Some(code) = decision.instead {
            return code;
        }
        if call.function.needs_login() && lock(&self.sessions).is_login_lost() {
            return CKR_USER_NOT_LOGGED_IN;
        }
        let mut code = {
            let _shared = self.calls.read().unwrap_or_else(|lock| lock.into_inner());
            let forwarding = Forwarding {
                module: self,
                call,
                decision: &decision,
            };
            forward(&forwarding)
        };
        if call.function == Function::C_Login
            && [CKR_OK, CKR_USER_ALREADY_LOGGED_IN].contains(&code)
            && lock(&self.sessions).logged_in()
        {
            code = CKR_OK;
        }
        decision.afterwards.unwrap_or(code)
    }

    /// Lets the rules strike.
    fn decide(&self, call: Call) -> Result<Decision, String> {
        let mut decision = Decision::default();
        for rule in self.control.rules()?.iter() {
            if !rule.is_about(call.function, call.mechanism) || !rule.chooses(self.counts.note_seen(rule.number)) {
                continue;
            }
            if let Fault::CapSessions { most, told } = rule.fault {
                // Strikes only when a session too many is opened.
                decision.cap.get_or_insert(Cap {
                    rule: rule.number,
                    limit: rule.limit,
                    most,
                    told,
                });
                continue;
            }
            if !self.counts.note_strike(rule.number, call.function, rule.limit) {
                continue;
            }
            self.strike(rule, &mut decision);
            if decision.instead.is_some() {
                break;
            }
        }
        Ok(decision)
    }

    fn strike(&self, rule: &Rule, decision: &mut Decision) {
        match rule.fault {
            Fault::FailBefore { code } => decision.instead = Some(code),
            Fault::FailAfter { code } => drop(decision.afterwards.get_or_insert(code)),
            Fault::Delay { milliseconds } => thread::sleep(Duration::from_millis(milliseconds)),
            Fault::Hang {} => {
                while self.control.has(rule.number) {
                    thread::sleep(HANG_LOOK);
                }
            }
            Fault::Crash { how } => crash(how),
            Fault::FlipBit { place } => drop(decision.flip.get_or_insert(place)),
            Fault::LoseLogin {} => lock(&self.sessions).lose_login(),
            Fault::LoseSessions { login_too } => self.lose_sessions(login_too),
            Fault::LoseHandles {} => {
                let _alone = self.calls.write().unwrap_or_else(|lock| lock.into_inner());
                lock(&self.handles).lose();
            }
            Fault::SwapHandles { class } => self.swap_handles(class),
            // Never strikes here.
            Fault::CapSessions { .. } => {}
        }
    }

    /// Closes all sessions. Where the login is to stay, a session of this module's own is left.
    fn lose_sessions(&self, login_too: bool) {
        let _alone = self.calls.write().unwrap_or_else(|lock| lock.into_inner());
        let mut sessions = lock(&self.sessions);
        for slot in sessions.slots() {
            if !login_too
                && sessions.own(slot).is_none()
                && let Some(own) = self.open_own(slot)
            {
                sessions.keep_own(slot, own);
            }
        }
        let mut lost = sessions.lose();
        if login_too {
            lost.extend(sessions.lose_own());
        }
        for session in lost {
            self.close(session);
        }
    }

    fn swap_handles(&self, class: Option<u64>) {
        let _alone = self.calls.write().unwrap_or_else(|lock| lock.into_inner());
        let mut sessions = lock(&self.sessions);
        let Some(slot) = sessions.slots().first().copied() else {
            return;
        };
        let Some(own) = sessions.own(slot).or_else(|| self.open_own(slot)) else {
            return;
        };
        sessions.keep_own(slot, own);
        lock(&self.handles).swap(|object| {
            let its_class = self.number(own, object, CKA_CLASS)?;
            let key_type = self.number(own, object, CKA_KEY_TYPE);
            class
                .is_none_or(|wanted| wanted == its_class)
                .then_some((its_class, key_type))
        });
    }

    fn open_own(&self, slot: CK_SLOT_ID) -> Option<CK_SESSION_HANDLE> {
        let mut session = CK_INVALID_HANDLE;
        let open = self.real.C_OpenSession?;
        // SAFETY: no callback and no application pointer; the handle is written on success.
        let code = unsafe { open(slot, CKF_SERIAL_SESSION, ptr::null_mut(), None, &mut session) };
        (code == CKR_OK).then_some(session)
    }

    fn close(&self, session: CK_SESSION_HANDLE) {
        if let Some(close) = self.real.C_CloseSession {
            // SAFETY: takes the handle alone. One that is closed already is an error that nobody minds.
            let _ = unsafe { close(session) };
        }
    }

    /// An attribute that is a number.
    fn number(&self, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Option<u64> {
        let mut value: CK_ULONG = 0;
        let mut attribute = CK_ATTRIBUTE {
            type_: kind,
            pValue: ptr::from_mut(&mut value).cast(),
            ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
        };
        let get = self.real.C_GetAttributeValue?;
        // SAFETY: the attribute points to a number that lives during the call, with its length.
        let code = unsafe { get(session, object, &mut attribute, 1) };
        (code == CKR_OK && attribute.ulValueLen == size_of::<CK_ULONG>() as CK_ULONG).then_some(value)
    }
}

/// A call on its way to the real module and back.
pub(crate) struct Forwarding<'m> {
    module: &'m Module,
    call: Call,
    decision: &'m Decision,
}

impl Forwarding<'_> {
    /// The functions of the real module.
    pub(crate) fn real(&self) -> &CK_FUNCTION_LIST {
        &self.module.real
    }

    /// The object that a caller's handle stands for.
    pub(crate) fn object(&self, handle: CK_OBJECT_HANDLE) -> CK_OBJECT_HANDLE {
        lock(&self.module.handles).real(handle)
    }

    /// Puts stand-ins in the place of objects that are given to the caller.
    pub(crate) fn give(&self, objects: &mut [CK_OBJECT_HANDLE]) {
        let mut handles = lock(&self.module.handles);
        for object in objects {
            *object = handles.stand_in(*object);
        }
    }

    /// An object was destroyed.
    pub(crate) fn destroyed(&self, object: CK_OBJECT_HANDLE) {
        lock(&self.module.handles).remove(object);
    }

    /// An operation began.
    pub(crate) fn began(&self) {
        if let (Some(session), Some(mechanism)) = (self.call.session, self.call.mechanism) {
            lock(&self.module.sessions).began(session, mechanism);
        }
    }

    /// A session was opened: it is closed again if it is one too many.
    pub(crate) fn opened(&self, slot: CK_SLOT_ID, session: CK_SESSION_HANDLE) -> CK_RV {
        let mut sessions = lock(&self.module.sessions);
        if let Some(cap) = self.decision.cap
            && sessions.count() >= cap.most
            && self
                .module
                .counts
                .note_strike(cap.rule, Function::C_OpenSession, cap.limit)
        {
            self.module.close(session);
            return CKR_SESSION_COUNT;
        }
        sessions.opened(session, slot);
        CKR_OK
    }

    /// A session was closed.
    pub(crate) fn closed(&self, session: CK_SESSION_HANDLE) {
        lock(&self.module.sessions).closed(session);
    }

    /// All sessions of a slot were closed.
    pub(crate) fn closed_all(&self, slot: CK_SLOT_ID) {
        lock(&self.module.sessions).closed_all(slot);
    }

    /// The real module was finalised.
    pub(crate) fn ended(&self) {
        lock(&self.module.sessions).ended();
        lock(&self.module.handles).lose();
    }

    /// What the token says is the most sessions, if not what it says by itself.
    pub(crate) fn told_sessions(&self) -> Option<CK_ULONG> {
        self.decision.cap?.told
    }

    /// Flips a bit of a result, if a rule says so.
    pub(crate) fn put_out(&self, result: &mut [CK_BYTE]) {
        let byte = match self.decision.flip {
            None => None,
            Some(Place::First) => result.first_mut(),
            Some(Place::Last) => result.last_mut(),
        };
        if let Some(byte) = byte {
            *byte ^= 1;
        }
    }
}

fn crash(how: Crash) -> ! {
    match how {
        Crash::Abort => process::abort(),
        // The first may go to the handler that looks for stack overflows, which then leaves the next to the system.
        Crash::Segfault => loop {
            let _ = kill_process(getpid(), Signal::SEGV);
        },
        Crash::Exit => _exit(0),
    }
}

// SAFETY: `_exit(2)` takes any number, runs no handler and does not return.
unsafe extern "C" {
    safe fn _exit(status: c_int) -> !;
}

#[expect(
    clippy::print_stderr,
    reason = "a module has no other place to say what is wrong with its use"
)]
fn failed(why: &str) -> CK_RV {
    eprintln!("faulty module: {why}");
    CKR_GENERAL_ERROR
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|lock| lock.into_inner())
}

/// Between two looks whether a hang is over.
const HANG_LOOK: Duration = Duration::from_millis(5);

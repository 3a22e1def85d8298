//! What a process that holds PINs and plaintexts gives up: debuggers, core dumps, new privileges, swap.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::set_no_new_privs,
};

/// What could not be done, in words. The process goes on: the caller decides what to make of it.
pub fn harden() -> Vec<String> {
    let mut missing = Vec::new();
    let mut note = |what: &str, outcome: rustix::io::Result<()>| {
        if let Err(error) = outcome {
            missing.push(format!("{what}: {error}"));
        }
    };
    note(
        "core dumps are not switched off",
        setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        ),
    );
    note(
        "the process can be traced",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    );
    note("the process may gain privileges", set_no_new_privs(true));
    if let Err(why) = lock_memory() {
        missing.push(format!("memory may be swapped out: {why}"));
    }
    missing
}

/// Raises the soft limit of open descriptors to the hard one: each connection and each worker takes some.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused only if the hard limit were raised, which it is not.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Locks all memory, present and future, as it is touched.
///
/// Not under a finite limit: every allocation beyond it would fail, and take the process with it.
fn lock_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some() && !rustix::process::geteuid().is_root() {
        return Err("the limit for locked memory (RLIMIT_MEMLOCK) is finite".to_owned());
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(|error| error.to_string())
}

//! The worker processes of a running gateway.

use rustix::process::{Pid, Signal, kill_process};
use std::{collections::BTreeMap, fs};

/// The workers among a process's children, by the member that each serves: `portcullisd hsm-worker MEMBER`.
pub(crate) fn workers_of(gateway: u32) -> BTreeMap<String, u32> {
    let mut workers = BTreeMap::new();
    for pid in children_of(gateway) {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        if let [_, worker, member, ..] = arguments.as_slice()
            && worker == "hsm-worker"
        {
            workers.insert(member.to_string(), pid);
        }
    }
    workers
}

/// Kills one worker. It must be a child of the gateway at this moment.
pub(crate) fn kill_worker(gateway: u32, worker: u32) {
    signal_worker(gateway, worker, Signal::KILL);
}

/// Stops one worker where it is. It must be a child of the gateway at this moment.
pub(crate) fn freeze_worker(gateway: u32, worker: u32) {
    signal_worker(gateway, worker, Signal::STOP);
}

/// Lets one worker go on. It must be a child of the gateway at this moment.
pub(crate) fn thaw_worker(gateway: u32, worker: u32) {
    signal_worker(gateway, worker, Signal::CONT);
}

/// Lets every child of the gateway go on, so that it notices when the gateway is gone.
pub(crate) fn thaw_all(gateway: u32) {
    for child in children_of(gateway) {
        signal(child, Signal::CONT);
    }
}

fn signal_worker(gateway: u32, worker: u32, what: Signal) {
    assert!(
        children_of(gateway).contains(&worker),
        "process {worker} is not a worker of {gateway}"
    );
    signal(worker, what);
}

/// Whether a process exists and has not ended: a zombie has.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

/// Sends SIGINT, as Ctrl-C does, to a process that the suite started.
pub fn interrupt(pid: u32) {
    signal(pid, Signal::INT);
}

/// Sends a signal to a process that the suite started, or that such a process started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal {pid:?}: {error}"),
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

/// A process's state and its parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

//! What is in the memory of a process: what a core dump would show.

use super::search::Search;
use portcullis_softhsm_tests::{Gateway, Launch, TestCluster, find_tool};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt,
};

/// A gateway whose memory this process may read.
///
/// It cannot be traced by its own user. Root may read it all the same; and where the tests do not run as root, a gateway in a user
/// namespace that this process made, in which that user is root: so it knows its callers as root, too.
pub(super) fn readable<'c>(cluster: &'c TestCluster) -> Launch<'c> {
    let launch = Launch::new(cluster);
    if rustix::process::geteuid().is_root() {
        return launch;
    }
    cluster.add_policies("permit (principal == Principal::\"unix:uid=0\", action, resource);");
    launch.under(find_tool("unshare", "util-linux"), ["--map-root-user"])
}

/// Searches all that a process could have written to.
pub(super) fn search(pid: u32, search: &Search) -> BTreeSet<(String, &'static str)> {
    let read = |file: &str| format!("/proc/{pid}/{file}");
    let maps = fs::read_to_string(read("maps")).expect("the process's memory map");
    let memory = File::open(read("mem")).unwrap_or_else(|error| {
        panic!("the memory of process {pid} cannot be read, which root (CAP_SYS_PTRACE) may: {error}")
    });
    let mut found = BTreeSet::new();
    let mut chunk = vec![0; CHUNK];
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
            panic!("not a line of a memory map: {line}")
        };
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (number(start), number(end));
        while at < end {
            let wanted = CHUNK.min((end - at) as usize);
            // What was unmapped since then is gone.
            let Ok(count @ 1..) = memory.read_at(&mut chunk[..wanted], at) else {
                break;
            };
            let bytes = &chunk[..count];
            if bytes.iter().any(|byte| *byte != 0) {
                found.extend(search.find(bytes));
            }
            if count < wanted || at + count as u64 >= end {
                break;
            }
            // What lies across two chunks is in the second one.
            at += (count - search.longest()) as u64;
        }
    }
    found
}

/// The gateway's process id and those of its workers, with words.
pub(super) fn processes(gateway: &Gateway) -> Vec<(String, u32)> {
    let workers = gateway.workers().into_iter();
    let workers = workers.map(|(member, pid)| (format!("the worker of member {member}"), pid));
    [("portcullisd".to_owned(), gateway.pid())]
        .into_iter()
        .chain(workers)
        .collect()
}

const CHUNK: usize = 1 << 20;

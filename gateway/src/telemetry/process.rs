//! What the kernel says of this process.

use rustix::process::{Resource, getrlimit};
use std::fs;

/// Resident memory in bytes (`/proc/self/statm`, the second number, in pages).
pub(super) fn resident_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Open file descriptors, without the one that counts them.
pub(super) fn open_files() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(open.saturating_sub(1))
}

/// File descriptors that may be open; `None` where there is no limit.
pub(super) fn file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        assert!(resident_memory().is_some_and(|bytes| bytes > 1 << 20));
        let before = open_files().expect("a count");
        let _file = fs::File::open("/dev/null").expect("a file");
        assert!(open_files().is_some_and(|open| open > 0 && open + 50 > before));
        assert!(file_limit().is_none_or(|limit| limit > before));
    }
}

//! What is recorded of the host: what runs, and what could listen or remember.

use crate::script::FileHash;
use portcullis_hsm::worker::hardening::harden;
use std::{collections::BTreeMap, fs, io, path::Path};

/// The host as the program finds it when it starts.
#[derive(Debug, Clone)]
pub struct Host {
    /// The hash of the program.
    pub tool: FileHash,
    /// What of the hardening of this process failed.
    unhardened: Vec<String>,
}

impl Host {
    /// Reads the program's own file, then hardens the process: no core dumps, no tracing, no swapping of its memory.
    pub fn examine() -> io::Result<Self> {
        // Before: a process that cannot be dumped may not be able to read itself.
        let tool = FileHash::of(&fs::read("/proc/self/exe")?);
        Ok(Self {
            tool,
            unhardened: harden(),
        })
    }

    /// What is recorded of it.
    pub fn facts(&self) -> io::Result<BTreeMap<String, String>> {
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
        fact("program", self.tool.to_string());
        fact("version", env!("CARGO_PKG_VERSION").to_owned());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        fact("kernel", kernel.trim().to_owned());
        fact("system", system()?);
        fact("network", list(interfaces_up(Path::new("/sys/class/net"))?, "down"));
        fact("swap", list(swaps(&fs::read_to_string("/proc/swaps")?), "none"));
        fact("hardening", list(self.unhardened.clone(), "complete"));
        Ok(facts)
    }
}

/// The operating system's name for itself, and the hash of the file that says so.
fn system() -> io::Result<String> {
    let release = match fs::read_to_string("/etc/os-release") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok("does not say what it is".to_owned()),
        release => release?,
    };
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or("no name", |name| name.trim_matches('"'));
    let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
    Ok(name)
}

/// An interface whose state the kernel does not know, such as a tunnel, counts as up: it may carry something.
fn interfaces_up(directory: &Path) -> io::Result<Vec<String>> {
    let mut up = Vec::new();
    let entries = match fs::read_dir(directory) {
        // A host without any network at all.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(up),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Files such as bonding_masters are no interfaces.
        let Ok(state) = fs::read_to_string(entry.path().join("operstate")) else {
            continue;
        };
        if name != "lo" && !matches!(state.trim(), "down" | "notpresent") {
            up.push(name);
        }
    }
    up.sort();
    Ok(up)
}

fn swaps(proc_swaps: &str) -> Vec<String> {
    proc_swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn list(found: Vec<String>, none: &str) -> String {
    match found.as_slice() {
        [] => none.to_owned(),
        found => found.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_may_carry_something_are_up() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, state) in [
            ("lo", "unknown"),
            ("eth0", "up"),
            ("wlan0", "down"),
            ("tun0", "unknown"),
        ] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
            fs::write(directory.path().join(name).join("operstate"), format!("{state}\n")).expect("a file");
        }
        fs::write(directory.path().join("bonding_masters"), "").expect("a file");
        assert_eq!(interfaces_up(directory.path()).expect("interfaces"), ["eth0", "tun0"]);
        assert!(interfaces_up(&directory.path().join("none")).expect("none").is_empty());
    }

    #[test]
    fn swap_is_read_as_the_kernel_writes_it() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/dm-1                               partition\t999420\t\t0\t\t-2\n";
        assert_eq!(swaps(text), ["/dev/dm-1"]);
        assert!(swaps("Filename\tType\n").is_empty());
    }
}

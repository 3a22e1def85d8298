//! On what it was measured.

use serde::Serialize;
use std::{fs, thread};

/// The machine and the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// How many of its cores (hardware threads) this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The operating system.
    pub system: String,
    /// This program's version.
    pub version: String,
    /// Whether it was built without optimisation: then its figures mean nothing.
    pub debug_build: bool,
    /// The load average of the minute before.
    pub load: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let first_word = |path: &str| read(path).split_whitespace().next().map(str::to_owned);
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| UNKNOWN.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: first_word("/proc/sys/kernel/osrelease").unwrap_or_else(|| UNKNOWN.to_owned()),
            system: read("/etc/os-release")
                .lines()
                .find_map(|line| line.strip_prefix("PRETTY_NAME="))
                .map_or_else(|| UNKNOWN.to_owned(), |name| name.trim_matches('"').to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            debug_build: cfg!(debug_assertions),
            load: first_word("/proc/loadavg").unwrap_or_else(|| UNKNOWN.to_owned()),
        }
    }

    /// One line for people.
    pub fn text(&self) -> String {
        format!(
            "{}, {} cores, {} MiB; {}, kernel {}; portcullis {}{}; load before: {}",
            self.processor,
            self.cores,
            self.memory_mib,
            self.system,
            self.kernel,
            self.version,
            if self.debug_build { " (DEBUG BUILD)" } else { "" },
            self.load,
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value behind the first `name :` of a file of lines.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

const UNKNOWN: &str = "unknown";

//! Counters that all processes with the module share, and that outlive them: a file of numbers, mapped into memory.

use crate::{Function, rule::LIMIT_OF_RULES};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

/// The counters as they were when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// Makes a file of counters that are all 0. It must be there before the module is loaded.
    pub fn create(file: &Path) -> io::Result<()> {
        fs::write(file, [0; BYTES])
    }

    /// Reads the file.
    pub fn read(file: &Path) -> io::Result<Self> {
        let bytes = fs::read(file)?;
        let (words, _) = bytes.as_chunks();
        Ok(Self(words.iter().copied().map(u64::from_ne_bytes).collect()))
    }

    /// How often a function was called, by all processes, whatever came of it.
    pub fn calls(&self, function: Function) -> u64 {
        self.0[CALLS + function as usize]
    }

    /// How often a rule struck a call of a function.
    pub fn faults(&self, function: Function) -> u64 {
        self.0[FAULTS + function as usize]
    }

    /// How often a rule struck.
    pub fn strikes(&self, rule: usize) -> u64 {
        self.0[STRUCK + rule]
    }
}

/// The counters as the module changes them.
#[derive(Debug)]
pub(crate) struct SharedCounts(&'static [AtomicU64]);

impl SharedCounts {
    /// Maps the file into memory, for as long as the process lives.
    pub(crate) fn open(file: &Path) -> io::Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).open(file)?;
        if opened.metadata()?.len() != BYTES as u64 {
            return Err(io::Error::other(format!(
                "{} does not have {BYTES} bytes",
                file.display()
            )));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &opened,
                0,
            )
        }?;
        // SAFETY: the mapping has room for `WORDS` numbers, is aligned to a page, is never unmapped, and is changed by atomic
        // operations alone: nobody writes to the file otherwise once it is mapped, and nobody makes it shorter.
        Ok(Self(unsafe {
            std::slice::from_raw_parts(start.cast::<AtomicU64>(), WORDS)
        }))
    }

    /// A function is called.
    pub(crate) fn note_call(&self, function: Function) {
        self.0[CALLS + function as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// A rule sees a call that it is about; returns how many it saw before.
    pub(crate) fn note_seen(&self, rule: usize) -> u64 {
        self.0[SEEN + rule].fetch_add(1, Ordering::SeqCst)
    }

    /// A rule strikes a call, unless it has done so as often as it may.
    pub(crate) fn note_strike(&self, rule: usize, function: Function, limit: Option<u64>) -> bool {
        let limit = limit.unwrap_or(u64::MAX);
        let next = |struck: u64| (struck < limit).then_some(struck + 1);
        let counted = self.0[STRUCK + rule].fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        if counted.is_ok() {
            self.0[FAULTS + function as usize].fetch_add(1, Ordering::SeqCst);
        }
        counted.is_ok()
    }
}

const CALLS: usize = 0;
const FAULTS: usize = CALLS + Function::COUNT;
const SEEN: usize = FAULTS + Function::COUNT;
const STRUCK: usize = SEEN + LIMIT_OF_RULES;
const WORDS: usize = STRUCK + LIMIT_OF_RULES;
const BYTES: usize = WORDS * size_of::<u64>();

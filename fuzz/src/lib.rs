//! Fuzz targets for everything in Portcullis that reads bytes which somebody else may have chosen.
//!
//! - [`Target`] names what is fuzzed and prepares its [`Subject`]: valid samples, and a judgement of any input.
//! - `targets` has them, by what they read; [`TARGETS`] lists them.
//! - [`mutation`] makes inputs out of samples: random bytes alone never get past a magic number.
//! - [`check`](mod@check) runs a target for a while without any tool: the tests of this crate do, for each target.
//! - `src/bin/guided.rs` runs a target under libFuzzer, guided by coverage, for as long as one likes: `fuzz/run TARGET SECONDS`.
//! - `samples/` has keys, certificates and signatures that OpenSSL made; `regressions/TARGET/` the inputs that once failed.
//!
//! A judgement panics where the subject breaks a promise. Besides not panicking itself, what parses must mean what its bytes
//! say: where a format has one form, it is written again as the same bytes; what has a tag, a hash or a signature is not
//! believed after a change; and no input takes more memory than its length allows.

#![forbid(unsafe_code)]

pub mod check;
pub mod mutation;
mod targets;

pub use targets::{TARGETS, become_worker_if_asked};

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Something that reads bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, by which `fuzz/run` and the tests know it.
    pub name: &'static str,
    /// Prepares it, with whatever it needs around it; that is removed with the subject.
    pub prepare: fn() -> Box<dyn Subject>,
}

/// What is fuzzed.
pub trait Subject {
    /// Inputs that are accepted, from which others are made.
    fn samples(&self) -> Vec<Vec<u8>>;

    /// Gives it an input.
    ///
    /// # Panics
    ///
    /// When it breaks a promise.
    fn judge(&self, input: &[u8]) -> Verdict;

    /// How much memory an input may take, in bytes.
    fn memory(&self) -> Memory {
        Memory::USUAL
    }
}

/// What came of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was read as what it claims to be.
    Accepted,
    /// It was refused.
    Refused,
}

impl Verdict {
    /// Of a result.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Accepted } else { Self::Refused }
    }

    /// Accepted if either is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Accepted { self } else { other }
    }
}

/// How much memory an input may take, in the thread that reads it.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Whatever the input.
    pub fixed: u64,
    /// For each byte of it.
    pub per_byte: u64,
}

impl Memory {
    /// Parsed once or twice, with room for an error's words.
    pub const USUAL: Self = Self {
        fixed: 16 * 1024,
        per_byte: 32,
    };

    /// Judges an input and holds the subject to its bound.
    ///
    /// # Panics
    ///
    /// When the subject does, and when it takes more.
    pub fn watch(self, subject: &dyn Subject, input: &[u8]) -> Verdict {
        let mut verdict = Ok(Verdict::Refused);
        let used = allocation_counter::measure(|| {
            // The counter must be left as it was entered.
            verdict = catch_unwind(AssertUnwindSafe(|| subject.judge(input)));
        });
        let verdict = verdict.unwrap_or_else(|panic| resume_unwind(panic));
        let allowed = self.fixed + self.per_byte * input.len() as u64;
        assert!(
            used.bytes_max <= allowed,
            "an input of {} bytes took {} bytes of memory, at most {allowed} were expected",
            input.len(),
            used.bytes_max
        );
        verdict
    }
}

/// A subject that needs nothing around it.
struct Pure {
    samples: fn() -> Vec<Vec<u8>>,
    judge: fn(&[u8]) -> Verdict,
    memory: Memory,
}

impl Subject for Pure {
    fn samples(&self) -> Vec<Vec<u8>> {
        (self.samples)()
    }

    fn judge(&self, input: &[u8]) -> Verdict {
        (self.judge)(input)
    }

    fn memory(&self) -> Memory {
        self.memory
    }
}

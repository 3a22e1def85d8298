//! `portcullis-ceremony`: ceremonies from the command line.

#![forbid(unsafe_code)]

mod command;

use std::{alloc::System, process::ExitCode};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that is freed: private keys and passphrases pass through buffers of parsers and prompts.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    command::run().into()
}

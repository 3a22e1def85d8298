//! Ceremonies from the binary: scripts, people with keys, and whoever answers for them.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed test")]

mod cluster;
mod deeds;
mod ends;
mod keys;
mod mutation;
mod progress;
mod rehearsal;
mod resume;
mod room;
mod scripts;
mod story;
mod terminal;
mod tokens;

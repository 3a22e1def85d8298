//! Ceremonies: several people, one script, keys that nobody holds alone.
//!
//! - [`script`]: what is done and by whom, as it was reviewed: `script.toml`.
//! - [`name`]: names of steps, seats and tokens. [`words`]: bytes as words that are spoken and typed back.
//! - [`problem`]: everything that is wrong with a file, at once. [`exit`]: how the program ends.
//!
//! A ceremony needs no gateway and no network.

#![forbid(unsafe_code)]

pub mod exit;
pub mod name;
pub mod problem;
pub mod script;
pub mod words;

//! Ceremonies: several people, one script, keys that nobody holds alone.
//!
//! - [`script`]: what is done and by whom, as it was reviewed: `script.toml`.
//! - [`environment`]: who the people are, and what they work with: `env.toml`. Rehearsal and production differ in nothing else.
//! - [`lint`](mod@lint): whether the one can be held by the other. [`problem`]: everything that is wrong with a file, at once.
//! - [`transcript`]: what happened, line by line, chained and signed. [`progress`]: what it adds up to, and what may come next.
//! - [`table`]: leads people through the script. [`front`]: puts the questions, to people at a terminal or to a program.
//! - [`host`], [`clock`], [`token`]: what it runs on, and what tokens say of themselves. [`key_file`]: the keys that people bring.
//! - [`bundle`]: what a ceremony leaves behind, and its verification. [`report`]: the transcript for people.
//! - [`shares`]: secrets that several custodians have together, and none of them alone.
//! - [`demo`]: a whole ceremony without people.
//! - [`name`], [`words`]: names of steps and seats; bytes as words that are spoken and typed back.
//! - [`failure`], [`exit`]: why the program ends, and with which code.
//!
//! A ceremony needs no gateway and no network.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod clock;
pub mod demo;
pub mod environment;
pub mod exit;
pub mod failure;
pub mod front;
pub mod host;
pub mod key_file;
pub mod lint;
pub mod name;
pub mod problem;
pub mod progress;
pub mod report;
pub mod script;
pub mod shares;
pub mod table;
pub mod token;
pub mod transcript;
pub mod words;

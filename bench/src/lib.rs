//! Measures a gateway beside the PKCS#11 module that it uses: `portcullis bench`.
//!
//! The way of a measurement:
//!
//! 1. [`BenchArguments`] (`arguments`) is the command line; it becomes a [`Plan`] (`plan`): which [`Operation`]s, in which
//!    [`Mode`]s, how long and how often (`operation`). `pin` reads the PIN of the token that is driven directly.
//! 2. [`measure`] (`bench`) takes the ways in turns, so that what disturbs the machine disturbs all of them, and cleans up
//!    whatever the end is. Before anything is measured, each way has done its operation once and the result was checked (`verify`).
//! 3. A way is one of three. `through`: callers with keys of a gateway, over its own API. `direct`: a PKCS#11 module in a process
//!    of its own, with token objects. `echo`: a gRPC server in a process of its own that does nothing, which is the floor.
//!    `creation` makes keys and uses them for the first time. `helper` speaks to the processes.
//! 4. A loop is one of two. `closed`: each caller makes one call after another. `open`: calls begin at a rate, and latency
//!    counts from the moment at which they should have begun. Both fill a [`Sample`] (`sample`): a histogram, and what failed.
//! 5. [`Report`] (`report`) has the samples; `statistics` says what several of them say together, `target` what was asked for,
//!    [`Machine`] (`machine`) on what it was measured. It is shown as tables, as JSON, and as a picture.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod closed;
mod creation;
mod direct;
mod echo;
mod error;
mod helper;
mod machine;
mod open;
mod operation;
mod pin;
mod plan;
mod report;
mod sample;
mod statistics;
mod target;
mod through;
mod verify;

pub use arguments::{BenchArguments, Helper};
pub use bench::measure;
pub use direct::DirectToken;
pub use error::Error;
pub use machine::Machine;
pub use operation::{Mode, Operation, Transport};
pub use plan::{OpenPlan, Plan};
pub use report::{Curve, Group, Point, Report, Table, Way};
pub use sample::{Latencies, Sample};
pub use statistics::Spread;
pub use through::{Address, keys::Cleaned};

/// The hidden subcommand of `portcullis` behind which [`Helper`] is.
pub const HELPER: &str = "bench-helper";

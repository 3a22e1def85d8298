//! Load with faults: callers whose every result is checked, while something goes wrong.
//!
//! - [`Load`] (`load`): many callers, until they are told to stop; `caller`: what each of them does and checks.
//! - [`Report`] (`report`): what came of all the calls, and how long those took that were under way while something was wrong.
//! - [`Stage`] (`stage`): a cluster, a gateway and the load on it.
//! - [`Scenario`] (`scenario`): what goes wrong, how it is put right, and what must hold; `kills`, `tokens`, `modules` and
//!   `operators` have them, by who or what makes the fault.
//! - [`Throughput`] (`throughput`): how much is done in a second, by the number of workers.
//! - [`Pressure`] (`pressure`): ten times as much as can be done.

mod caller;
mod kills;
mod load;
mod modules;
mod operators;
mod pressure;
mod report;
mod scenario;
mod stage;
mod throughput;
mod tokens;

pub use load::{Load, Patience};
pub use pressure::{Burden, Ends, Endured, Pressure, press};
pub use report::{Latencies, Report};
pub use scenario::{Scenario, Size};
pub use stage::Stage;
pub use throughput::{Throughput, Work, throughput};

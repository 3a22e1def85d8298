//! The way to the gateway.
//!
//! - `endpoint`: where it listens.
//! - `connection`: one connection with a runtime of its own, driven by whichever thread has it, and the stream on it.
//! - `pool`: a few of them, lent to one call at a time; what is tried again, and for how long.
//! - `calls`: the calls that the module makes.

mod calls;
mod connection;
mod endpoint;
mod pool;

pub(crate) use calls::request_id;
pub use endpoint::Endpoint;
pub(crate) use pool::Pool;

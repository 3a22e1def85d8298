//! The session manager: it decides where an operation runs and what happens when that goes wrong.
//!
//! - [`core`]: the decisions, a crate of their own. It takes events and the time and returns what to do; it has no sockets, clocks or threads.
//! - [`worker`]: a worker process and the socket to it.
//! - [`shell`]: carries the decisions out: sends work, waits, asks again.
//! - `attempt`: one attempt on one member, and what its reply means.
//! - `complaints`: which of many failed calls the log tells of.
//! - `opening`: how a worker comes into service, and its probes.
//! - `operating`: what people do to members: drain, resume, replacement of workers, another configuration.
//! - `outgoing`: the frames on their way to a worker.
//! - `sealing`: whether keys can be wrapped by the members that serve.
//! - [`pins`]: the members' PINs.
//! - [`key_use`]: what keys can be asked to do, with types.
//! - [`operation`]: what else can be asked of the cluster: generation, destruction, tags.
//! - [`transfer`]: import, export and ephemeral keys.
//! - [`view`]: what can be seen of the members.

mod attempt;
mod complaints;
mod error;
pub mod key_use;
mod opening;
mod operating;
pub mod operation;
mod outgoing;
pub mod pins;
mod sealing;
pub mod shell;
pub mod transfer;
pub mod view;
pub mod worker;

pub use error::ClusterError;
pub use operating::LastMember;
pub use operation::Key;
pub use portcullis_session_manager as core;
pub use shell::Cluster;
pub use view::{MemberView, Readiness};

//! The worker process: one vendor library, one token, outside the gateway.
//!
//! A PKCS#11 call cannot be cancelled, and vendor libraries crash, hang and keep global state. So each runs in a process
//! of its own that the gateway can kill. The worker is small and synchronous: the main thread reads frames, a control
//! thread opens the token, probes it and changes token objects, and one thread for each session does the work from a
//! bounded queue. It is told everything over its socket, the PIN included, and it dies when the socket closes.
//!
//! - [`protocol`]: the messages and their frames.
//! - [`frame_buffer`]: what came over the socket and is no message yet.
//! - [`run`]: the process's life.
//! - [`hardening`]: what the process gives up before it reads the PIN.
//! - [`sandbox`]: where it may write, if the configuration says.

mod control;
pub mod frame_buffer;
pub mod hardening;
mod perform;
mod process;
pub mod protocol;
mod reply;
pub mod sandbox;
mod session_thread;
mod transfer;

pub use process::{SocketError, run, socket_from_stdin};

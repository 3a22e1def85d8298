//! The worker process: one vendor library, one token, outside the gateway.
//!
//! A PKCS#11 call cannot be cancelled, and vendor libraries crash, hang and keep global state. So each runs in a process
//! of its own that the gateway can kill. The worker is small and synchronous: the main thread reads frames, a control
//! thread opens the token and probes it, another changes token objects, and threads with a session each do the work of two bounded
//! queues: the use of keys, and their generation. It is told everything over its socket, the PIN included, and it dies when the socket closes.
//!
//! - [`protocol`]: the messages and their frames.
//! - [`frame_buffer`]: what came over the socket and is no message yet.
//! - [`lane`]: which threads serve which requests.
//! - [`run`]: the process's life.
//! - [`hardening`]: what the process gives up before it reads the PIN.
//! - [`sandbox`]: where it may write, if the configuration says.

mod control;
pub mod frame_buffer;
pub mod hardening;
pub mod lane;
mod perform;
mod process;
pub mod protocol;
mod queue;
mod repair;
mod reply;
pub mod sandbox;
mod session_thread;
mod transfer;

pub use process::{SocketError, run, socket_from_stdin};

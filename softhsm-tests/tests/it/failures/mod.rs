//! What goes wrong, and how the gateway says so and goes on.

mod disk;
mod members;
mod requests;
mod transport;

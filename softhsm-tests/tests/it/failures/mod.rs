//! What goes wrong, and how the gateway says so and goes on.

mod deadlines;
mod disk;
mod lost_replies;
mod members;
mod requests;
mod transport;

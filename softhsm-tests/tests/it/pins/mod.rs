//! Where PINs come from, and how they change.

mod change;
mod sources;

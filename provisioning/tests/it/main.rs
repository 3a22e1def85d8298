//! The crate from outside: published vectors, and every refusal by its name.

mod chain;
mod people;
mod properties;
mod vectors;

//! Tests of the gateway as a library.

mod formats;
mod vectors;

//! Import, export, ephemeral keys and objects.

mod by_worker;
mod ephemeral;
mod exporting;
mod importing;
mod objects;
mod vectors;

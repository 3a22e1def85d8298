//! Import, export, ephemeral keys and objects.

mod by_worker;

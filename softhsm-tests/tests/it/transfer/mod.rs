//! Import, export, ephemeral keys and objects.

pub(crate) mod by_worker;
mod cipher_vectors;
mod ephemeral;
mod ephemeral_counts;
mod exporting;
mod import_jobs;
mod importing;
mod late;
mod objects;
mod signature_vectors;
mod vectors;
mod wrapping_vectors;

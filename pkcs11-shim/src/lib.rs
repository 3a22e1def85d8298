//! `libportcullis_pkcs11.so`: a PKCS#11 module whose tokens are the key rings of a Portcullis gateway.
//!
//! Programs that know PKCS#11 use the cluster's keys by it without knowing of the gateway. The module answers from itself what it can:
//! sessions, what is active in them, digests, verification, encryption to public keys, lengths, attributes. An `Init` asks nobody, so a
//! signature is one round trip.
//!
//! - `abi`: the C surface. Pointers are followed there and nowhere else.
//! - `library`: the module's state in a process, and in a forked child.
//! - `config`, `log`: the file that says where the gateway is; messages for people.
//! - `token`, `session`: what is in the slots, and who looks at it. `catalogue`: what a ring holds, fetched in bulk.
//! - `object`, `key`, `template`: objects, their attributes, and what callers ask for. `creation`: what callers bring. `storage`: what
//!   they generate, rename and destroy.
//! - `mechanism`: what is carried. `abilities`: what of it the cluster has. `operation`: what is done with keys. `software`: what needs no secret.
//! - `output`: results of variable length. `error`: return codes, and the table of the gateway's reasons.
//! - `fuzzing`: what fuzz targets call.
//! - `gateway`: connections, each driven by the thread that calls. There are no other threads.

#![deny(unsafe_op_in_unsafe_fn)]

#[allow(unsafe_code)]
mod abi;
#[forbid(unsafe_code)]
mod abilities;
#[forbid(unsafe_code)]
mod catalogue;
#[forbid(unsafe_code)]
pub mod config;
#[forbid(unsafe_code)]
mod creation;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod fuzzing;
#[forbid(unsafe_code)]
pub mod gateway;
#[forbid(unsafe_code)]
mod key;
#[forbid(unsafe_code)]
mod library;
#[forbid(unsafe_code)]
pub mod log;
#[forbid(unsafe_code)]
mod mechanism;
#[forbid(unsafe_code)]
mod object;
#[forbid(unsafe_code)]
mod operation;
#[forbid(unsafe_code)]
mod output;
#[forbid(unsafe_code)]
mod session;
#[forbid(unsafe_code)]
mod software;
#[forbid(unsafe_code)]
mod storage;
#[forbid(unsafe_code)]
mod template;
#[forbid(unsafe_code)]
mod token;

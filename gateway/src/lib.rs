//! The Portcullis server.
//!
//! The way of a request, from the socket to the HSM and back:
//!
//! - [`listener`]: accepts connections, finishes TLS, and gives each a [`identity::Principal`].
//! - [`api`]: the gRPC services. Each call is begun, authorised, carried out and concluded in one place, which writes the
//!   audit entry before the reply leaves.
//! - [`policy`]: whether a principal may do something.
//! - [`keys`]: what keys are: names, purposes, states, records, and the directory that keeps verified records in memory.
//! - [`crypto`]: what needs no HSM: digests, verification, the ciphertext format.
//! - [`cluster`]: the session manager: a deterministic core that decides where an operation runs, and a shell that keeps
//!   the workers and carries the decisions out.
//! - [`store`]: where keys are kept; an interface, and SQLite behind it.
//! - [`audit`]: the hash-chained log of decisions and outcomes.
//! - [`backup`]: copies of the store in one file each: made, checked, restored.
//! - [`config`]: the typed configuration.
//! - [`provisioning`]: the record, signed by custodians, on which a production gateway starts.
//! - [`pin`]: where the members' PINs come from.
//! - [`quota`]: what one principal may ask for.
//! - [`reload`]: new settings, certificates and PINs without a restart.
//! - [`housekeeping`]: what the gateway does by itself: destructions, use counts, clearing up.
//! - [`telemetry`]: traces and metrics, for those who run the gateway.
//! - [`server`]: puts it together, serves, and shuts down.
//! - [`service_manager`]: tells systemd how the gateway is.
//! - [`dev`]: makes a development cluster of SoftHSM2 members.

#![forbid(unsafe_code)]

pub mod api;
pub mod audit;
pub mod backup;
pub mod cluster;
pub mod config;
pub mod crypto;
pub mod dev;
pub mod housekeeping;
pub mod identity;
pub mod keys;
pub mod listener;
pub mod pin;
pub mod policy;
pub mod provisioning;
pub mod quota;
pub mod reload;
pub mod server;
pub mod service_manager;
pub mod store;
pub mod telemetry;

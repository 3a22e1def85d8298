//! What the suites in `tests/` need: real clusters of SoftHSM2 tokens, real `portcullisd` processes, real tools.
//!
//! - [`TestCluster`] (`cluster`) is a directory with a development cluster: tokens, configuration, certificates. Each test
//!   has its own, copied from one that `portcullisd dev --prepare-only` made.
//! - [`Gateway`] (`gateway`) is a running `portcullisd serve`, with its workers (`worker`), which a test may kill.
//! - [`FaultyModule`] (`faulty`) is a member's PKCS#11 module that does what a test's rules say: SoftHSM2 is behind it.
//! - [`Authority`] (`identity`) issues certificates, good ones and wrong ones.
//! - [`KeySpec`] and the functions beside it (`calls`) create and use keys; `signature` checks what they sign without any
//!   code of the gateway; `refusal` checks how the gateway says no.
//! - [`Material`] (`material`) is a key made outside of any HSM, with key wrapping that no code of the gateway does.
//! - [`Wire`] (`wire`) speaks gRPC with bytes instead of messages, for requests that no client sends.
//! - [`Http2`] (`http2`) begins requests and does not end them, and hears nothing.
//! - [`Database`] (`database`) and [`AuditLog`] (`audit`) read the gateway's files, and change the former.
//! - [`Collector`] (`collector`) receives traces and metrics by OTLP; [`Scrape`] (`scrape`) reads metrics as Prometheus does.
//! - [`drill`] is load with faults: callers whose every result is checked while members and gateways fail.
//! - [`Custodians`] (`custody`) sign provisioning records.
//! - [`Adversary`] (`adversary`) runs the program `adversary`, which attacks a member by PKCS#11 alone.
//! - [`Shim`] (`shim`) is the PKCS#11 module with a configuration, and the programs that load it.
//! - [`Kryoptic`] (`kryoptic`) makes clusters of another kind of token.
//! - [`Held`] (`process`) is what a process holds; `program` finds and runs programs, and waits for conditions.
//!
//! Functions here panic with a full message instead of returning errors: each failure is a failed test. What they start
//! they end, also when a test panics.

#![forbid(unsafe_code)]

mod adversary;
mod audit;
mod calls;
mod cluster;
mod collector;
mod custody;
mod database;
pub mod drill;
mod faulty;
mod gateway;
mod http2;
mod identity;
mod kryoptic;
mod material;
mod process;
mod program;
mod refusal;
mod scrape;
mod shim;
mod signature;
mod transfers;
mod wire;
mod worker;

pub use adversary::{Adversary, Attempt, Control, Decrypted, ForbiddenReport};
pub use audit::AuditLog;
pub use calls::{
    KeySpec, crc32c, create_key, create_ring, decrypt, digest_request, encrypt, encrypt_request, key_request,
    message_request, public_key, sign,
};
pub use cluster::{MEMBERS, TestCluster};
pub use collector::{Collector, ReceivedSpan};
pub use custody::Custodians;
pub use database::Database;
pub use faulty::{FaultyModule, Placed};
pub use gateway::{Ended, Gateway, Launch};
pub use http2::{Begun, Http2, framed, tls};
pub use identity::{Authority, Identity, Wish};
pub use kryoptic::Kryoptic;
pub use material::{Material, OaepHash, kw_unwrap, kwp_unwrap, kwp_wrap, rsa_aes_unwrap, rsa_aes_wrap};
pub use portcullis_faulty_module::{
    Counts, Crash, DIRECTORY_VARIABLE as FAULTY_MODULE_DIRECTORY, Fault, Function, Place, Rule,
};
pub use process::Held;
pub use program::{
    LONG, Output, PORTCULLIS, SHORT, find_tool, openssl, run, run_with_input, temporary_directory, wait_until,
    workspace_binary,
};
pub use refusal::{Refusal, refusal};
pub use scrape::Scrape;
pub use shim::Shim;
pub use signature::{openssl_accepts, verifies};
pub use transfers::{
    clear_import, create_ephemeral_key, create_import_job, create_key_for_import, create_recipient, import, job_import,
    shared_key_import,
};
pub use wire::Wire;
pub use worker::{interrupt, is_running};

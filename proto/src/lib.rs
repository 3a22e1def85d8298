//! The `portcullis.v1` API: generated messages, clients and servers, and the descriptor set for reflection.
//!
//! The `.proto` files under `proto/proto/portcullis/v1` are the reference for client authors; nothing here adds to
//! them. Messages have no `Debug`: they carry plaintexts, signatures and shares, which must not reach a log.

#![forbid(unsafe_code)]

mod codec;

pub use codec::{BoundedCodec, MOST_FIELDS, decode};

/// The messages and services of package `portcullis.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("portcullis.v1");
}

/// The serialised `google.protobuf.FileDescriptorSet` of the API.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/portcullis.v1.binpb"));

/// The `domain` of every `google.rpc.ErrorInfo` that the gateway sends.
pub const ERROR_DOMAIN: &str = "portcullis.v1";

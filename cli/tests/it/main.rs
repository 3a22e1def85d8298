//! The program `portcullis`, run against a small gRPC server on a Unix socket.

mod commands;
mod gateway;
mod program;

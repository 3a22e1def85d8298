//! The client against real TLS and Unix sockets.

mod authority;
mod connections;
mod gateway;

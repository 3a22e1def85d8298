//! Suites on real SoftHSM2 tokens behind real `portcullisd` processes.

#![forbid(unsafe_code)]

mod audit;
mod configuration;
mod confusion;
mod durability;
mod failover;
mod failures;
mod forbidden;
mod operations;

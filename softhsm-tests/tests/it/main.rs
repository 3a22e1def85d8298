//! Suites on real SoftHSM2 tokens behind real `portcullisd` processes.

#![forbid(unsafe_code)]

mod audit;
mod audit_of_changes;
mod bench;
mod canaries;
mod ceremonies;
mod client;
mod command_line;
mod configuration;
mod confusion;
mod durability;
mod examples;
mod failover;
mod failures;
mod faults;
mod files;
mod forbidden;
mod identity;
mod known_answers;
mod lifecycle;
mod limits;
mod operations;
mod operations_page;
mod pins;
mod policy;
mod provisioning;
mod readme;
mod recipes;
mod review;
mod running;
mod second_hsm;
mod shim;
mod shutdown;
mod table;
mod telemetry;
mod transfer;
mod worker;

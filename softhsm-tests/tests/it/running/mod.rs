//! Running it for years: rotation, backups, upgrades, broken disks, service managers.

mod backup;
mod database;
mod hardening;
mod held;
mod numbers;
mod restore;
mod rotation;
mod service;
mod upgrade;

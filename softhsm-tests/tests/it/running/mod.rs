//! Running it for years: rotation, backups, upgrades, broken disks, service managers.

mod database;
mod rotation;
mod upgrade;

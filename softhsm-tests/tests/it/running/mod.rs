//! Running it for years: rotation, backups, upgrades, broken disks, service managers.

mod rotation;

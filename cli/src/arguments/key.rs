//! `portcullis key`.

use super::change::CreationArguments;
use crate::{
    name::{KeyName, KeyTarget, RingName},
    output::Destination,
    uses::Purpose,
    words,
};
use clap::{Args, Subcommand};
use portcullis_client::v1::{KeyProtection, KeyType, Mechanism, PublicKeyFormat};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Generate a key inside an HSM
    Create(Box<CreateKeyArguments>),
    /// List the keys of a ring
    List {
        /// RING
        ring: RingName,
    },
    /// Show a key, or one of its versions
    Show {
        /// RING/KEY or RING/KEY/VERSION
        key: KeyTarget,
    },
    /// Get the public half of a key
    Public(PublicArguments),
}

#[derive(Args)]
pub(crate) struct CreateKeyArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    /// What the key is
    #[arg(long = "type", value_name = "TYPE", value_parser = words::parser::<KeyType>())]
    pub(crate) key_type: KeyType,
    /// What the key is for [default: what its type is usually for]
    #[arg(long, value_enum)]
    pub(crate) purpose: Option<Purpose>,
    /// How the key may be used, and in no other way; may be repeated
    #[arg(long = "mechanism", value_name = "MECHANISM", value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanisms: Vec<Mechanism>,
    /// Whether every member can serve the key, or the one that holds it [default: wrapped]
    #[arg(long, value_parser = words::parser::<KeyProtection>())]
    pub(crate) protection: Option<KeyProtection>,
    /// Accept that a resident key lives on one member and is unavailable while that member is
    #[arg(long)]
    pub(crate) allow_single_replica: bool,
    /// The member that shall hold a resident key [default: any that is ready]
    #[arg(long)]
    pub(crate) member: Option<String>,
    /// Allow the key to be wrapped out under another HSM key
    #[arg(long)]
    pub(crate) exportable: bool,
    #[command(flatten)]
    pub(crate) creation: CreationArguments,
}

#[derive(Args)]
pub(crate) struct PublicArguments {
    /// RING/KEY or RING/KEY/VERSION
    pub(crate) key: KeyTarget,
    /// How the public key is encoded
    #[arg(long, default_value = "pem", value_parser = words::parser::<PublicKeyFormat>())]
    pub(crate) format: PublicKeyFormat,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

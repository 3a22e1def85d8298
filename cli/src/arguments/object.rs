//! `portcullis object`.

use super::change::{ChangeArguments, UpdateArguments};
use crate::{
    input::Source,
    message::HexBytes,
    name::{InRing, KeyTarget, Object, RingName},
    output::Destination,
};
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum ObjectCommand {
    /// Store a certificate or data beside the keys of a ring
    Create {
        /// RING/OBJECT
        object: InRing<Object>,
        #[command(flatten)]
        content: ContentArguments,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Get an object; with --out its certificate, in PEM with its chain, or its data
    Get {
        /// RING/OBJECT
        object: InRing<Object>,
        /// Where to write what it holds [default: show what is known about it]
        #[arg(long, value_name = "FILE")]
        out: Option<Destination>,
    },
    /// List the objects of a ring
    List {
        /// RING
        ring: RingName,
        /// Only these: kind=certificate, kind=data, label=HEX, object_id=HEX, key=NAME, application=TEXT, joined by AND
        #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
        filter: String,
    },
    /// Change what an object holds or how it is found; what is not given stays
    Update {
        /// RING/OBJECT
        object: InRing<Object>,
        #[command(flatten)]
        content: ContentArguments,
        #[command(flatten)]
        update: UpdateArguments,
    },
    /// Delete an object
    Delete {
        /// RING/OBJECT
        object: InRing<Object>,
        #[command(flatten)]
        update: UpdateArguments,
    },
}

/// What an object holds.
#[derive(Args)]
pub(crate) struct ContentArguments {
    /// An X.509 certificate, in PEM or DER; further certificates in a PEM file are its chain
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) certificate: Option<Source>,
    /// Data of any kind
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<Source>,
    /// With --data: the application that it is for (CKA_APPLICATION)
    #[arg(long, value_name = "TEXT", requires = "data")]
    pub(crate) application: Option<String>,
    /// With --data: its object identifier in DER, in hexadecimal (CKA_OBJECT_ID)
    #[arg(long, value_name = "HEX", requires = "data")]
    pub(crate) oid: Option<HexBytes>,
    /// How programs show it (CKA_LABEL)
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// By what programs find it, in hexadecimal (CKA_ID)
    #[arg(long, value_name = "HEX")]
    pub(crate) object_id: Option<HexBytes>,
    /// The key or version of the same ring whose certificate it is
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<KeyTarget>,
}

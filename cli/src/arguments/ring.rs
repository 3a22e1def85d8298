//! `portcullis ring`.

use super::{
    change::{CreationArguments, LabelArguments, UpdateArguments},
    value::period,
};
use crate::name::RingName;
use clap::Subcommand;
use std::time::Duration;

#[derive(Subcommand)]
pub(crate) enum RingCommand {
    /// Create an empty key ring
    Create {
        /// RING
        ring: RingName,
        /// The least time between the scheduling of a destruction in this ring and the destruction, as in 30d
        /// [default: the gateway's]
        #[arg(long, value_name = "TIME", value_parser = period)]
        least_destroy_window: Option<Duration>,
        #[command(flatten)]
        creation: CreationArguments,
    },
    /// List the key rings that you may see
    List,
    /// Show a key ring
    Show {
        /// RING
        ring: RingName,
    },
    /// Change the labels of a key ring
    Update {
        /// RING
        ring: RingName,
        #[command(flatten)]
        labels: LabelArguments,
        #[command(flatten)]
        update: UpdateArguments,
    },
    /// Print the public halves of the ring's verification keys as a JWK set (RFC 7517)
    Jwks {
        /// RING
        ring: RingName,
    },
}

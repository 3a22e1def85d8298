//! `portcullis ephemeral`.

use super::{key::UseArguments, value::period};
use crate::{input::Source, name::RingName, output::Destination, words};
use clap::Subcommand;
use portcullis_client::v1::KeyType;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

#[derive(Subcommand)]
pub(crate) enum EphemeralCommand {
    /// Generate a key that is not stored: its token, which only you can use, is written to a file, and named token:FILE
    Create {
        /// RING, whose policy decides about the key's use
        ring: RingName,
        /// What the key is
        #[arg(long = "type", value_name = "TYPE", value_parser = words::parser::<KeyType>())]
        key_type: KeyType,
        #[command(flatten)]
        uses: UseArguments,
        /// How long it is good, at most a day [default: 1h]
        #[arg(long, value_name = "TIME", value_parser = period)]
        lifetime: Option<Duration>,
        /// Where to write the token
        #[arg(long, value_name = "FILE")]
        out: Destination,
        /// Where to write the public key, in PEM
        #[arg(long, value_name = "FILE")]
        public_out: Option<Destination>,
    },
    /// Replace a token by one that is good for longer
    Renew {
        /// The token
        #[arg(long = "in", value_name = "FILE")]
        input: Source,
        /// How long it is good from now, at most a day [default: 1h]
        #[arg(long, value_name = "TIME", value_parser = period)]
        lifetime: Option<Duration>,
        /// Where to write the new token; may be the same file
        #[arg(long, value_name = "FILE")]
        out: Destination,
    },
    /// Revoke all ephemeral keys that a principal has made in a ring
    Revoke {
        /// RING
        ring: RingName,
        /// Whose keys, as the audit log names them
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// Only keys made before this time, as in 2026-11-22T09:00:00Z [default: now]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak)]
        not_before: Option<SystemTime>,
        /// Repeating it with the id of the first try does nothing twice [default: new]
        #[arg(long, value_name = "UUID")]
        request_id: Option<Uuid>,
    },
}

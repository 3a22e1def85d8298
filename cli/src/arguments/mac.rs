//! `portcullis mac`.

use crate::{input::Source, name::KeyReference, output::Destination, words};
use clap::{Args, Subcommand};
use portcullis_client::v1::Mechanism;

#[derive(Subcommand)]
pub(crate) enum MacCommand {
    /// Make the authentication code of up to 1 MiB, inside an HSM
    Sign(MacSignArguments),
    /// Check an authentication code inside an HSM: exit code 0 if it is valid, 1 if it is not
    Verify(MacVerifyArguments),
}

/// What is authenticated, and how.
#[derive(Args)]
pub(crate) struct MacMessageArguments {
    /// RING/KEY, RING/KEY/VERSION, RING/@ALIAS, or token:FILE for an ephemeral key
    pub(crate) key: KeyReference,
    /// The message
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Source,
    /// How it is authenticated; may be left out where the key has one way
    #[arg(long, value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanism: Option<Mechanism>,
}

#[derive(Args)]
pub(crate) struct MacSignArguments {
    #[command(flatten)]
    pub(crate) message: MacMessageArguments,
    /// Where to write the code [default: standard output; base64 if that is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

#[derive(Args)]
pub(crate) struct MacVerifyArguments {
    #[command(flatten)]
    pub(crate) message: MacMessageArguments,
    /// The code, as bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) mac: Source,
}

//! `portcullis random`.

use crate::output::Destination;
use clap::Args;

#[derive(Args)]
pub(crate) struct RandomArguments {
    /// How many bytes
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) length: u32,
    /// Write hexadecimal text
    #[arg(long, conflicts_with = "base64")]
    pub(crate) hex: bool,
    /// Write base64 text
    #[arg(long)]
    pub(crate) base64: bool,
    /// Where to write them [default: standard output; base64 if that is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

//! `portcullis sign` and `portcullis verify`.

use crate::{input::Source, message::HexDigest, name::KeyReference, output::Destination, words};
use clap::Args;
use portcullis_client::v1::{Mechanism, SignatureEncoding};

/// What is signed or verified.
#[derive(Args)]
pub(crate) struct MessageArguments {
    /// The message, of any length
    #[arg(long = "in", value_name = "FILE", required_unless_present = "digest")]
    pub(crate) input: Option<Source>,
    /// The message's digest, in hexadecimal, instead of the message
    #[arg(long, value_name = "HEX", conflicts_with_all = ["input", "raw_digest"])]
    pub(crate) digest: Option<HexDigest>,
    /// The file holds the message's digest, as bytes
    #[arg(long)]
    pub(crate) raw_digest: bool,
    /// How to sign; may be left out where the key has one way
    #[arg(long, value_parser = words::parser::<Mechanism>())]
    pub(crate) mechanism: Option<Mechanism>,
    /// How an ECDSA signature is encoded [default: der]
    #[arg(long, value_parser = words::parser::<SignatureEncoding>())]
    pub(crate) encoding: Option<SignatureEncoding>,
}

#[derive(Args)]
pub(crate) struct SignArguments {
    /// RING/KEY, RING/KEY/VERSION, RING/@ALIAS, or token:FILE for an ephemeral key
    pub(crate) key: KeyReference,
    #[command(flatten)]
    pub(crate) message: MessageArguments,
    /// Where to write the signature [default: standard output; base64 if that is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<Destination>,
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// RING/KEY, RING/KEY/VERSION, RING/@ALIAS, or token:FILE for an ephemeral key
    pub(crate) key: KeyReference,
    #[command(flatten)]
    pub(crate) message: MessageArguments,
    /// The signature, as bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Source,
}

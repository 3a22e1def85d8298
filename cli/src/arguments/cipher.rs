//! `portcullis encrypt` and `portcullis decrypt`.

use super::value::Pair;
use crate::{failure::Failure, input::Source, name::KeyTarget, output::Destination};
use clap::Args;
use std::collections::BTreeMap;

#[derive(Args)]
pub(crate) struct CipherArguments {
    /// RING/KEY or RING/KEY/VERSION
    pub(crate) key: KeyTarget,
    /// What to read
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Source,
    /// Where to write; a file gets mode 0600 and is written whole or not at all
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Destination,
    /// Text that is authenticated with the ciphertext and must be repeated to decrypt
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["aad_file", "context"])]
    pub(crate) aad: Option<String>,
    /// A file that is authenticated with the ciphertext and must be repeated to decrypt
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    pub(crate) aad_file: Option<Source>,
    /// A named value that is authenticated with the ciphertext and must be repeated to decrypt; may be repeated; is
    /// logged, so not for secrets
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<Pair>,
}

impl CipherArguments {
    pub(crate) fn context(&self) -> Result<BTreeMap<String, String>, Failure> {
        Pair::map(&self.context)
    }
}

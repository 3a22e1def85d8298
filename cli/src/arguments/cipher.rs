//! `portcullis encrypt`, `portcullis decrypt` and `portcullis reencrypt`.

use super::value::Pair;
use crate::{
    failure::Failure,
    input::Source,
    name::{KeyName, KeyTarget},
    output::Destination,
};
use clap::Args;
use std::{collections::BTreeMap, path::PathBuf};

#[derive(Args)]
pub(crate) struct EncryptArguments {
    #[command(flatten)]
    pub(crate) cipher: CipherArguments,
    /// Have the gateway encrypt the data itself, at most 1 MiB, for programs that decrypt with the API's Decrypt
    ///
    /// Otherwise a data key of its own encrypts the data here, and the gateway encrypts that: data can be of any size,
    /// `portcullis reencrypt` need not touch it, and it takes the permission for data keys.
    #[arg(long)]
    pub(crate) direct: bool,
}

#[derive(Args)]
pub(crate) struct CipherArguments {
    /// RING/KEY, RING/KEY/VERSION or RING/@ALIAS
    pub(crate) key: KeyTarget,
    /// What to read
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Source,
    /// Where to write; a file gets mode 0600 and is written whole or not at all
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Destination,
    #[command(flatten)]
    pub(crate) authenticated: AuthenticatedArguments,
}

#[derive(Args)]
pub(crate) struct ReencryptArguments {
    /// RING/KEY
    pub(crate) key: KeyName,
    /// Files, and directories with all that is in them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Encrypt the data itself anew too, under a data key of its own
    ///
    /// Otherwise the data key is put under the primary version, and the data is copied as it is.
    #[arg(long)]
    pub(crate) data: bool,
    #[command(flatten)]
    pub(crate) authenticated: AuthenticatedArguments,
}

/// What is authenticated with encrypted data.
#[derive(Args)]
pub(crate) struct AuthenticatedArguments {
    /// Text that is authenticated with the data and must be repeated to decrypt
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["aad_file", "encryption_context"])]
    pub(crate) aad: Option<String>,
    /// A file that is authenticated with the data and must be repeated to decrypt
    #[arg(long, value_name = "FILE", conflicts_with = "encryption_context")]
    pub(crate) aad_file: Option<Source>,
    /// A named value that is authenticated with the data and must be repeated to decrypt; may be repeated; is
    /// logged, so not for secrets
    #[arg(long, value_name = "NAME=VALUE")]
    encryption_context: Vec<Pair>,
}

impl AuthenticatedArguments {
    pub(crate) fn encryption_context(&self) -> Result<BTreeMap<String, String>, Failure> {
        Pair::map(&self.encryption_context)
    }
}

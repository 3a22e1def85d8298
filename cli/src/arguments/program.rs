//! What needs no gateway: `portcullis completion`, `man`, and what portcullisd does on the gateway's host.

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use std::{ffi::OsString, path::PathBuf};

#[derive(Args)]
pub(crate) struct CompletionArguments {
    /// For which shell
    #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>()))]
    pub(crate) shell: Shell,
}

#[derive(Args)]
pub(crate) struct ManArguments {
    /// The directory, which is made if it is not there
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// Arguments that another program reads.
#[derive(Args)]
pub(crate) struct HandedOnArguments {
    /// As `portcullisd` takes them; `--help` among them shows its own
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

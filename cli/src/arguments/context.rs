//! `portcullis context`.

use crate::context::ContextName;
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum ContextCommand {
    /// List the contexts
    List,
    /// Show what commands use, and where each value comes from
    Show,
    /// Create or change a context: it gets what is given by --endpoint, --cert, --key-file and --ca
    Set(SetContextArguments),
    /// Use a context where none is named
    Use {
        /// NAME
        name: ContextName,
    },
    /// Remove a context
    Remove {
        /// NAME
        name: ContextName,
    },
}

#[derive(Args)]
pub(crate) struct SetContextArguments {
    /// NAME
    pub(crate) name: ContextName,
    /// Use it where none is named
    #[arg(long = "use")]
    pub(crate) make_current: bool,
}

//! `portcullis alias`.

use super::change::{ChangeArguments, UpdateArguments};
use crate::name::{Alias, InRing, KeyTarget, RingName};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum AliasCommand {
    /// Create a name that stands for a key or version of its ring, and is then written RING/@ALIAS
    Create {
        /// RING/ALIAS
        alias: InRing<Alias>,
        /// What it stands for: RING/KEY or RING/KEY/VERSION
        target: KeyTarget,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Point an alias elsewhere
    Update {
        /// RING/ALIAS
        alias: InRing<Alias>,
        /// What it stands for from now on: RING/KEY or RING/KEY/VERSION
        target: KeyTarget,
        #[command(flatten)]
        update: UpdateArguments,
    },
    /// Take an alias away; what it stands for stays
    Delete {
        /// RING/ALIAS
        alias: InRing<Alias>,
        #[command(flatten)]
        update: UpdateArguments,
    },
    /// List the aliases of a ring
    List {
        /// RING
        ring: RingName,
    },
}

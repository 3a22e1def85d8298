//! `portcullis ring`.

use super::change::CreationArguments;
use crate::name::RingName;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum RingCommand {
    /// Create an empty key ring
    Create {
        /// RING
        ring: RingName,
        #[command(flatten)]
        creation: CreationArguments,
    },
    /// List the key rings that you may see
    List,
}

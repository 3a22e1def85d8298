//! What commands take that change something.

use super::value::Pair;
use crate::failure::Failure;
use clap::Args;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What all creations have.
#[derive(Args)]
pub(crate) struct CreationArguments {
    /// A label of your choice; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Pair>,
    /// Repeating a creation with the id of the first try has the same answer and creates nothing twice [default: new]
    #[arg(long, value_name = "UUID")]
    pub(crate) request_id: Option<Uuid>,
    /// Check everything and create nothing
    #[arg(long)]
    pub(crate) validate_only: bool,
}

impl CreationArguments {
    pub(crate) fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        Pair::map(&self.labels)
    }
}

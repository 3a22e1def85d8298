//! What commands take that change something.

use super::value::Pair;
use crate::failure::Failure;
use clap::Args;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What all changes have.
#[derive(Args)]
pub(crate) struct ChangeArguments {
    /// Repeating a change with the id of the first try has the same answer and does nothing twice [default: new]
    #[arg(long, value_name = "UUID")]
    pub(crate) request_id: Option<Uuid>,
    /// Check everything and change nothing
    #[arg(long)]
    pub(crate) validate_only: bool,
}

/// What all creations of things with labels have.
#[derive(Args)]
pub(crate) struct CreationArguments {
    /// A label of your choice; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Pair>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

impl CreationArguments {
    pub(crate) fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        Pair::map(&self.labels)
    }
}

/// What all changes of something that is there already have.
#[derive(Args)]
pub(crate) struct UpdateArguments {
    /// Refuse if it changed since this etag was read [default: change it whatever it is]
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(crate) etag: String,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// Changes of labels.
#[derive(Args)]
pub(crate) struct LabelArguments {
    /// Set a label; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    set: Vec<Pair>,
    /// Take a label away; may be repeated
    #[arg(long = "remove-label", value_name = "NAME")]
    removed: Vec<String>,
}

impl LabelArguments {
    /// The new values, and the paths of an update mask that names each label which is set or taken away.
    pub(crate) fn changes(&self) -> Result<(BTreeMap<String, String>, Vec<String>), Failure> {
        let set = Pair::map(&self.set)?;
        if let Some(name) = self.removed.iter().find(|name| set.contains_key(*name)) {
            return Err(Failure::Usage(format!("{name} is set and taken away")));
        }
        let named = set.keys().chain(&self.removed);
        let paths = named.map(|name| format!("labels.{name}")).collect();
        Ok((set, paths))
    }
}

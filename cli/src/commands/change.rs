//! A change: it is asked for once, also where it is asked for twice.

use crate::{
    arguments::{ChangeArguments, UpdateArguments},
    console::Console,
    failure::Failure,
};
use portcullis_client::Status;
use prost_types::FieldMask;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    id: Uuid,
    pub(crate) validate_only: bool,
    /// Empty where it does not matter what is changed.
    pub(crate) etag: String,
}

impl Change {
    pub(crate) fn new(request_id: Option<Uuid>) -> Self {
        Self {
            id: request_id.unwrap_or_else(Uuid::now_v7),
            validate_only: false,
            etag: String::new(),
        }
    }

    /// The id that makes it one change.
    pub(crate) fn request_id(&self) -> String {
        self.id.to_string()
    }

    /// Its failure, after which it can be repeated by its id.
    pub(crate) fn failed(&self) -> impl FnOnce(Status) -> Failure + use<> {
        let id = self.id;
        move |status| Failure::Gateway {
            error: Box::new(status.into()),
            repeatable: Some(id),
        }
    }

    /// What to say of it.
    pub(crate) fn outcome(&self, done: impl FnOnce() -> String) -> String {
        if self.validate_only {
            "this can be done; nothing was".to_owned()
        } else {
            done()
        }
    }

    /// Says that something is deleted, of which nothing is left to show.
    pub(crate) fn told_deleted(&self, console: Console, name: &str) -> Result<(), Failure> {
        let text = self.outcome(|| format!("deleted {name}"));
        console.result(&text, &json!({ "name": name, "deleted": !self.validate_only }))
    }
}

impl From<&ChangeArguments> for Change {
    fn from(arguments: &ChangeArguments) -> Self {
        Self {
            validate_only: arguments.validate_only,
            ..Self::new(arguments.request_id)
        }
    }
}

impl From<&UpdateArguments> for Change {
    fn from(arguments: &UpdateArguments) -> Self {
        Self {
            etag: arguments.etag.clone(),
            ..Self::from(&arguments.change)
        }
    }
}

/// The fields that an update changes.
pub(crate) fn mask(paths: Vec<String>) -> Result<Option<FieldMask>, Failure> {
    if paths.is_empty() {
        return Err(Failure::Usage("there is nothing to change: see --help".to_owned()));
    }
    Ok(Some(FieldMask { paths }))
}

/// A time as the API has it.
pub(crate) fn period(period: Duration) -> prost_types::Duration {
    prost_types::Duration {
        // No time on the command line has more seconds.
        seconds: i64::try_from(period.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

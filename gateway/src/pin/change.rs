//! Changing the PIN of a member's token.

use super::{Pin, read_file};
use crate::{
    cluster::worker::{RequestError, Worker},
    config::{MemberSettings, check_secret_file},
};
use portcullis_hsm::worker::protocol::{ChangePin, Empty, Opened, ReplyBody, RequestBody};
use std::{io, path::Path, time::Duration};
use tokio::time::timeout;

/// Why a PIN was not changed, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No worker could be started.
    #[error("the worker of member {0} cannot be started: {1}")]
    Start(String, io::Error),
    /// The token refused it.
    #[error(
        "the PIN of member {member} was not changed: {reason}. The old PIN is read from {place} and was tried once"
    )]
    Refused {
        /// The member.
        member: String,
        /// Why.
        reason: String,
        /// Where the old PIN is.
        place: String,
    },
    /// No answer came.
    #[error(
        "whether the PIN of member {0} was changed is not known: {1}. Find out which PIN the token takes before you try again; \
         tokens lock after a few wrong ones"
    )]
    Unknown(String, String),
}

/// Reads a new PIN from a file that its owner alone may read.
pub fn new_pin_in(path: &Path) -> Result<Pin, String> {
    check_secret_file(path)?;
    read_file(path).map_err(|reason| format!("{}: {reason}", path.display()))
}

/// Changes the user PIN of a member's token (`C_SetPIN`), in a worker process of its own. The old PIN is tried once.
pub async fn change(member: &MemberSettings, old: &Pin, new: &Pin) -> Result<Opened, ChangeError> {
    let name = || member.name.clone();
    let worker = Worker::spawn(&member.name, &member.environment, &member.write_only_in, |_| {})
        .map_err(|error| ChangeError::Start(name(), error))?;
    let request = RequestBody::ChangePin(ChangePin {
        module: member.module.display().to_string(),
        token_label: member.token.label.clone(),
        token_serial_number: member.token.serial_number.clone(),
        old_pin: old.expose().to_vec(),
        new_pin: new.expose().to_vec(),
    });
    let unknown = |reason: String| ChangeError::Unknown(name(), reason);
    let reply = match timeout(PATIENCE, worker.request(request, None)).await {
        Err(_) => return Err(unknown(format!("its token did not answer within {PATIENCE:?}"))),
        Ok(Err(error @ RequestError::Gone)) => return Err(unknown(error.to_string())),
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Ok(Ok(reply)) => reply,
    };
    let changed = match reply {
        ReplyBody::Opened(token) => Ok(token),
        ReplyBody::Failure(failure) => Err(ChangeError::Refused {
            member: name(),
            reason: failure.message,
            place: member.pin.to_string(),
        }),
        _ => Err(unknown("its worker answered out of turn".to_owned())),
    };
    // So that the library may end in order.
    let _ = timeout(PATIENCE, worker.request(RequestBody::Stop(Empty {}), None)).await;
    changed
}

const PATIENCE: Duration = Duration::from_secs(60);

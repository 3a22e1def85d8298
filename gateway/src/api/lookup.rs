//! Finding the key that a call names, without telling those who may not know whether it exists.

use super::{ApiError, call::Call};
use crate::{
    keys::{
        directory::{DirectoryError, KeyRecord},
        name::KeyName,
    },
    policy::{Action, Resource},
};
use std::sync::Arc;

/// The record of the key that a call is about. The call must still be authorised, with the key's facts.
///
/// A caller whom no rule could ever allow the call's action is refused before anything is looked up. That a key does not
/// exist, or that its record is not authentic, is told only to those who may read the ring's keys or may do the call's action
/// on the whole ring; others are refused in the same words as if it existed.
pub(super) async fn find_key(call: &mut Call, name: &KeyName) -> Result<Arc<KeyRecord>, ApiError> {
    call.concerns(name.to_string());
    find(call, call.action(), name).await
}

/// The record of the second key of a call that does two things, in the same way. The second action must still be authorised.
pub(super) async fn find_second_key(call: &Call, action: Action, name: &KeyName) -> Result<Arc<KeyRecord>, ApiError> {
    find(call, action, name).await
}

async fn find(call: &Call, action: Action, name: &KeyName) -> Result<Arc<KeyRecord>, ApiError> {
    call.require_chance(action, &name.to_string())?;
    let directory = Arc::clone(&call.gateway().directory);
    match directory.key(name, call.deadline()).await {
        Ok(record) => Ok(record),
        Err(error @ (DirectoryError::NoKey(_) | DirectoryError::NoRing(_) | DirectoryError::NotAuthentic { .. })) => {
            let ring = Resource::KeyRing(&name.ring);
            if call.may(Action::ReadKey, ring) || call.may(action, ring) {
                Err(error.into())
            } else {
                Err(call.denial(action, &name.to_string()))
            }
        }
        Err(error) => Err(error.into()),
    }
}

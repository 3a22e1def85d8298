//! The members' PINs: read anew for each worker, never tried twice when the token refused them, and looked at again when a
//! person has changed them.

use super::{
    core::{Epoch, Event, MemberIndex, MemberState, MemberStatus, Trouble, WorkerState, WorkerStatus},
    shell::{Cluster, MemberSlot, lock},
};
use crate::pin::{Pin, PinDigest, PinError, PinSource, RefusedPins};
use portcullis_hsm::{
    return_code::ReturnCode,
    worker::protocol::{FailureKind, ReplyBody},
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// What is remembered of a member's PINs.
#[derive(Debug, Default)]
pub(super) struct MemberPins {
    refused: RefusedPins,
    // With which each worker was started that lives, and the last one.
    used: BTreeMap<Epoch, PinDigest>,
}

impl MemberPins {
    /// A worker has ended. What the last one was started with stays known.
    pub(super) fn forget(&mut self, epoch: Epoch) {
        if self.used.last_key_value().is_some_and(|(last, _)| *last != epoch) {
            self.used.remove(&epoch);
        }
    }
}

/// Which stopped members are started again by a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revival {
    /// All whose PIN the token has not refused: a person asked for it.
    Asked,
    /// Those whose PIN is another one than before: a file changed.
    NewPin,
}

impl Cluster {
    /// Reads the PIN for a new worker.
    pub(super) async fn pin_for(&self, index: MemberIndex, epoch: Epoch) -> Result<Pin, Trouble> {
        let member = self.slot(index);
        let settings = member.settings.load();
        let source = &settings.pin;
        let pin = source.read().await.map_err(|error| match error {
            PinError::Lasting(reason) => Trouble::Lasting(reason),
            PinError::Passing(reason) => Trouble::Passing(reason),
        })?;
        // A slow source may have cost the start its time.
        if !lock(&self.core).is_starting(index, epoch) {
            return Err(Trouble::Passing("its PIN came too late".to_owned()));
        }
        let mut pins = lock(&member.pins);
        let digest = pins.refused.digest(&pin);
        if pins.refused.is_refused(digest) {
            return Err(Trouble::Lasting(format!(
                "its token refused the PIN in {source} before, and no PIN is tried twice; put the token's PIN there and \
                 reload"
            )));
        }
        pins.used.insert(epoch, digest);
        Ok(pin)
    }

    /// Reads the PINs of stopped members again and starts those members that may come back. Workers that run keep their login;
    /// each new one reads its PIN anew.
    pub async fn revive(&self, revival: Revival) {
        let is_stopped = |status: &MemberStatus| {
            let stopped = |worker: &WorkerStatus| worker.state == WorkerState::Stopped;
            status.state != MemberState::Removed && status.workers.iter().any(stopped)
        };
        let stopped: Vec<MemberIndex> = lock(&self.core)
            .status(Instant::now())
            .iter()
            .enumerate()
            .filter(|(_, status)| is_stopped(status))
            .map(|(index, _)| MemberIndex(index))
            .collect();
        for index in stopped {
            // What a command would print is not known to have changed.
            let is_command = matches!(self.slot(index).settings.load().pin, PinSource::Command { .. });
            if revival == Revival::Asked || !is_command {
                self.revive_one(index, revival).await;
            }
        }
    }

    /// A member that served and lost its login may have been given a new PIN since its worker was started: that one is tried,
    /// once.
    pub(super) fn look_for_new_pin(self: &Arc<Self>, index: MemberIndex) {
        let this = Arc::clone(self);
        tokio::spawn(async move { this.revive_one(index, Revival::NewPin).await });
    }

    async fn revive_one(&self, index: MemberIndex, revival: Revival) {
        let member = self.slot(index);
        let name = &*member.name;
        let source = member.settings.load().pin.clone();
        let pin = match source.read().await {
            Ok(pin) => pin,
            Err(reason) => return tracing::warn!(member = name, %reason, "a stopped member stays stopped"),
        };
        let pins = lock(&member.pins);
        let digest = pins.refused.digest(&pin);
        let is_new = pins.used.last_key_value().is_none_or(|(_, used)| *used != digest);
        if pins.refused.is_refused(digest) {
            let reason = "its token refused this PIN before";
            tracing::warn!(member = name, reason, "a stopped member stays stopped");
        } else if is_new || revival == Revival::Asked {
            tracing::info!(member = name, "a stopped member is started again");
            self.report(Event::Revived(index));
        }
    }
}

impl MemberSlot {
    /// Notes it when a reply says that the token refused the PIN of this worker; says whether it does.
    pub(super) fn note_refused_pin(&self, epoch: Epoch, reply: &ReplyBody) -> bool {
        let ReplyBody::Failure(failure) = reply else {
            return false;
        };
        let refuses =
            failure.kind() == FailureKind::Fatal && REFUSALS.iter().any(|code| code.value() == failure.return_code);
        if refuses {
            let mut pins = lock(&self.pins);
            if let Some(digest) = pins.used.get(&epoch).copied() {
                pins.refused.refuse(digest);
            }
        }
        refuses
    }
}

/// What says that the PIN itself is wrong (PKCS#11, `C_Login`).
const REFUSALS: [ReturnCode; 3] = [
    ReturnCode::PIN_INCORRECT,
    ReturnCode::PIN_INVALID,
    ReturnCode::PIN_LEN_RANGE,
];

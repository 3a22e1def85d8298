//! How a member comes into service: its worker started, its token opened, its domain found; and the probes that follow.

use super::{
    core::{Abilities, Epoch, Event, LaneThreads, MemberIndex, Trouble},
    shell::{Cluster, lock},
    worker::{RequestError, Worker},
};
use crate::telemetry::LoadedKeys;
use portcullis_hsm::{
    algorithm::{KeyType, Mechanism, Operation},
    domain::Fingerprint,
    worker::protocol::{DomainFound, Empty, FailureKind, FindDomain, Open, Opened, Probed, ReplyBody, RequestBody},
};
use std::sync::Arc;

impl Cluster {
    /// Starts a worker and opens its token.
    pub(super) fn start_worker(self: &Arc<Self>, index: MemberIndex, epoch: Epoch) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            match this.open_worker(index, epoch).await {
                Ok(opened) => {
                    let abilities = abilities(&opened);
                    *lock(&this.slot(index).opened) = Some(opened);
                    this.report(Event::Opened(index, epoch, abilities));
                }
                Err(trouble) => this.report(Event::StartFailed(index, epoch, trouble)),
            }
        });
    }

    async fn open_worker(&self, index: MemberIndex, epoch: Epoch) -> Result<Opened, Trouble> {
        let slot = self.slot(index);
        let pin = self.pin_for(index, epoch).await?;
        let member = slot.settings.load_full();
        let events = self.events.clone();
        slot.processes.send_modify(|processes| *processes += 1);
        let worker = Worker::spawn(&member.name, &member.environment, &member.write_only_in, {
            let slot = Arc::clone(&slot);
            move |reason| {
                // However it ended: its socket and what is known of it go with it.
                drop(slot.forget(epoch));
                slot.processes.send_modify(|processes| *processes -= 1);
                let _ = events.send(Event::Gone(index, epoch, reason));
            }
        })
        .inspect_err(|_| slot.processes.send_modify(|processes| *processes -= 1))
        .map_err(|error| Trouble::Passing(format!("its worker cannot be started: {error}")))?;
        lock(&slot.workers).insert(epoch, Arc::clone(&worker));
        // Whoever ended this life while the process was made found none to kill.
        if !lock(&self.core).is_starting(index, epoch) {
            slot.forget(epoch);
            worker.kill();
            return Err(Trouble::Passing("its start was given up".to_owned()));
        }
        let open = RequestBody::Open(Open {
            module: member.module.display().to_string(),
            token_label: member.token.label.clone(),
            token_serial_number: member.token.serial_number.clone(),
            user_pin: pin.expose().to_vec(),
            sessions: member.sessions,
            queue: member.queue,
            generation_sessions: member.generation_sessions,
            generation_queue: member.generation_queue,
            loaded_keys: member.loaded_keys,
            ephemeral_share: member.ephemeral_share,
            log_in_again: member.workers == 1,
        });
        match worker.request(open, None).await {
            Ok(ReplyBody::Opened(opened)) => {
                for what in &opened.unprotected {
                    tracing::warn!(member = member.name, what, "the worker lacks a protection");
                }
                Ok(opened)
            }
            reply => {
                let refused = reply.as_ref().is_ok_and(|reply| slot.note_refused_pin(epoch, reply));
                Err(match trouble(reply) {
                    Trouble::Lasting(reason) if refused => Trouble::Lasting(format!(
                        "{reason}; put the token's PIN into {} and reload: no PIN is tried twice",
                        member.pin
                    )),
                    trouble => trouble,
                })
            }
        }
    }

    /// Asks a worker for its domain.
    pub(super) fn find_domain(self: &Arc<Self>, index: MemberIndex, epoch: Epoch) {
        let (this, domain) = (
            Arc::clone(self),
            FindDomain {
                epoch: self.domain.epoch,
            },
        );
        self.ask(index, epoch, RequestBody::FindDomain(domain), move |reply| {
            let event = match reply {
                Ok(ReplyBody::DomainFound(found)) => match domain_found(&found) {
                    Some((fingerprint, answer)) => Event::DomainFound(index, epoch, fingerprint, answer),
                    None => Event::StartFailed(index, epoch, malformed()),
                },
                reply => {
                    if let Ok(reply) = &reply {
                        this.slot(index).note_refused_pin(epoch, reply);
                    }
                    Event::StartFailed(index, epoch, trouble(reply))
                }
            };
            this.report(event);
        });
    }

    /// Asks a worker for the known answer.
    pub(super) fn probe(self: &Arc<Self>, index: MemberIndex, epoch: Epoch) {
        let this = Arc::clone(self);
        self.ask(index, epoch, RequestBody::Probe(Empty {}), move |reply| {
            let event = match reply {
                Ok(ReplyBody::Probed(probed)) => {
                    this.note_loaded_keys(index, epoch, &probed);
                    match probed.known_answer.try_into() {
                        Ok(answer) => Event::Probed(index, epoch, answer),
                        Err(_) => Event::ProbeFailed(index, epoch, malformed()),
                    }
                }
                reply => {
                    if let Ok(reply) = &reply {
                        this.slot(index).note_refused_pin(epoch, reply);
                    }
                    Event::ProbeFailed(index, epoch, trouble(reply))
                }
            };
            this.report(event);
        });
    }

    /// Counts what became of a worker's loaded keys since its last probe.
    fn note_loaded_keys(&self, index: MemberIndex, epoch: Epoch, probed: &Probed) {
        let member = self.slot(index);
        let now = LoadedKeys {
            hits: probed.key_hits,
            loads: probed.key_loads,
            evictions: probed.key_evictions,
            loaded: probed.loaded_keys,
        };
        let mut last = lock(&member.loaded_keys);
        // A new worker counts from 0.
        let before = last.insert(epoch, now).unwrap_or_default();
        let loaded = last.values().map(|keys| keys.loaded).sum();
        let since = LoadedKeys {
            hits: now.hits.saturating_sub(before.hits),
            loads: now.loads.saturating_sub(before.loads),
            evictions: now.evictions.saturating_sub(before.evictions),
            loaded,
        };
        self.telemetry().metrics().loaded_keys(&member.name, since);
    }

    /// Asks one life of a member's worker; what comes of it, its death included, goes to `then`.
    fn ask(
        &self,
        index: MemberIndex,
        epoch: Epoch,
        body: RequestBody,
        then: impl FnOnce(Result<ReplyBody, RequestError>) + Send + 'static,
    ) {
        let Some(worker) = self.slot(index).worker(epoch) else {
            return;
        };
        tokio::spawn(async move { then(worker.request(body, None).await) });
    }
}

fn abilities(opened: &Opened) -> Abilities {
    let use_of = |packed: &u32| {
        let operation = Operation::from_number(u8::try_from(packed >> 16).ok()?)?;
        Some((operation, Mechanism::from_number((packed & 0xffff) as u16)?))
    };
    let key_type = |number: &u32| KeyType::from_number(u16::try_from(*number).ok()?);
    Abilities {
        uses: opened.uses.iter().filter_map(use_of).collect(),
        generates: opened.generates.iter().filter_map(key_type).collect(),
        threads: LaneThreads {
            uses: opened.sessions,
            generations: opened.generation_sessions,
        },
    }
}

fn domain_found(found: &DomainFound) -> Option<(Fingerprint, [u8; 32])> {
    let fingerprint = found.fingerprint.as_slice().try_into().ok()?;
    Some((
        Fingerprint::from_bytes(fingerprint),
        found.known_answer.as_slice().try_into().ok()?,
    ))
}

/// What a start or a probe that failed means.
fn trouble(reply: Result<ReplyBody, RequestError>) -> Trouble {
    match reply {
        Err(error) => Trouble::Passing(error.to_string()),
        Ok(ReplyBody::Failure(failure)) => match failure.kind() {
            FailureKind::Fatal => Trouble::Lasting(failure.message),
            FailureKind::TokenAbsent => Trouble::Absent(failure.message),
            _ => Trouble::Passing(failure.message),
        },
        Ok(_) => malformed(),
    }
}

fn malformed() -> Trouble {
    Trouble::Passing("its worker answered out of turn".to_owned())
}

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
                    *lock(&this.members[index.0].opened) = Some(opened);
                    this.report(Event::Opened(index, epoch, abilities));
                }
                Err(trouble) => this.report(Event::StartFailed(index, epoch, trouble)),
            }
        });
    }

    async fn open_worker(&self, index: MemberIndex, epoch: Epoch) -> Result<Opened, Trouble> {
        let member = &self.members[index.0];
        let pin = self.pin_for(index, epoch).await?;
        let events = self.events.clone();
        let worker = Worker::spawn(
            &member.settings.name,
            &member.settings.environment,
            &member.settings.write_only_in,
            move |reason| {
                let _ = events.send(Event::Gone(index, epoch, reason));
            },
        )
        .map_err(|error| Trouble::Passing(format!("its worker cannot be started: {error}")))?;
        *lock(&member.worker) = Some((epoch, Arc::clone(&worker)));
        let open = RequestBody::Open(Open {
            module: member.settings.module.display().to_string(),
            token_label: member.settings.token.label.clone(),
            token_serial_number: member.settings.token.serial_number.clone(),
            user_pin: pin.expose().to_vec(),
            sessions: member.settings.sessions,
            queue: member.settings.queue,
            generation_sessions: member.settings.generation_sessions,
            generation_queue: member.settings.generation_queue,
            loaded_keys: member.settings.loaded_keys,
            ephemeral_share: member.settings.ephemeral_share,
        });
        match worker.request(open, None).await {
            Ok(ReplyBody::Opened(opened)) => {
                for what in &opened.unprotected {
                    tracing::warn!(member = member.settings.name, what, "the worker lacks a protection");
                }
                Ok(opened)
            }
            reply => {
                let refused = reply
                    .as_ref()
                    .is_ok_and(|reply| self.note_refused_pin(index, epoch, reply));
                Err(match trouble(reply) {
                    Trouble::Lasting(reason) if refused => Trouble::Lasting(format!(
                        "{reason}; put the token's PIN into {} and reload: no PIN is tried twice",
                        member.settings.pin
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
                        this.note_refused_pin(index, epoch, reply);
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
                        this.note_refused_pin(index, epoch, reply);
                    }
                    Event::ProbeFailed(index, epoch, trouble(reply))
                }
            };
            this.report(event);
        });
    }

    /// Counts what became of a worker's loaded keys since its last probe.
    fn note_loaded_keys(&self, index: MemberIndex, epoch: Epoch, probed: &Probed) {
        let member = &self.members[index.0];
        let now = LoadedKeys {
            hits: probed.key_hits,
            loads: probed.key_loads,
            evictions: probed.key_evictions,
            loaded: probed.loaded_keys,
        };
        let mut last = lock(&member.loaded_keys);
        // A new worker counts from 0.
        let before = if last.0 == epoch { last.1 } else { LoadedKeys::default() };
        *last = (epoch, now);
        let since = LoadedKeys {
            hits: now.hits.saturating_sub(before.hits),
            loads: now.loads.saturating_sub(before.loads),
            evictions: now.evictions.saturating_sub(before.evictions),
            loaded: now.loaded,
        };
        self.telemetry().metrics().loaded_keys(&member.label, since);
    }

    /// Asks one life of a member's worker; what comes of it, its death included, goes to `then`.
    fn ask(
        &self,
        index: MemberIndex,
        epoch: Epoch,
        body: RequestBody,
        then: impl FnOnce(Result<ReplyBody, RequestError>) + Send + 'static,
    ) {
        let worker = match &*lock(&self.members[index.0].worker) {
            Some((living, worker)) if *living == epoch => Arc::clone(worker),
            _ => return,
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
        Ok(ReplyBody::Failure(failure)) if failure.kind() == FailureKind::Fatal => Trouble::Lasting(failure.message),
        Ok(ReplyBody::Failure(failure)) => Trouble::Passing(failure.message),
        Ok(_) => malformed(),
    }
}

fn malformed() -> Trouble {
    Trouble::Passing("its worker answered out of turn".to_owned())
}

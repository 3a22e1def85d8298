//! Requests that are not for the queue. Two threads serve them: one opens the token and probes it and does nothing else, so
//! that no probe waits behind work; the other changes token objects one at a time, because tokens race there.

use super::{
    perform::{making, malformed, new_key},
    protocol::{
        AttemptResult, Attempts, ChangePin, CloneStep, CloneStepBody, DestroyResident, Domain, DomainFound, Empty,
        Failure, FailureKind, InitialiseToken, Obstacle, Obstacles, Open, Opened, Probed, ReplyBody, RequestBody,
        Unload, WrapTo,
    },
    repair::with_repairs,
    reply::failure,
    transfer,
};
use crate::{
    Error,
    algorithm::{KeyType, Mechanism, Operation},
    capability::Capabilities,
    domain::{OaepHash, Origin, Transport, Verdict, WrappedDomain, try_forbidden},
    key_token::{ResidentName, Storage},
    loaded::LoadedLimits,
    member::Member,
    pkcs11::{Module, Session, SessionKind, TokenInfo},
    resident,
    return_code::Class,
    sealing::SealingObstacle,
    token::{TokenSelector, change_user_pin, initialise_token},
};
use secrecy::SecretSlice;
use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, OnceLock},
};
use uuid::Uuid;

/// What a control thread keeps between requests.
pub(super) struct Control {
    // Opened by one thread, used by both.
    member: Arc<OnceLock<Arc<Member>>>,
    // What the process could not protect itself from.
    unprotected: Vec<String>,
    // For what must outlive a request: an origin and a transport key are session objects.
    provisioning: Option<Provisioning>,
}

struct Provisioning {
    session: Session,
    origin: Option<Origin>,
    transport: Option<Transport>,
}

/// What opening asks the process to start.
pub(super) struct Started {
    pub(super) member: Arc<Member>,
    pub(super) sessions: Vec<Session>,
    pub(super) queue: usize,
    pub(super) generation_sessions: Vec<Session>,
    pub(super) generation_queue: usize,
}

impl Control {
    /// With the member, once it is open, and the protections that the process lacks.
    pub(super) fn new(member: &Arc<OnceLock<Arc<Member>>>, unprotected: &[String]) -> Self {
        Self {
            member: Arc::clone(member),
            unprotected: unprotected.to_vec(),
            provisioning: None,
        }
    }

    /// Opens the member.
    pub(super) fn open(&mut self, request: &mut Open) -> Result<(Started, ReplyBody), Failure> {
        if self.member.get().is_some() {
            return Err(failure(FailureKind::Refused, "the worker has opened its token already"));
        }
        self.try_open(request).map_err(|error| Failure::from(&error))
    }

    fn try_open(&mut self, request: &mut Open) -> Result<(Started, ReplyBody), Error> {
        let pin = SecretSlice::from(std::mem::take(&mut request.user_pin));
        let module = Arc::new(Module::load(Path::new(&request.module))?);
        let selector = TokenSelector {
            label: request.token_label.clone(),
            serial_number: request.token_serial_number.clone(),
        };
        let capacity = |keys: u32| NonZeroUsize::new(keys as usize).ok_or_else(|| malformed("the capacity"));
        let limits = LoadedLimits {
            keys: capacity(request.loaded_keys)?,
            ephemeral_share: capacity(request.ephemeral_share)?,
        };
        let member = Arc::new(Member::open(module, &selector, pin, limits)?.repairing_login(request.log_in_again));
        // The guard, the keeper, the control thread and a probe have sessions of their own.
        let limit = member
            .token_info()
            .session_limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(4))
            .max(2);
        let generations = u64::from(request.generation_sessions).clamp(1, limit.div_ceil(4)) as usize;
        let uses = u64::from(request.sessions).clamp(1, limit - generations as u64) as usize;
        let mut sessions = open_sessions(&member, uses + generations)?;
        let generations = generations.min(sessions.len().div_ceil(4));
        let generation_sessions = sessions.split_off(sessions.len() - generations);
        // Refused above if it is set already.
        let _ = self.member.set(Arc::clone(&member));
        let opened = Opened {
            capabilities: member.capabilities().describe(),
            uses: supported_uses(member.capabilities()),
            generates: KeyType::ALL
                .iter()
                .filter(|one| member.capabilities().generates(**one))
                .map(|one| one.number().into())
                .collect(),
            sessions: sessions.len() as u32,
            generation_sessions: generation_sessions.len() as u32,
            unprotected: self.unprotected.clone(),
            sealing: Some(Box::new(sealing_obstacles(member.capabilities()))),
            ..token_message(member.token_info())
        };
        let started = Started {
            member,
            sessions,
            queue: request.queue as usize,
            generation_sessions,
            generation_queue: request.generation_queue as usize,
        };
        Ok((started, ReplyBody::Opened(opened)))
    }

    /// Answers a request that is not for the queue.
    pub(super) fn answer(&mut self, body: &mut RequestBody) -> Result<ReplyBody, Failure> {
        let result = match self.member.get().cloned() {
            // The same repairs as a session thread makes, where another attempt brings another session.
            Some(member) => {
                let opens_its_own = opens_its_own_session(body);
                let is_worth = |class| class == Class::LoginLost || opens_its_own;
                with_repairs(&member, is_worth, || self.perform(body))
            }
            None => self.perform(body),
        };
        result.map_err(|error| Failure::from(&error))
    }

    fn perform(&mut self, body: &mut RequestBody) -> Result<ReplyBody, Error> {
        match body {
            RequestBody::InitialiseToken(request) => self.initialise_token(request),
            RequestBody::ChangePin(request) => self.change_pin(request),
            RequestBody::FindDomain(request) => {
                let member = self.member()?;
                let fingerprint = member.find_domain(request.epoch)?;
                let known_answer = member.probe()?;
                // What the first member answers is what the others are held to.
                if member.probe()? != known_answer {
                    return Err(Error::Refused("the token gave two answers to one probe".to_owned()));
                }
                Ok(ReplyBody::DomainFound(DomainFound {
                    fingerprint: fingerprint.as_bytes().to_vec(),
                    known_answer: known_answer.to_vec(),
                }))
            }
            RequestBody::Probe(_) => {
                let member = self.member()?;
                let known_answer = member.probe()?.to_vec();
                let keys = member.loaded_keys();
                Ok(ReplyBody::Probed(Probed {
                    known_answer,
                    key_hits: keys.hits,
                    key_loads: keys.loads,
                    key_evictions: keys.evictions,
                    loaded_keys: keys.loaded,
                }))
            }
            RequestBody::Unload(Unload { digest }) => {
                let digest = digest
                    .as_slice()
                    .try_into()
                    .map_err(|_| malformed("the token digest"))?;
                self.member()?.unload(digest);
                Ok(ReplyBody::Done(Empty {}))
            }
            RequestBody::GenerateResident(request) => {
                let new = new_key(request, Storage::Resident)?;
                let member = self.member()?;
                let mut session = member.open_session(SessionKind::ReadWrite)?;
                member.generate(&mut session, &new).map(ReplyBody::Bytes)
            }
            RequestBody::ImportResident(_) => {
                let member = self.member()?;
                let mut session = member.open_session(SessionKind::ReadWrite)?;
                transfer::perform(member, &mut session, body)
            }
            RequestBody::DestroyResident(DestroyResident {
                uid,
                version,
                making: of,
            }) => {
                let name = ResidentName {
                    uid: Uuid::from_slice(uid).map_err(|_| malformed("the uid"))?,
                    version: *version,
                    making: making(of)?,
                };
                let mut session = self.member()?.open_session(SessionKind::ReadWrite)?;
                resident::destroy(&mut session, name)?;
                Ok(ReplyBody::Done(Empty {}))
            }
            RequestBody::CreateOrigin(request) => {
                let provisioning = self.provisioning()?;
                provisioning.origin = Some(Origin::create(&mut provisioning.session, request.epoch)?);
                Ok(ReplyBody::Done(Empty {}))
            }
            RequestBody::CreateResidentDomain(request) => {
                let member = self.member()?;
                let mut session = member.open_session(SessionKind::ReadWrite)?;
                member.create_resident_domain(&mut session, request.epoch)?;
                Ok(ReplyBody::Done(Empty {}))
            }
            RequestBody::DestroyOrigin(_) => {
                let provisioning = self.provisioning()?;
                let origin = provisioning.origin.take().ok_or_else(|| no("origin"))?;
                origin.destroy(&mut provisioning.session)?;
                Ok(ReplyBody::Done(Empty {}))
            }
            RequestBody::Clone(CloneStep { step: Some(step) }) => self.clone_step(step),
            RequestBody::TryForbidden(_) => {
                let member = self.member()?;
                let mut session = member.open_session(SessionKind::ReadWrite)?;
                let attempts = try_forbidden(&mut session, member.domain()?)?
                    .into_iter()
                    .map(|attempt| AttemptResult {
                        what: attempt.what,
                        refused_with: match attempt.verdict {
                            Verdict::Refused(code) => code.value(),
                            Verdict::Forced | Verdict::Allowed => 0,
                        },
                        forced: attempt.verdict == Verdict::Forced,
                    })
                    .collect();
                Ok(ReplyBody::Attempts(Attempts { attempts }))
            }
            _ => Err(malformed("the request")),
        }
    }

    fn clone_step(&mut self, step: &CloneStepBody) -> Result<ReplyBody, Error> {
        let key_wrap = self.member()?.key_wrap()?;
        let provisioning = self.provisioning()?;
        let session = &mut provisioning.session;
        match step {
            CloneStepBody::MakeTransport(_) => {
                let transport = Transport::generate(session)?;
                let public_key = transport.public_key().to_vec();
                provisioning.transport = Some(transport);
                Ok(ReplyBody::Bytes(public_key))
            }
            CloneStepBody::WrapTo(WrapTo { transport_key, sha1 }) => {
                let origin = provisioning.origin.as_ref().ok_or_else(|| no("origin"))?;
                let wrapped = origin.wrap_to(session, transport_key, oaep_hash(*sha1))?;
                Ok(ReplyBody::Domain(Domain {
                    epoch: wrapped.epoch,
                    sha1: *sha1,
                    seal: wrapped.seal,
                    portable: wrapped.portable,
                    mac: wrapped.mac,
                }))
            }
            CloneStepBody::Receive(Domain {
                epoch,
                sha1,
                seal,
                portable,
                mac,
            }) => {
                let wrapped = WrappedDomain {
                    epoch: *epoch,
                    oaep_hash: oaep_hash(*sha1),
                    seal: seal.clone(),
                    portable: portable.clone(),
                    mac: mac.clone(),
                };
                let transport = provisioning.transport.as_ref().ok_or_else(|| no("transport key"))?;
                transport.receive(session, &wrapped, key_wrap)?;
                if let Some(transport) = provisioning.transport.take() {
                    transport.destroy(session)?;
                }
                Ok(ReplyBody::Done(Empty {}))
            }
        }
    }

    fn initialise_token(&mut self, request: &mut InitialiseToken) -> Result<ReplyBody, Error> {
        if self.member.get().is_some() {
            return Err(Error::Refused("the worker has opened its token already".to_owned()));
        }
        let so_pin = SecretSlice::from(std::mem::take(&mut request.so_pin));
        let user_pin = SecretSlice::from(std::mem::take(&mut request.user_pin));
        let module = Arc::new(Module::load(Path::new(&request.module))?);
        let info = initialise_token(&module, &request.label, &so_pin, &user_pin)?;
        Ok(ReplyBody::Opened(token_message(&info)))
    }

    fn change_pin(&mut self, request: &mut ChangePin) -> Result<ReplyBody, Error> {
        if self.member.get().is_some() {
            return Err(Error::Refused("the worker has opened its token already".to_owned()));
        }
        let old_pin = SecretSlice::from(std::mem::take(&mut request.old_pin));
        let new_pin = SecretSlice::from(std::mem::take(&mut request.new_pin));
        let module = Arc::new(Module::load(Path::new(&request.module))?);
        let selector = TokenSelector {
            label: request.token_label.clone(),
            serial_number: request.token_serial_number.clone(),
        };
        let info = change_user_pin(&module, &selector, &old_pin, &new_pin)?;
        Ok(ReplyBody::Opened(token_message(&info)))
    }

    fn member(&self) -> Result<&Arc<Member>, Error> {
        self.member
            .get()
            .ok_or_else(|| Error::Refused("the worker has not opened its token".to_owned()))
    }

    fn provisioning(&mut self) -> Result<&mut Provisioning, Error> {
        if self.provisioning.is_none() {
            let session = self.member()?.open_session(SessionKind::ReadWrite)?;
            self.provisioning = Some(Provisioning {
                session,
                origin: None,
                transport: None,
            });
        }
        // Invariant: set above.
        Ok(self.provisioning.as_mut().expect("the provisioning session is open"))
    }
}

/// Opens so many sessions, or as many as the token gives: what it says of its limit may be wrong. One more is left for changes of
/// token objects.
fn open_sessions(member: &Member, wanted: usize) -> Result<Vec<Session>, Error> {
    let mut sessions = Vec::with_capacity(wanted + 1);
    while sessions.len() <= wanted {
        match member.open_session(SessionKind::ReadOnly) {
            Ok(session) => sessions.push(session),
            // Two are what it takes to serve: one for the use of keys, one for their generation.
            Err(error) if error.class() == Class::Busy && sessions.len() >= 2 => break,
            Err(error) => return Err(error),
        }
    }
    sessions.truncate((sessions.len() - 1).max(2));
    Ok(sessions)
}

/// Whether a request works in a session that is opened for it, or replaced after an error.
fn opens_its_own_session(body: &RequestBody) -> bool {
    matches!(
        body,
        RequestBody::Probe(_)
            | RequestBody::FindDomain(_)
            | RequestBody::GenerateResident(_)
            | RequestBody::ImportResident(_)
            | RequestBody::DestroyResident(_)
    )
}

fn token_message(info: &TokenInfo) -> Opened {
    Opened {
        label: info.label.clone(),
        serial_number: info.serial_number.clone(),
        manufacturer: info.manufacturer.clone(),
        model: info.model.clone(),
        firmware_version: info.firmware_version.clone(),
        hardware_version: info.hardware_version.clone(),
        ..Opened::default()
    }
}

fn sealing_obstacles(capabilities: &Capabilities) -> Obstacles {
    let obstacle = |one: &SealingObstacle| Obstacle {
        code: one.code().to_owned(),
        message: one.to_string(),
    };
    Obstacles {
        list: capabilities.sealing_obstacles().iter().map(obstacle).collect(),
    }
}

fn supported_uses(capabilities: &Capabilities) -> Vec<u32> {
    let mut uses = Vec::new();
    for operation in Operation::ALL {
        for mechanism in Mechanism::ALL {
            if capabilities.supports(*operation, *mechanism) {
                uses.push(u32::from(operation.number()) << 16 | u32::from(mechanism.number()));
            }
        }
    }
    uses
}

fn oaep_hash(sha1: bool) -> OaepHash {
    if sha1 { OaepHash::Sha1 } else { OaepHash::Sha256 }
}

fn no(what: &str) -> Error {
    Error::Refused(format!("the worker holds no {what}"))
}

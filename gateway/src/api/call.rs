//! One request: who asks, whether it is allowed, what came of it. Everything ends in one audit entry before the reply.

use super::{ApiError, Gateway, Reason, deadline::time_allowed};
use crate::{
    audit::{Entry, Permission, Phase},
    cluster::core::MemberIndex,
    crypto::ciphertext::Authenticated,
    identity::Peer,
    keys::name::Id,
    policy::{Action, Circumstances, Decision, KeyFacts, Question, Resource},
    quota::Place,
    telemetry::{self, RequestId},
};
use portcullis_hsm::algorithm::Mechanism;
use portcullis_proto::v1;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Who asks, and until when. Several calls have one caller where they came in one batch or stream.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Who asks.
    pub(super) peer: Arc<Peer>,
    /// When the caller no longer waits.
    pub(super) deadline: Instant,
    /// The request's id.
    pub(super) request: Uuid,
    /// What the entries of one batch or stream have in common.
    pub(super) batch: Option<Uuid>,
}

impl Caller {
    /// The caller of a request.
    pub(super) fn of<T>(gateway: &Arc<Gateway>, request: &Request<T>) -> Result<Self, Status> {
        let allowed = time_allowed(request.metadata()).map(|allowed| allowed.min(LONGEST));
        Ok(Self {
            peer: peer_of(request)?,
            deadline: Instant::now() + allowed.unwrap_or_else(|| gateway.cluster.default_deadline()),
            request: request_id(request),
            batch: None,
        })
    }

    /// The id of a call of this caller's, and its entry, which has no outcome yet.
    fn entry(&self, action: &'static str) -> (Uuid, Entry) {
        // Of several calls in one request, each has an id of its own.
        let request_id = if self.batch.is_some() {
            Uuid::now_v7()
        } else {
            self.request
        };
        let entry = Entry {
            phase: Phase::Outcome,
            request: Some(request_id.to_string()),
            batch: self.batch.map(|batch| batch.to_string()),
            principal: Some(self.peer.principal.to_string()),
            method: Some(self.peer.method.name()),
            peer: Some(self.peer.address.clone()),
            action,
            resource: String::new(),
            rule: None,
            also: Vec::new(),
            mechanism: None,
            context: BTreeMap::new(),
            reason: None,
            member: None,
            outcome: String::new(),
        };
        (request_id, entry)
    }

    /// Refuses what is no request that a call could begin with; `action` says what it would have been, as far as that is known.
    /// It counts among the principal's calls and is in the audit log like any call that is refused, so that it is bounded like them.
    pub(super) fn refuse(&self, gateway: &Gateway, action: &'static str, error: ApiError) -> Refused {
        let (request_id, mut entry) = self.entry(action);
        let quota = gateway.limits().principal;
        let admitted = gateway
            .quotas
            .admit(self.peer.principal.as_str(), quota, Instant::now());
        let error = match (self.peer.ended(), admitted) {
            (Some(reason), _) => reason.into(),
            (None, Err(exceeded)) => exceeded.into(),
            (None, Ok(_)) => error,
        };
        entry.outcome = error.reason().name().to_owned();
        let error = match gateway.audit.append(&entry) {
            Ok(()) => error,
            Err(unwritten) => unwritten.into(),
        };
        Refused::new(error, request_id)
    }
}

/// The id that a request has in the log, in traces and for its caller.
pub(super) fn request_id<T>(request: &Request<T>) -> Uuid {
    let given = request.extensions().get::<RequestId>();
    given.map_or_else(Uuid::now_v7, |id| id.0)
}

/// Who sent a request.
pub(super) fn peer_of<T>(request: &Request<T>) -> Result<Arc<Peer>, Status> {
    request.extensions().get::<Arc<Peer>>().cloned().ok_or_else(|| {
        let error = ApiError::new(Reason::Unauthenticated, "the connection has no identity");
        error.into_status(&request_id(request).to_string())
    })
}

/// The end of a call that has no result.
#[derive(Debug)]
pub(super) struct Refused {
    error: ApiError,
    request_id: Uuid,
}

impl Refused {
    /// The end of what was never a call, or of a call that was lost; the log may know it by this id.
    pub(super) fn new(error: ApiError, request_id: Uuid) -> Self {
        Self { error, request_id }
    }

    /// Why.
    pub(super) fn reason(&self) -> Reason {
        self.error.reason()
    }

    /// As the end of a request of its own.
    pub(super) fn into_status(self) -> Status {
        self.error.into_status(&self.request_id.to_string())
    }

    /// As the answer to one operation of several.
    pub(super) fn into_operation_error(self) -> v1::OperationError {
        self.error.into_operation_error(&self.request_id.to_string())
    }
}

/// A request under way.
///
/// [`Call::conclude`] writes the audit entry. A call that is dropped before, because its caller went away or its time was over,
/// writes that.
#[derive(Debug)]
pub(super) struct Call {
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    request_id: Uuid,
    deadline: Instant,
    action: Action,
    authorised: bool,
    // The call's place among those of its principal.
    place: Option<Place>,
    entry: Option<Entry>,
}

impl Call {
    /// Begins a call: the caller is known, nothing is decided.
    pub(super) fn begin<T>(gateway: &Arc<Gateway>, action: Action, request: Request<T>) -> Result<(Self, T), Status> {
        let caller = Caller::of(gateway, &request)?;
        let call = Self::of(gateway, caller, action).map_err(Refused::into_status)?;
        Ok((call, request.into_inner()))
    }

    /// Begins a call of a caller who is known, unless that caller's certificate has come to its end, or the caller asks for
    /// more than its share.
    pub(super) fn of(gateway: &Arc<Gateway>, caller: Caller, action: Action) -> Result<Self, Refused> {
        let (request_id, entry) = caller.entry(action.name());
        let mut call = Self {
            gateway: Arc::clone(gateway),
            peer: caller.peer,
            request_id,
            deadline: caller.deadline,
            action,
            authorised: false,
            place: None,
            entry: Some(entry),
        };
        if let Some(reason) = call.peer.ended() {
            return call.finish(Err(reason.into()));
        }
        let quota = gateway.limits().principal;
        match gateway
            .quotas
            .admit(call.peer.principal.as_str(), quota, Instant::now())
        {
            Ok(place) => call.place = Some(place),
            Err(exceeded) => return call.finish(Err(exceeded.into())),
        }
        Ok(call)
    }

    /// Counts the rows of a list that were read for the caller in what its principal may ask for: ten of them as an operation.
    pub(super) fn charge(&self, rows: usize) {
        if let Some(place) = &self.place {
            place.charge(rows as f64 / ROWS_OF_AN_OPERATION, self.gateway.limits().principal);
        }
    }

    /// What the services work with.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// When the caller no longer waits.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Who asks.
    pub(super) fn principal(&self) -> &str {
        self.peer.principal.as_str()
    }

    /// What the call does.
    pub(super) fn action(&self) -> Action {
        self.action
    }

    /// Asks the policy whether the caller may do this to the gateway. `resource` is what the audit log calls it.
    ///
    /// Like all questions to the policy, this comes before anything is queued.
    pub(super) fn authorise_gateway(&mut self, resource: impl Into<String>) -> Result<(), ApiError> {
        let resource = resource.into();
        let decision = self.ask(self.action, Resource::Gateway, Circumstances::default());
        self.decided(decision, &resource.clone(), resource)
    }

    /// Asks the policy whether the caller may do this to a ring.
    pub(super) fn authorise_ring(&mut self, resource: String, ring: &Id) -> Result<(), ApiError> {
        let decision = self.ask(self.action, Resource::KeyRing(ring), Circumstances::default());
        self.decided(decision, &format!("keyRings/{ring}"), resource)
    }

    /// Asks the policy whether the caller may do this to a key, which exists or is to be made.
    pub(super) fn authorise_key(
        &mut self,
        resource: String,
        key: KeyFacts<'_>,
        circumstances: Circumstances<'_>,
    ) -> Result<(), ApiError> {
        let decision = self.ask(self.action, Resource::Key(key), circumstances);
        self.decided(decision, &key.name.to_string(), resource)
    }

    /// Asks for a second permission, for a call that does two things. It stands beside the first in the audit entry.
    pub(super) fn authorise_also(
        &mut self,
        action: Action,
        resource: Resource<'_>,
        circumstances: Circumstances<'_>,
    ) -> Result<(), ApiError> {
        let decision = self.ask(action, resource, circumstances);
        let outcome = if decision.is_allowed() {
            self.count_allowed(action);
            Ok(())
        } else {
            Err(self.denial(action, &resource.to_string()))
        };
        self.entry_mut().also.push(Permission {
            action: action.name(),
            resource: resource.to_string(),
            context: circumstances.encryption_context.cloned().unwrap_or_default(),
            rule: decision.rule().map(|rule| rule.to_string()),
            allowed: decision.is_allowed(),
        });
        outcome
    }

    /// Notes the exact resource of the second permission, once it is known.
    pub(super) fn also_uses(&mut self, resource: String) {
        if let Some(permission) = self.entry_mut().also.last_mut() {
            permission.resource = resource;
        }
    }

    /// Asks whether the caller may list what a filter by [`Call::may`] then shows: whether a rule could allow the call's
    /// action on anything.
    pub(super) fn authorise_list(&mut self, resource: impl Into<String>) -> Result<(), ApiError> {
        let resource = resource.into();
        let decision = self.gateway.policy.could_allow(&self.peer, self.action);
        self.decided(decision, &resource.clone(), resource)
    }

    /// Refuses, in the words of any refusal, a caller whom no rule could ever allow an action, whatever the resource.
    pub(super) fn require_chance(&self, action: Action, resource: &str) -> Result<(), ApiError> {
        if self.gateway.policy.could_allow(&self.peer, action).is_allowed() {
            Ok(())
        } else {
            Err(self.denial(action, resource))
        }
    }

    /// Whether the caller may do something, for what is shown in lists. Leaves no trace in the audit entry.
    pub(super) fn may(&self, action: Action, resource: Resource<'_>) -> bool {
        self.ask(action, resource, Circumstances::default()).is_allowed()
    }

    /// The refusal of the call's action on a resource.
    pub(super) fn denied(&self, resource: &str) -> ApiError {
        self.denial(self.action, resource)
    }

    /// Notes the resource that the caller named, before anything is known of it.
    pub(super) fn concerns(&mut self, resource: String) {
        self.entry_mut().resource = resource;
    }

    fn ask(&self, action: Action, resource: Resource<'_>, circumstances: Circumstances<'_>) -> Decision {
        let question = Question {
            peer: &self.peer,
            action,
            resource,
            circumstances,
        };
        self.gateway.policy.decide(question, OffsetDateTime::now_utc())
    }

    /// Notes a decision about the call's own action. `named` is the resource in the words of every refusal; `resource` is what
    /// the audit log calls it, which may be more exact.
    fn decided(&mut self, decision: Decision, named: &str, resource: String) -> Result<(), ApiError> {
        self.authorised = true;
        let outcome = if decision.is_allowed() {
            self.count_allowed(self.action);
            Ok(())
        } else {
            Err(self.denied(named))
        };
        let entry = self.entry_mut();
        entry.resource = resource;
        entry.rule = decision.rule().map(|rule| rule.to_string());
        outcome
    }

    fn count_allowed(&self, action: Action) {
        self.gateway.telemetry.metrics().decided(action.name(), true);
    }

    /// The refusal of an action on a resource.
    pub(super) fn denial(&self, action: Action, resource: &str) -> ApiError {
        self.gateway.telemetry.metrics().decided(action.name(), false);
        let message = format!("{} may not do {action} on {resource}", self.peer.principal);
        ApiError::new(Reason::AccessDenied, message).with("action", action.name())
    }

    /// Notes the exact resource, once it is known.
    pub(super) fn uses(&mut self, resource: String, mechanism: Option<Mechanism>) {
        let entry = self.entry_mut();
        entry.resource = resource;
        entry.mechanism = mechanism.map(Mechanism::name);
        if let Some(mechanism) = mechanism {
            telemetry::note_mechanism(mechanism);
        }
    }

    /// Notes the caller's encryption context. Associated data is the caller's secret, and is not noted.
    pub(super) fn note_context(&mut self, authenticated: &Authenticated) {
        if let Some(context) = authenticated.context() {
            self.entry_mut().context.clone_from(context);
        }
    }

    /// Notes why the caller does it.
    pub(super) fn note_reason(&mut self, reason: &str) {
        if !reason.is_empty() {
            self.entry_mut().reason = Some(reason.to_owned());
        }
    }

    /// Notes who did the work.
    pub(super) fn note_member(&mut self, member: MemberIndex) {
        let name = self.gateway.cluster.name(member).to_owned();
        telemetry::note_member(&name);
        self.entry_mut().member = Some(name);
    }

    /// Writes to disk that a change is about to be made.
    pub(super) async fn intend(&mut self) -> Result<(), ApiError> {
        let mut intent = self.entry_mut().clone();
        intent.phase = Phase::Intent;
        intent.outcome = "ALLOWED".to_owned();
        Ok(self.gateway.audit.append_synced(&intent).await?)
    }

    /// Ends a use of a key: the entry is in the log before the reply leaves.
    pub(super) fn conclude<T>(self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        self.finish(result).map(Response::new).map_err(Refused::into_status)
    }

    /// Ends a use of a key that may have come with others: the entry is in the log before the result is there.
    pub(super) fn finish<T>(mut self, result: Result<T, ApiError>) -> Result<T, Refused> {
        let result = self.authorised_only(result);
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append(&entry).map_err(ApiError::from),
            None => Ok(()),
        };
        written.and(result).map_err(|error| self.refused(error))
    }

    /// Ends a change: the entry is on disk before the reply leaves.
    pub(super) async fn conclude_change<T>(mut self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        let result = self.authorised_only(result);
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append_synced(&entry).await.map_err(ApiError::from),
            None => Ok(()),
        };
        written
            .and(result)
            .map(Response::new)
            .map_err(|error| self.refused(error).into_status())
    }

    /// No result leaves a call that never asked the policy: that would be a mistake in the gateway.
    fn authorised_only<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        if result.is_err() || self.authorised {
            return result;
        }
        tracing::error!(action = %self.action, "a call ended well without having asked the policy");
        Err(ApiError::new(
            Reason::Internal,
            "the gateway did not ask its policy; it gives no result",
        ))
    }

    fn refused(&self, error: ApiError) -> Refused {
        Refused::new(error, self.request_id)
    }

    fn outcome<T>(&mut self, result: &Result<T, ApiError>) -> Option<Entry> {
        let mut entry = self.entry.take()?;
        entry.outcome = match result {
            Ok(_) => "OK".to_owned(),
            Err(error) => error.reason().name().to_owned(),
        };
        tracing::debug!(
            request = %self.request_id,
            principal = %self.peer.principal,
            action = entry.action,
            resource = entry.resource,
            outcome = entry.outcome,
            "a request ended"
        );
        Some(entry)
    }

    fn entry_mut(&mut self) -> &mut Entry {
        // Invariant: the entry is taken only by what consumes the call.
        self.entry.as_mut().expect("a call under way has its entry")
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            // Whether its caller or its deadline ended it. Changes run to their end and do not come here.
            entry.outcome = if Instant::now() < self.deadline {
                "CANCELLED"
            } else {
                Reason::DeadlineExceeded.name()
            }
            .to_owned();
            if let Err(error) = self.gateway.audit.append(&entry) {
                tracing::error!(%error, request = %self.request_id, "a call that was given up is not in the audit log");
            }
        }
    }
}

const ROWS_OF_AN_OPERATION: f64 = 10.0;
/// No operation waits longer, whatever its caller allows.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

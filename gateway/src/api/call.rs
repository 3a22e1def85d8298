//! One request: who asks, whether it is allowed, what came of it. Everything ends in one audit entry before the reply.

use super::{ApiError, Gateway, Reason, caller::Caller, justification::Justification, subject::Subject, target::InUse};
use crate::{
    audit::{Details, Entry, Permission, Phase},
    cluster::core::{Errand, MemberIndex},
    crypto::ciphertext::Authenticated,
    identity::Peer,
    keys::name::{Id, KeyName},
    policy::{Action, Circumstances, Decision, KeyFacts, Question, Resource},
    quota::Place,
    telemetry,
};
use portcullis_hsm::algorithm::Mechanism;
use portcullis_proto::v1;
use prost::Message;
use std::{convert::Infallible, sync::Arc, time::Instant};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use uuid::Uuid;

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

/// The second thing that a call does, and the key that the caller named for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second<'a> {
    /// What.
    pub(super) action: Action,
    /// To what, in the caller's words.
    pub(super) named: &'a str,
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
    subject: Subject,
    authorised: bool,
    // Whose key material the result is made with.
    in_use: Vec<InUse>,
    // The call's place among those of its principal.
    place: Option<Place>,
    entry: Option<Entry>,
}

impl Call {
    /// Begins a call: the caller is known, nothing is decided.
    pub(super) fn begin<T: Message>(
        gateway: &Arc<Gateway>,
        action: Action,
        request: Request<T>,
    ) -> Result<(Self, T), Status> {
        let caller = Caller::of(gateway, &request)?;
        let call = Self::of(gateway, caller, action, request.get_ref().encoded_len()).map_err(Refused::into_status)?;
        Ok((call, request.into_inner()))
    }

    /// Begins a call of a caller who is known with a request of so many bytes, unless that caller's certificate has come to its
    /// end, or the caller asks for more than its share.
    pub(super) fn of(gateway: &Arc<Gateway>, caller: Caller, action: Action, bytes: usize) -> Result<Self, Refused> {
        let (request_id, entry) = caller.entry(action.name());
        let mut call = Self {
            gateway: Arc::clone(gateway),
            peer: caller.peer,
            request_id,
            deadline: caller.deadline,
            action,
            subject: Subject::default(),
            authorised: false,
            in_use: Vec::new(),
            place: None,
            entry: Some(entry),
        };
        if let Some(reason) = call.peer.ended() {
            return Err(call.refuse(reason.into()));
        }
        let quota = gateway.limits().principal;
        match gateway
            .quotas
            .admit(call.peer.principal.as_str(), bytes, quota, Instant::now())
        {
            Ok(place) => call.place = Some(place),
            Err(exceeded) => return Err(call.refuse(exceeded.into())),
        }
        Ok(call)
    }

    /// Counts the rows of a list that were read for the caller in what its principal may ask for: ten of them as an operation.
    pub(super) fn charge(&self, rows: usize) {
        if let Some(place) = &self.place {
            place.charge(rows as f64 / ROWS_OF_AN_OPERATION, self.gateway.limits().principal);
        }
    }

    /// Notes a version that the call uses.
    pub(super) fn uses(&mut self, version: InUse) {
        self.in_use.push(version);
    }

    /// The versions that the call uses from now on, for a change that is committed: they have to be looked at before that.
    pub(super) fn take_uses(&mut self) -> Vec<InUse> {
        std::mem::take(&mut self.in_use)
    }

    /// What the services work with.
    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// The call as the session manager knows it: on whose behalf, and until when.
    pub(super) fn errand(&self) -> Errand {
        Errand {
            principal: self.gateway.cluster.principal(self.principal()),
            deadline: self.deadline,
        }
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

    /// Notes what the caller named, before anything is known of it. Refusals of the call's action are in these words, so that
    /// they tell no more than the caller said.
    pub(super) fn names(&mut self, named: impl Into<String>) {
        self.subject.names(named.into());
    }

    /// What the caller named.
    pub(super) fn named(&self) -> &str {
        self.subject.named()
    }

    /// Notes what that turned out to be.
    pub(super) fn finds(&mut self, resource: String) {
        self.subject.finds(resource);
    }

    /// Notes the mechanism that was chosen.
    pub(super) fn note_mechanism(&mut self, mechanism: Mechanism) {
        telemetry::note_mechanism(mechanism);
        self.entry_mut().mechanism = Some(mechanism.name());
    }

    /// Asks the policy whether the caller may do this to the gateway.
    ///
    /// Like all questions to the policy, this comes before anything is queued.
    pub(super) fn authorise_gateway(&mut self) -> Result<(), ApiError> {
        self.authorise(Resource::Gateway, Circumstances::NONE)
    }

    /// Asks the policy whether the caller may do this to a ring.
    pub(super) fn authorise_ring(&mut self, ring: &Id, circumstances: Circumstances<'_>) -> Result<(), ApiError> {
        self.authorise(Resource::KeyRing(ring), circumstances)
    }

    /// Asks the policy whether the caller may do this to a key, which exists or is to be made.
    pub(super) fn authorise_key(
        &mut self,
        key: KeyFacts<'_>,
        circumstances: Circumstances<'_>,
    ) -> Result<(), ApiError> {
        self.authorise(Resource::Key(key), circumstances)
    }

    fn authorise(&mut self, resource: Resource<'_>, circumstances: Circumstances<'_>) -> Result<(), ApiError> {
        let decision = self.ask(self.action, resource, circumstances);
        self.decided(decision)
    }

    /// Asks for a second permission, for a call that does two things. It stands beside the first in the audit entry, with the
    /// exact `resource`; a refusal is in the words of the caller, `named`.
    pub(super) fn authorise_also(
        &mut self,
        second: Second<'_>,
        resource: String,
        of: Resource<'_>,
        circumstances: Circumstances<'_>,
    ) -> Result<(), ApiError> {
        let Second { action, named } = second;
        let decision = self.ask(action, of, circumstances);
        let outcome = if decision.is_allowed() {
            self.count_allowed(action);
            Ok(())
        } else {
            Err(self.denial(action, named))
        };
        self.entry_mut().also.push(Permission {
            action: action.name(),
            resource,
            context: circumstances.encryption_context.cloned().unwrap_or_default(),
            rule: decision.rule().map(|rule| rule.to_string()),
            allowed: decision.is_allowed(),
        });
        outcome
    }

    /// Asks whether the caller may list what a filter by [`Call::may`] then shows: whether a rule could allow the call's
    /// action on anything.
    pub(super) fn authorise_list(&mut self) -> Result<(), ApiError> {
        let decision = self.gateway.policy.could_allow(&self.peer, self.action);
        self.decided(decision)
    }

    /// Refuses, in the words of any refusal, a caller whom no rule could ever allow an action, whatever the resource.
    pub(super) fn require_chance(&self, action: Action, named: &str) -> Result<(), ApiError> {
        if self.gateway.policy.could_allow(&self.peer, action).is_allowed() {
            Ok(())
        } else {
            Err(self.denial(action, named))
        }
    }

    /// Whether the caller may do something, for what is shown in lists. Leaves no trace in the audit entry.
    pub(super) fn may(&self, action: Action, resource: Resource<'_>) -> bool {
        self.may_under(action, resource, Circumstances::NONE)
    }

    /// Whether the caller may do something more under given circumstances.
    pub(super) fn may_under(&self, action: Action, resource: Resource<'_>, circumstances: Circumstances<'_>) -> bool {
        self.ask(action, resource, circumstances).is_allowed()
    }

    /// Whether the caller may do something to a key of which only the name is known, whatever it is.
    pub(super) fn may_whatever_it_is(&self, action: Action, key: &KeyName) -> bool {
        let policy = &self.gateway.policy;
        !policy.looks_at_keys(&self.peer, action, &key.ring) && self.may(action, Resource::Key(KeyFacts::unknown(key)))
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

    /// Notes a decision about the call's own action.
    fn decided(&mut self, decision: Decision) -> Result<(), ApiError> {
        self.authorised = true;
        let outcome = if decision.is_allowed() {
            self.count_allowed(self.action);
            Ok(())
        } else {
            Err(self.denial(self.action, self.named()))
        };
        self.entry_mut().rule = decision.rule().map(|rule| rule.to_string());
        outcome
    }

    fn count_allowed(&self, action: Action) {
        self.gateway.telemetry.metrics().decided(action.name(), true);
    }

    /// The refusal of an action, in words that tell no more than the caller said.
    pub(super) fn denial(&self, action: Action, named: &str) -> ApiError {
        self.gateway.telemetry.metrics().decided(action.name(), false);
        let message = format!("{} may not do {action} on {named}", self.peer.principal);
        ApiError::new(Reason::AccessDenied, message).with("action", action.name())
    }

    /// Notes the caller's encryption context. Associated data is the caller's secret, and is not noted.
    pub(super) fn note_context(&mut self, authenticated: &Authenticated) {
        if let Some(context) = authenticated.context() {
            self.entry_mut().context.clone_from(context);
        }
    }

    /// Notes why the caller does it, within the limits of such a text.
    pub(super) fn note_reason(&mut self, reason: &Justification) {
        if !reason.as_str().is_empty() {
            self.entry_mut().reason = Some(reason.as_str().to_owned());
        }
    }

    /// Notes what a change is about to do, and again what it did.
    pub(super) fn note_details(&mut self, details: Details) {
        self.entry_mut().details = Some(details);
    }

    /// Notes the id by which the caller's repetition of a change is recognised.
    pub(super) fn note_request_id(&mut self, request_id: Uuid) {
        self.entry_mut().request_id = Some(request_id.to_string());
    }

    /// Notes that nothing is to be done, and only whether it would be.
    pub(super) fn note_check_only(&mut self, only_checks: bool) {
        self.entry_mut().only_checked = only_checks;
    }

    /// Notes who did the work.
    pub(super) fn note_member(&mut self, member: MemberIndex) {
        let name = self.gateway.cluster.name(member).to_string();
        telemetry::note_member(&name);
        self.entry_mut().member = Some(name);
    }

    /// Writes to disk that a change is about to be made.
    pub(super) async fn intend(&mut self) -> Result<(), ApiError> {
        let mut intent = self.entry_mut().clone();
        self.subject.describe(&mut intent);
        intent.phase = Phase::Intent;
        intent.outcome = "ALLOWED".to_owned();
        Ok(self.gateway.audit.append_synced(&intent).await?)
    }

    /// Ends a use of a key: the entry is in the log before the reply leaves.
    pub(super) async fn conclude<T>(self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        self.finish(result)
            .await
            .map(Response::new)
            .map_err(Refused::into_status)
    }

    /// Ends a use of a key that may have come with others: the entry is in the log before the result is there.
    pub(super) async fn finish<T>(mut self, result: Result<T, ApiError>) -> Result<T, Refused> {
        let result = self.permitted_only(result).await;
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append(&entry).map_err(ApiError::from),
            None => Ok(()),
        };
        written.and(result).map_err(|error| self.refused(error))
    }

    /// Ends a call that did nothing.
    pub(super) fn refuse(mut self, error: ApiError) -> Refused {
        let result = Err::<Infallible, _>(error);
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append(&entry).map_err(ApiError::from),
            None => Ok(()),
        };
        match (written, result) {
            (Err(error), _) | (Ok(()), Err(error)) => self.refused(error),
        }
    }

    /// Ends a change: the entry is on disk before the reply leaves.
    pub(super) async fn conclude_change<T>(mut self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        let result = self.permitted_only(result).await;
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append_synced(&entry).await.map_err(ApiError::from),
            None => Ok(()),
        };
        written
            .and(result)
            .map(Response::new)
            .map_err(|error| self.refused(error).into_status())
    }

    /// No result leaves a call that did not ask the policy, or whose keys must not be used any more: every call ends here.
    async fn permitted_only<T>(&self, result: Result<T, ApiError>) -> Result<T, ApiError> {
        let result = self.authorised_only(result)?;
        for version in &self.in_use {
            version.require_still_permitted(&self.gateway.directory).await?;
        }
        Ok(result)
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
        self.subject.describe(&mut entry);
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
            self.subject.describe(&mut entry);
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

//! One request: who asks, whether it is allowed, what came of it. Everything ends in one audit entry before the reply.

use super::{ApiError, Gateway, Reason};
use crate::{
    audit::{Entry, Phase},
    cluster::core::MemberIndex,
    identity::Peer,
    keys::name::Id,
    policy::{Action, Decision, Question},
};
use portcullis_hsm::algorithm::Mechanism;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

/// A request under way.
///
/// [`Call::conclude`] writes the audit entry. A call that is dropped before, because its caller went away, writes that.
#[derive(Debug)]
pub(super) struct Call {
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    request_id: Uuid,
    deadline: Instant,
    action: Action,
    entry: Option<Entry>,
}

impl Call {
    /// Begins a call: the caller is known, nothing is decided.
    pub(super) fn begin<T>(gateway: &Arc<Gateway>, action: Action, request: Request<T>) -> Result<(Self, T), Status> {
        let request_id = Uuid::now_v7();
        let Some(peer) = request.extensions().get::<Arc<Peer>>().cloned() else {
            let error = ApiError::new(Reason::Unauthenticated, "the connection has no identity");
            return Err(error.into_status(&request_id.to_string()));
        };
        let allowed = time_allowed(request.metadata()).unwrap_or_else(|| gateway.cluster.default_deadline());
        let entry = Entry {
            phase: Phase::Outcome,
            request: Some(request_id.to_string()),
            principal: Some(peer.principal.to_string()),
            method: Some(peer.method.name()),
            peer: Some(peer.address.clone()),
            action: action.name(),
            resource: String::new(),
            rule: None,
            mechanism: None,
            context: BTreeMap::new(),
            member: None,
            outcome: String::new(),
        };
        let call = Self {
            gateway: Arc::clone(gateway),
            peer,
            request_id,
            deadline: Instant::now() + allowed,
            action,
            entry: Some(entry),
        };
        Ok((call, request.into_inner()))
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

    /// Asks the policy whether the caller may do this to a resource. Comes before anything is looked up or queued.
    pub(super) fn authorise(&mut self, resource: String, ring: Option<&Id>) -> Result<(), ApiError> {
        let question = Question {
            peer: &self.peer,
            action: self.action,
            ring,
        };
        let decision = self.gateway.policy.decide(question);
        let denied = || {
            let message = format!("{} may not do {} on {resource}", self.peer.principal, self.action);
            ApiError::new(Reason::AccessDenied, message).with("action", self.action.name())
        };
        let outcome = match decision {
            Decision::Allow(rule) => Ok(rule),
            Decision::Deny => Err(denied()),
        };
        let entry = self.entry_mut();
        entry.resource = resource;
        entry.rule = Some(outcome?);
        Ok(())
    }

    /// Whether the caller may see a ring in a list.
    pub(super) fn may_read_ring(&self, ring: &Id) -> bool {
        let question = Question {
            peer: &self.peer,
            action: Action::ReadKeyRing,
            ring: Some(ring),
        };
        self.gateway.policy.decide(question) != Decision::Deny
    }

    /// Notes the exact resource, once it is known.
    pub(super) fn uses(&mut self, resource: String, mechanism: Option<Mechanism>) {
        let entry = self.entry_mut();
        entry.resource = resource;
        entry.mechanism = mechanism.map(Mechanism::name);
    }

    /// Notes the caller's encryption context.
    pub(super) fn note_context(&mut self, context: &BTreeMap<String, String>) {
        self.entry_mut().context = context.clone();
    }

    /// Notes who did the work.
    pub(super) fn note_member(&mut self, member: MemberIndex) {
        let name = self.gateway.cluster.name(member).to_owned();
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
    pub(super) fn conclude<T>(mut self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append(&entry).map_err(ApiError::from),
            None => Ok(()),
        };
        self.reply(written.and(result))
    }

    /// Ends a change: the entry is on disk before the reply leaves.
    pub(super) async fn conclude_change<T>(mut self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        let written = match self.outcome(&result) {
            Some(entry) => self.gateway.audit.append_synced(&entry).await.map_err(ApiError::from),
            None => Ok(()),
        };
        self.reply(written.and(result))
    }

    fn reply<T>(&self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        result
            .map(Response::new)
            .map_err(|error| error.into_status(&self.request_id.to_string()))
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
            entry.outcome = "CANCELLED".to_owned();
            if let Err(error) = self.gateway.audit.append(&entry) {
                tracing::error!(%error, request = %self.request_id, "a cancelled call is not in the audit log");
            }
        }
    }
}

/// The time that the caller allows (gRPC over HTTP/2, `grpc-timeout`), less what the way back may take: an answer that says
/// why is worth more than a deadline that passes in silence.
fn time_allowed(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    let allowed = match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Some(allowed.saturating_sub((allowed / 10).min(WAY_BACK)).min(LONGEST))
}

const WAY_BACK: Duration = Duration::from_millis(20);
/// No operation waits longer, whatever its caller allows.
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_time_is_read_and_a_little_is_kept_for_the_way_back() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("ASCII"));
            time_allowed(&metadata)
        };
        assert_eq!(read("1S"), Some(Duration::from_millis(980)));
        assert_eq!(read("100m"), Some(Duration::from_millis(90)));
        assert_eq!(read("99999999H"), Some(LONGEST));
        for wrong in ["", "S", "1", "1x", "-1S", "123456789S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}

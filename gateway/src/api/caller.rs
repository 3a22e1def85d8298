//! Who asks, and until when: what all calls of one request have in common.

use super::{ApiError, Gateway, Reason, call::Refused, deadline::time_allowed};
use crate::{
    audit::{Entry, Phase},
    identity::Peer,
    telemetry::RequestId,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Request, Status};
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
    pub(super) fn entry(&self, action: &'static str) -> (Uuid, Entry) {
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
            named: None,
            rule: None,
            also: Vec::new(),
            mechanism: None,
            context: BTreeMap::new(),
            details: None,
            request_id: None,
            only_checked: false,
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
            .admit(self.peer.principal.as_str(), 0, quota, Instant::now());
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

/// No operation waits longer, whatever its caller allows.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

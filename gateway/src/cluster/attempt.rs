//! One attempt of an operation on one member: its grant, its reply, and what that means.

use super::{
    core::{Attempts, Grant, Needs, Next, Outcome},
    error::ClusterError,
    shell::{Cluster, MemberSlot},
    worker::{RequestError, UnderWay, Worker},
};
use crate::telemetry::Operation;
use portcullis_hsm::{
    key_token::TokenDigest,
    worker::protocol::{Failure, FailureKind, ReplyBody, RequestBody},
};
use std::sync::Arc;

/// Whether the key token goes with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendToken {
    /// The member may have it loaded.
    No,
    /// The member asked for it.
    Yes,
}

/// How an answer can be found wrong.
pub(super) struct Check<'a> {
    /// The key that answered.
    pub(super) key: &'a TokenDigest,
    /// What to say of a member whose answer is wrong.
    pub(super) complaint: &'static str,
    /// Whether an answer is right; `None` if that cannot be found out.
    pub(super) is_right: &'a (dyn Fn(&ReplyBody) -> Option<bool> + Sync),
}

/// A grant that is given back however the attempt ends. If its caller goes away, the worker is told; it counts until the worker
/// has answered: work that was begun is still work when nobody waits for it.
pub(super) struct Lease<'a> {
    cluster: &'a Arc<Cluster>,
    pub(super) grant: Grant,
    pub(super) slot: Arc<MemberSlot>,
    pub(super) under_way: Option<(Arc<Worker>, UnderWay)>,
    concluded: bool,
}

impl<'a> Lease<'a> {
    /// A grant under which nothing was sent yet.
    pub(super) fn new(cluster: &'a Arc<Cluster>, grant: Grant) -> Self {
        Self {
            cluster,
            slot: cluster.slot(grant.member),
            grant,
            under_way: None,
            concluded: false,
        }
    }

    pub(super) fn conclude(mut self, outcome: Outcome, attempts: &mut Attempts) -> Next {
        self.concluded = true;
        self.cluster.conclude(self.grant, outcome, attempts)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.concluded {
            return;
        }
        let (cluster, grant) = (Arc::clone(self.cluster), self.grant);
        let Some((worker, under_way)) = self.under_way.take() else {
            return cluster.abandon(grant, Outcome::Abandoned);
        };
        worker.cancel(under_way.id);
        drop(worker);
        tokio::spawn(async move {
            let outcome = match under_way.answer.await {
                // It was not begun, or failed: that tells nothing that is worth knowing.
                Ok(answer) if matches!(answer.body, ReplyBody::Failure(_)) => Outcome::Abandoned,
                // It was done for nobody, and shows how slow the member is: its caller may have had no time for that.
                Ok(_) => Outcome::Served,
                Err(_) => Outcome::Gone,
            };
            cluster.abandon(grant, outcome);
        });
    }
}

/// Why an attempt brought no reply.
pub(super) enum Missed {
    Gone,
    Deadline,
    TooLong(usize),
}

impl From<RequestError> for Missed {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Gone => Self::Gone,
            RequestError::TooLong(length) => Self::TooLong(length),
        }
    }
}

/// What an attempt means for the caller.
pub(super) enum Verdict {
    Answer(ReplyBody),
    Error(ClusterError),
    Elsewhere(Failure),
    Died,
    Unsupported(String),
}

/// What an attempt means for the member, if that is known already, and for the caller.
pub(super) fn judge(reply: Result<ReplyBody, Missed>) -> (Option<Outcome>, Verdict) {
    let failure: Failure = match reply {
        Err(Missed::Gone) => return (Some(Outcome::Gone), Verdict::Died),
        Err(Missed::Deadline) => return (None, Verdict::Error(ClusterError::DeadlinePassed)),
        Err(Missed::TooLong(length)) => {
            let message = format!("a request of {length} bytes is too long for a worker");
            return (Some(Outcome::Abandoned), Verdict::Error(ClusterError::Refused(message)));
        }
        Ok(ReplyBody::Failure(failure)) => failure,
        Ok(reply) => return (Some(Outcome::Served), Verdict::Answer(reply)),
    };
    let message = failure.message.clone();
    let (outcome, verdict) = match failure.kind() {
        FailureKind::Refused => (Outcome::Served, Verdict::Error(ClusterError::Refused(message))),
        FailureKind::ImportRefused => (Outcome::Served, Verdict::Error(ClusterError::ImportRefused(message))),
        FailureKind::ExportRefused => (Outcome::Served, Verdict::Error(ClusterError::ExportRefused(message))),
        FailureKind::DecryptionFailed => (Outcome::Served, Verdict::Error(ClusterError::DecryptionFailed)),
        FailureKind::NotAuthentic => (Outcome::Served, Verdict::Error(ClusterError::NotAuthentic(message))),
        // It was not begun: nothing is known of the member.
        FailureKind::DeadlinePassed => (Outcome::Abandoned, Verdict::Error(ClusterError::DeadlinePassed)),
        FailureKind::Unsupported => (Outcome::Unsupported, Verdict::Unsupported(message)),
        // One key is gone, which says nothing of the others; a token that is gone is found by its probes.
        FailureKind::KeyMissing => (Outcome::Abandoned, Verdict::Error(ClusterError::ResidentMissing)),
        FailureKind::Busy => (Outcome::Busy, Verdict::Elsewhere(failure)),
        FailureKind::Fatal => (Outcome::Lasting(message), Verdict::Elsewhere(failure)),
        // Tokens are looked for at a start alone; whoever says otherwise is not well.
        FailureKind::KeyNeeded | FailureKind::MemberFault | FailureKind::TokenAbsent | FailureKind::Unspecified => {
            (Outcome::Fault, Verdict::Elsewhere(failure))
        }
    };
    (Some(outcome), verdict)
}

/// What a member is asked to do, in the words of metrics and spans.
pub(super) fn operation(needs: &Needs, body: &RequestBody) -> Operation {
    let plain = |name| Operation { name, mechanism: "" };
    match (body, needs.uses.as_slice()) {
        (RequestBody::GenerateWrapped(_), _) => plain("generate_wrapped"),
        (RequestBody::GenerateResident(_), _) => plain("generate_resident"),
        (RequestBody::DestroyResident(_), _) => plain("destroy_resident"),
        (RequestBody::Random(_), _) => plain("random"),
        (RequestBody::CheckRecords(_), _) => plain("check_records"),
        (RequestBody::AuthenticateRows(_), _) => plain("authenticate_rows"),
        (_, [(operation, mechanism), ..]) => Operation {
            name: operation.name(),
            mechanism: mechanism.name(),
        },
        (_, []) => plain("other"),
    }
}

/// How an attempt ended, in the words of metrics and spans.
pub(super) fn outcome(reply: &Result<ReplyBody, Missed>) -> &'static str {
    match reply {
        Ok(ReplyBody::Failure(failure)) => failure_name(failure.kind()),
        Ok(_) => "served",
        Err(Missed::Gone) => "gone",
        Err(Missed::Deadline) => "deadline_passed",
        Err(Missed::TooLong(_)) => "too_long",
    }
}

fn failure_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Refused => "refused",
        FailureKind::DecryptionFailed => "decryption_failed",
        FailureKind::NotAuthentic => "not_authentic",
        FailureKind::Unsupported => "unsupported",
        FailureKind::DeadlinePassed => "deadline_passed",
        FailureKind::Busy => "busy",
        FailureKind::Fatal => "fatal",
        FailureKind::KeyMissing => "key_missing",
        FailureKind::ImportRefused => "import_refused",
        FailureKind::ExportRefused => "export_refused",
        FailureKind::KeyNeeded | FailureKind::MemberFault | FailureKind::TokenAbsent | FailureKind::Unspecified => {
            "member_fault"
        }
    }
}

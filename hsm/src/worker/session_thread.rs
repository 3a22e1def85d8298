//! A thread that owns one PKCS#11 session and does the work of the queue.

use super::{
    perform::perform,
    protocol::{Failure, FailureKind, ReplyBody, RequestBody},
    queue::Waiting,
    repair::with_repairs,
    reply::{Replies, Timing, failure},
};
use crate::{
    Error,
    member::Member,
    pkcs11::{Session, SessionKind},
};
use crossbeam_channel::Receiver;
use std::{sync::Arc, time::Instant};

/// A request that waits for a session.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) came: Instant,
    pub(super) start_by: Option<Instant>,
    pub(super) body: RequestBody,
}

/// Works on a session until the queue is closed and empty.
pub(super) fn work(
    member: &Arc<Member>,
    session: Session,
    queue: &Receiver<Job>,
    waiting: &Waiting,
    replies: &Replies,
) {
    let mut session = Some(session);
    for job in queue {
        let timing = Timing::begin(job.came);
        let result = if !waiting.take(job.id) {
            Err(failure(
                FailureKind::DeadlinePassed,
                "its caller went away before the work could start",
            ))
        } else if job.start_by.is_some_and(|start_by| timing.began() >= start_by) {
            Err(too_late())
        } else {
            with_repairs(member, |_| true, || attempt(member, &mut session, &job.body))
                .map_err(|error| Failure::from(&error))
        };
        replies.send(job.id, timing, result);
    }
}

/// The answer to work whose time ran out while it waited.
pub(super) fn too_late() -> Failure {
    failure(
        FailureKind::DeadlinePassed,
        "the deadline passed before the work could start",
    )
}

/// Runs a job on the thread's session; a session that saw an error is closed.
fn attempt(member: &Member, session: &mut Option<Session>, body: &RequestBody) -> Result<ReplyBody, Error> {
    let mut open = match session.take() {
        Some(open) => open,
        None => member.open_session(SessionKind::ReadOnly)?,
    };
    let result = perform(member, &mut open, body);
    if matches!(result, Ok(_) | Err(Error::NotLoaded | Error::NotPermitted(..))) {
        *session = Some(open);
    }
    result
}

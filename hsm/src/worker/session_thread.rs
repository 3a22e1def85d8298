//! A thread that owns one PKCS#11 session and does the work of the queue.
//!
//! While more of the same waits, with the same key, so that it takes as long, replies are held for a moment and sent together: at such times
//! each reply by itself costs two processes more than it is worth.

use super::{
    perform::perform,
    protocol::{Failure, FailureKind, ReplyBody, RequestBody},
    queue::{Jobs, Turn},
    repair::with_repairs,
    reply::{HeldReplies, Replies, Timing, failure},
};
use crate::{
    Error,
    member::Member,
    pkcs11::{Session, SessionKind},
};
use std::{sync::Arc, time::Instant};

/// A request that waits for a session.
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) came: Instant,
    pub(super) start_by: Option<Instant>,
    pub(super) body: RequestBody,
}

/// Works on a session until the queue is closed and empty.
pub(super) fn work(member: &Arc<Member>, session: Session, jobs: &Jobs, replies: &Replies) {
    let mut session = Some(session);
    let mut held = HeldReplies::new(replies);
    let mut next = jobs.next();
    while let Some(Turn { job, is_cancelled }) = next {
        let timing = Timing::begin(job.came);
        let result = if is_cancelled {
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
        held.add(job.id, timing, result);
        let waiting = jobs.next_waiting();
        if !waiting.as_ref().is_some_and(|turn| is_alike(&job.body, &turn.job.body)) {
            held.send();
        }
        // Not kept while the thread waits for the next one: it may hold a plaintext.
        drop(job);
        next = waiting.or_else(|| jobs.next());
    }
}

/// Whether two requests take as long: they are of one kind, and use one key.
fn is_alike(one: &RequestBody, other: &RequestBody) -> bool {
    match (one, other) {
        (RequestBody::Sign(one), RequestBody::Sign(other)) => one.key.digest == other.key.digest,
        (RequestBody::VerifyMac(one), RequestBody::VerifyMac(other)) => one.key.digest == other.key.digest,
        (RequestBody::Encrypt(one), RequestBody::Encrypt(other)) => one.key.digest == other.key.digest,
        (RequestBody::Decrypt(one), RequestBody::Decrypt(other)) => one.key.digest == other.key.digest,
        _ => false,
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

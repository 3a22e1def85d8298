//! Watches one attempt of an operation on a member.

use super::{
    Telemetry,
    attribute::{EPOCH, MECHANISM, MEMBER, OPERATION, OUTCOME, SESSION_WAIT},
    metrics::Operation,
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::Span;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// An attempt under way. One that is dropped before its end was abandoned by its caller.
#[derive(Debug)]
pub struct Attempt<'a> {
    telemetry: &'a Telemetry,
    member: &'a Arc<str>,
    operation: Option<Operation>,
    // When the question was sent that has no answer yet.
    unanswered: Option<Instant>,
    worked: Duration,
    span: Option<Span>,
    concluded: bool,
}

impl<'a> Attempt<'a> {
    /// Begins one; its span is a child of the request's.
    pub fn begin(telemetry: &'a Telemetry, member: &'a Arc<str>, epoch: u64) -> Self {
        let traced = Context::map_current(|context| context.span().is_recording());
        let span = telemetry.tracer().filter(|_| traced).map(|tracer| {
            let attributes = [
                KeyValue::new(MEMBER, Arc::clone(member)),
                KeyValue::new(EPOCH, i64::try_from(epoch).unwrap_or(i64::MAX)),
            ];
            tracer
                .span_builder("hsm.attempt")
                .with_kind(SpanKind::Internal)
                .with_attributes(attributes)
                .start(tracer)
        });
        Self {
            telemetry,
            member,
            operation: None,
            unanswered: None,
            worked: Duration::ZERO,
            span,
            concluded: false,
        }
    }

    /// The member was asked.
    pub fn asked(&mut self, operation: Operation) {
        self.operation = Some(operation);
        self.unanswered = Some(Instant::now());
    }

    /// The member answered; it says how long the request waited for a session and how long the work took.
    pub fn answered(&mut self, waited: Duration, worked: Duration) {
        self.unanswered = None;
        self.worked += worked;
        self.telemetry.metrics().waited(self.member, waited);
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(SESSION_WAIT, waited.as_secs_f64()));
        }
    }

    /// The attempt ended.
    pub fn conclude(mut self, outcome: &'static str) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: &'static str) {
        if std::mem::replace(&mut self.concluded, true) {
            return;
        }
        if let Some(operation) = self.operation {
            let took = self.worked + self.unanswered.map_or(Duration::ZERO, |asked| asked.elapsed());
            self.telemetry
                .metrics()
                .operation(self.member, operation, outcome, took);
        }
        let Some(span) = &mut self.span else { return };
        if let Some(operation) = self.operation {
            span.set_attribute(KeyValue::new(OPERATION, operation.name));
            if !operation.mechanism.is_empty() {
                span.set_attribute(KeyValue::new(MECHANISM, operation.mechanism));
            }
        }
        span.set_attribute(KeyValue::new(OUTCOME, outcome));
        if FAULTS.contains(&outcome) {
            span.set_status(Status::error(outcome));
        }
        span.end();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end("abandoned");
    }
}

/// The outcomes that are a member's fault; see `cluster::attempt`.
const FAULTS: [&str; 3] = ["fatal", "gone", "member_fault"];

//! Watches each call from its headers to the end of its answer.
//!
//! The request's id and trace are made here, outside of everything else, so that every line of the log that is written on
//! its behalf has them, and every attempt on a member has a parent.

use super::{
    Telemetry,
    attribute::{ERROR_TYPE, REASON, REQUEST_ID, RPC_METHOD, RPC_STATUS, RPC_SYSTEM_NAME},
};
use crate::api::Reason;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::{
    Context, KeyValue, StringValue,
    context::FutureExt,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanKind, Status as SpanStatus, TraceContextExt, Tracer},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Instant,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::{Instrument, Span};
use uuid::Uuid;

/// The id of a request, as an extension of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub Uuid);

/// The outermost layer of the server.
#[derive(Debug, Clone)]
pub struct WatchCalls(Arc<Telemetry>);

impl WatchCalls {
    /// A layer that tells of calls.
    pub fn new(telemetry: &Arc<Telemetry>) -> Self {
        Self(Arc::clone(telemetry))
    }
}

impl<S> Layer<S> for WatchCalls {
    type Service = WatchedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WatchedService {
            inner,
            telemetry: Arc::clone(&self.0),
        }
    }
}

/// A service whose calls are watched.
#[derive(Debug, Clone)]
pub struct WatchedService<S> {
    inner: S,
    telemetry: Arc<Telemetry>,
}

impl<S, A, B> Service<Request<A>> for WatchedService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes>,
{
    type Response = Response<Watched<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let id = Uuid::now_v7();
        request.extensions_mut().insert(RequestId(id));
        let method = self.telemetry.methods.named(request.uri().path());
        let context = self.telemetry.begin_trace(&method, id, request.headers());
        let trace = context.span().span_context().clone();
        // The level at which no filter drops it: it is the ids of whatever line is shown.
        let log = tracing::error_span!(
            "request",
            id = %id,
            trace = trace.is_valid().then(|| tracing::field::display(trace.trace_id())),
        );
        let observation = Observation {
            telemetry: Arc::clone(&self.telemetry),
            method,
            started: Instant::now(),
            context: context.clone(),
            status: Code::Cancelled,
            reason: None,
        };
        let body_log = log.clone();
        let call = {
            let _context = context.clone().attach();
            log.in_scope(|| self.inner.call(request))
        };
        let watched = async move {
            // Dropped with the future when the caller goes away.
            let mut observation = observation;
            let response = call.await?;
            let ended = observation.see(response.headers());
            Ok(response.map(|body| {
                if !ended && body.is_end_stream() {
                    observation.status = Code::Unknown;
                }
                let under_way = !ended && !body.is_end_stream();
                Watched {
                    body,
                    observation: under_way.then_some(observation),
                    context: Context::current(),
                    log: body_log,
                }
            }))
        };
        Box::pin(watched.with_context(context).instrument(log))
    }
}

/// The body of an answer. What makes it as it goes belongs to the request too.
#[derive(Debug)]
pub struct Watched<B> {
    body: B,
    // Absent once the end was seen.
    observation: Option<Observation>,
    context: Context,
    log: Span,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let frame = {
            let _context = this.context.clone().attach();
            this.log.in_scope(|| Pin::new(&mut this.body).poll_frame(context))
        };
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(mut observation) = this.observation.take()
                    && !observation.see(trailers)
                {
                    observation.status = Code::Unknown;
                }
            }
            Poll::Ready(_) => {
                if let Some(mut observation) = this.observation.take() {
                    observation.status = Code::Unknown;
                }
            }
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is known of a call; told when it is dropped. One whose end was never seen was cancelled.
#[derive(Debug)]
struct Observation {
    telemetry: Arc<Telemetry>,
    method: StringValue,
    started: Instant,
    context: Context,
    status: Code,
    reason: Option<Reason>,
}

impl Observation {
    /// Takes the status from headers or trailers; says whether there was one.
    fn see(&mut self, headers: &HeaderMap) -> bool {
        let Some(status) = Status::from_header_map(headers) else {
            return false;
        };
        self.status = status.code();
        if status.code() != Code::Ok {
            let info = status.get_details_error_info();
            self.reason = info.and_then(|info| Reason::named(&info.reason));
        }
        true
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let (status, fault) = (status_name(self.status), is_fault(self.status));
        let metrics = self.telemetry.metrics();
        metrics.call(self.method.clone(), status, fault, self.started.elapsed());
        if let Some(reason) = self.reason {
            metrics.refused(reason);
        }
        let span = self.context.span();
        if !span.is_recording() {
            return;
        }
        span.set_attribute(KeyValue::new(RPC_STATUS, status));
        if let Some(reason) = self.reason {
            span.set_attribute(KeyValue::new(REASON, reason.name()));
        }
        if fault {
            span.set_attribute(KeyValue::new(ERROR_TYPE, status));
            // The status's own words may hold a name that the caller chose.
            span.set_status(SpanStatus::error(status));
        }
        span.end();
    }
}

impl Telemetry {
    /// The context of a call: its span if it is traced, else its caller's, if that sent a `traceparent` (W3C Trace Context).
    fn begin_trace(&self, method: &StringValue, id: Uuid, headers: &HeaderMap) -> Context {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(headers));
        let Some(tracer) = self.tracer() else { return parent };
        let attributes = [
            KeyValue::new(RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(RPC_METHOD, method.clone()),
            KeyValue::new(REQUEST_ID, id.to_string()),
        ];
        let span = tracer
            .span_builder(method.as_str().to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, &parent);
        parent.with_span(span)
    }
}

/// The one header that is believed. What `tracestate` and baggage hold is the caller's, and would be sent on as it is.
struct Traceparent<'a>(&'a HeaderMap);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then(|| self.0.get(TRACEPARENT)?.to_str().ok())?
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// The statuses that tell of the server and not of the request (OpenTelemetry's conventions for gRPC).
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A code's name in gRPC's own list.
fn status_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

const TRACEPARENT: &str = "traceparent";

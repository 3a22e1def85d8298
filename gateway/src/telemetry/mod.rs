//! What the gateway tells of itself to those who run it: traces and metrics by OTLP, and metrics for Prometheus.
//!
//! - [`Telemetry`] (here) is started once and handed to whoever has something to tell. Switched off, it costs next to
//!   nothing.
//! - [`catalog`]: every metric, and [`attribute`]: every attribute that can leave the gateway. `docs/telemetry.md` has both.
//! - [`metrics`]: the instruments that are told of events; `observed`: what is asked when somebody reads.
//! - `request`: watches each call from its headers to the end of its answer: its span, its duration, its ids in the log.
//! - `attempt`: watches an attempt of an operation on a member.
//! - `otlp`: the way to the collector. `scrape`: the endpoint that Prometheus reads.
//!
//! Nothing here is waited for by a request. What a collector does not take in time is dropped.

pub mod attribute;
pub mod catalog;
pub mod metrics;

mod attempt;
mod method;
mod observed;
mod otlp;
mod process;
mod request;
mod scrape;

pub use attempt::Attempt;
pub use metrics::{AuditStage, HandshakeFailure, Listener, LoadedKeys, Metrics, OpenConnection, Operation};
pub use observed::Observed;
pub use request::{RequestId, WatchCalls, Watched};

use crate::config::TelemetrySettings;
use attribute::{KEY_UID, MECHANISM, MEMBER};
use method::Methods;
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    metrics::{Meter, MeterProvider, NoopMeterProvider},
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanExporter},
};
use portcullis_hsm::algorithm::Mechanism;
use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tracing::Instrument;
use uuid::Uuid;

/// Why telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A certificate or key for the collector.
    #[error("{path}: {reason}")]
    Credentials {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The exporter or its URL.
    #[error("telemetry cannot be exported to {endpoint}: {reason}")]
    Exporter {
        /// The collector.
        endpoint: String,
        /// Why not.
        reason: String,
    },
    /// The endpoint for Prometheus.
    #[error("metrics cannot be served on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A mistake in the gateway.
    #[error("metrics cannot be set up: {0}")]
    Metrics(String),
}

/// The gateway's voice. Shared by all its parts.
pub struct Telemetry {
    metrics: Metrics,
    methods: Methods,
    meter: Meter,
    // Absent where nobody reads metrics.
    meters: Option<SdkMeterProvider>,
    // Absent where no traces are exported.
    tracing: Option<(SdkTracerProvider, SdkTracer)>,
    started: Instant,
    // When the certificate of the mTLS listener expires, in seconds since 1970; `NONE` without one.
    certificate_expires: Arc<AtomicI64>,
    endpoint: OnceLock<scrape::Endpoint>,
}

impl Telemetry {
    /// Starts what is configured: the exporters and the endpoint for Prometheus. Runs inside the asynchronous runtime, which
    /// carries the connection to the collector.
    pub async fn start(settings: &TelemetrySettings) -> Result<Arc<Self>, TelemetryError> {
        let resource = resource(settings);
        let mut meters = SdkMeterProvider::builder().with_resource(resource.clone());
        let mut tracers = None;
        if let Some(otlp) = &settings.otlp {
            let channel = otlp::channel(otlp)?;
            let reader = PeriodicReader::builder(otlp::metric_exporter(otlp, &channel)?);
            meters = meters.with_reader(reader.with_interval(settings.otlp_interval).build());
            let spans = otlp::span_exporter(otlp, &channel)?;
            tracers = Some(tracer_provider(spans, resource, settings.trace_sample_ratio));
        }
        let Some(address) = &settings.prometheus else {
            let meters = settings.otlp.is_some().then(|| meters.build());
            return Ok(Arc::new(Self::new(meters, tracers)));
        };
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| TelemetryError::Metrics(error.to_string()))?;
        let telemetry = Self::new(Some(meters.with_reader(exporter).build()), tracers);
        let endpoint = scrape::Endpoint::open(address, registry)
            .await
            .map_err(|source| TelemetryError::Listen {
                address: address.to_string(),
                source,
            })?;
        // Invariant: nobody else has set it yet.
        let _ = telemetry.endpoint.set(endpoint);
        Ok(Arc::new(telemetry))
    }

    /// Tells nobody anything.
    pub fn off() -> Arc<Self> {
        Arc::new(Self::new(None, None))
    }

    fn new(meters: Option<SdkMeterProvider>, tracers: Option<SdkTracerProvider>) -> Self {
        // A provider that nobody reads from calls each instrument that is asked a failure.
        let meter = match &meters {
            Some(meters) => meters.meter(SCOPE),
            None => NoopMeterProvider::new().meter(SCOPE),
        };
        let tracing = tracers.map(|provider| {
            let tracer = provider.tracer(SCOPE);
            (provider, tracer)
        });
        Self {
            metrics: Metrics::new(&meter),
            methods: Methods::of_the_api(),
            meter,
            meters,
            tracing,
            started: Instant::now(),
            certificate_expires: Arc::new(AtomicI64::new(NONE)),
            endpoint: OnceLock::new(),
        }
    }

    /// The instruments.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Says when the certificate of the mTLS listener expires, if that is known. Said again when another one is taken.
    pub fn certificate_expires(&self, at: Option<SystemTime>) {
        let seconds = at.map_or(NONE, |at| match at.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(_) => 0,
        });
        self.certificate_expires.store(seconds, Ordering::Relaxed);
    }

    /// Sends what was not sent yet, as far as the collector takes it in time, and ends.
    pub async fn stop(self: Arc<Self>) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.close();
        }
        let stopping = tokio::task::spawn_blocking(move || {
            if let Some((provider, _)) = &self.tracing
                && let Err(error) = provider.shutdown_with_timeout(EXPORT_LIMIT)
            {
                tracing::debug!(%error, "the last spans may be lost");
            }
            if let Some(meters) = &self.meters
                && let Err(error) = meters.shutdown_with_timeout(EXPORT_LIMIT)
            {
                tracing::debug!(%error, "the last metrics may be lost");
            }
        });
        if tokio::time::timeout(2 * EXPORT_LIMIT, stopping).await.is_err() {
            tracing::warn!("the collector did not take the last telemetry in time");
        }
    }

    fn tracer(&self) -> Option<&SdkTracer> {
        self.tracing.as_ref().map(|(_, tracer)| tracer)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// Notes on the span of the request under way which key it uses.
pub fn note_key(uid: Uuid) {
    note(|| KeyValue::new(KEY_UID, uid.to_string()));
}

/// Notes on the span of the request under way which mechanism it uses.
pub fn note_mechanism(mechanism: Mechanism) {
    note(|| KeyValue::new(MECHANISM, mechanism.name()));
}

/// Notes on the span of the request under way which member did the work.
pub fn note_member(member: &str) {
    note(|| KeyValue::new(MEMBER, member.to_owned()));
}

/// Lets a task that goes on alone belong to the request that it was started by, in traces and in the log.
pub fn follow<F: Future>(task: F) -> impl Future<Output = F::Output> {
    task.with_current_context().in_current_span()
}

fn note(attribute: impl FnOnce() -> KeyValue) {
    Context::map_current(|context| {
        let span = context.span();
        if span.is_recording() {
            span.set_attribute(attribute());
        }
    });
}

fn resource(settings: &TelemetrySettings) -> Resource {
    let configured = settings
        .resource
        .iter()
        .map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    // Last, because the configuration must not speak for the gateway.
    Resource::builder_empty()
        .with_attributes(configured)
        .with_attributes([
            KeyValue::new("service.name", settings.service_name.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        ])
        .build()
}

fn tracer_provider(exporter: impl SpanExporter + 'static, resource: Resource, ratio: f64) -> SdkTracerProvider {
    let batches = BatchConfigBuilder::default().with_scheduled_delay(SPAN_DELAY).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    SdkTracerProvider::builder()
        .with_span_processor(processor)
        // Who sends a traceparent has decided for the whole trace.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build()
}

const SCOPE: &str = "portcullis";
const NONE: i64 = i64::MIN;
/// How long a collector may take for one export.
const EXPORT_LIMIT: Duration = Duration::from_secs(3);
/// How long spans wait for others to be sent with.
const SPAN_DELAY: Duration = Duration::from_secs(1);

//! The instruments, each with the question that its call site can answer.

use super::{
    attribute::{
        ACTION, EFFECT, ERROR_TYPE, LISTENER, MECHANISM, MEMBER, OPERATION, OUTCOME, REASON, RESULT, RPC_METHOD,
        RPC_STATUS, RPC_SYSTEM_NAME, STAGE, STATE,
    },
    catalog::{self, Definition},
};
use crate::{api::Reason, cluster::core::BreakerState};
use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter},
};
use std::{sync::Arc, time::Duration};

/// The instruments that are told of events. What can be asked at any time is in `observed`.
#[derive(Debug)]
pub struct Metrics {
    calls: Histogram<f64>,
    refused: Counter<u64>,
    decisions: Counter<u64>,
    operations: Histogram<f64>,
    waits: Histogram<f64>,
    retries: Counter<u64>,
    breaker_changes: Counter<u64>,
    signatures_checked: Counter<u64>,
    loaded_lookups: Counter<u64>,
    loaded_evictions: Counter<u64>,
    loaded_size: Gauge<u64>,
    directory_lookups: Counter<u64>,
    transactions: Histogram<f64>,
    changes: Histogram<u64>,
    queries: Histogram<f64>,
    appends: Histogram<f64>,
    syncs: Histogram<f64>,
    audit_errors: Counter<u64>,
    connections: UpDownCounter<i64>,
    handshakes: Counter<u64>,
}

/// A breaker's state, in the words of metrics.
pub(super) fn breaker_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

/// What a worker said of its loaded keys since it said so last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadedKeys {
    /// Uses of a key that was loaded.
    pub hits: u64,
    /// Keys that were loaded.
    pub loads: u64,
    /// Keys that were taken out.
    pub evictions: u64,
    /// Keys that are loaded now.
    pub loaded: u64,
}

/// What a member was asked to do, in the words of metrics and spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Which operation.
    pub name: &'static str,
    /// By which mechanism; empty where that says nothing.
    pub mechanism: &'static str,
}

/// Where the audit log fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditStage {
    /// An entry could not be written.
    Append,
    /// The file could not be synced.
    Sync,
}

/// A listener, in the words of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The Unix socket.
    Unix,
    /// The mTLS listener.
    Tls,
}

/// Why a TLS connection was refused before its first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// Too many handshakes were under way, and it was the oldest of them.
    TooMany,
    /// It said nothing, or did not finish in time.
    Slow,
    /// TLS failed: a wrong version, a certificate of an unknown authority, none at all.
    Refused,
    /// As many connections as may be are open.
    Full,
}

impl HandshakeFailure {
    const ALL: [Self; 4] = [Self::TooMany, Self::Slow, Self::Refused, Self::Full];

    fn name(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Slow => "slow",
            Self::Refused => "refused",
            Self::Full => "full",
        }
    }
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    connections: UpDownCounter<i64>,
    listener: Listener,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.add(-1, &[self.listener.attribute()]);
    }
}

impl Listener {
    fn attribute(self) -> KeyValue {
        let name = match self {
            Self::Unix => "unix",
            Self::Tls => "tls",
        };
        KeyValue::new(LISTENER, name)
    }
}

impl AuditStage {
    const ALL: [Self; 2] = [Self::Append, Self::Sync];

    fn attribute(self) -> KeyValue {
        let name = match self {
            Self::Append => "append",
            Self::Sync => "sync",
        };
        KeyValue::new(STAGE, name)
    }
}

impl Metrics {
    /// Makes the instruments. Counters whose series are known beforehand start at 0, so that their first event is seen as a
    /// rise.
    pub(super) fn new(meter: &Meter) -> Self {
        let metrics = Self {
            calls: durations(meter, &catalog::CALL_DURATION),
            refused: counter(meter, &catalog::REFUSED),
            decisions: counter(meter, &catalog::DECISIONS),
            operations: durations(meter, &catalog::OPERATION_DURATION),
            waits: durations(meter, &catalog::SESSION_WAIT),
            retries: counter(meter, &catalog::RETRIES),
            breaker_changes: counter(meter, &catalog::BREAKER_CHANGES),
            signatures_checked: counter(meter, &catalog::SIGNATURES_CHECKED),
            loaded_lookups: counter(meter, &catalog::LOADED_LOOKUPS),
            loaded_evictions: counter(meter, &catalog::LOADED_EVICTIONS),
            loaded_size: meter
                .u64_gauge(catalog::LOADED_SIZE.name)
                .with_unit(catalog::LOADED_SIZE.unit)
                .with_description(catalog::LOADED_SIZE.description)
                .build(),
            directory_lookups: counter(meter, &catalog::DIRECTORY_LOOKUPS),
            transactions: durations(meter, &catalog::TRANSACTION_DURATION),
            changes: sizes(meter, &catalog::TRANSACTION_CHANGES),
            queries: durations(meter, &catalog::QUERY_DURATION),
            appends: durations(meter, &catalog::APPEND_DURATION),
            syncs: durations(meter, &catalog::SYNC_DURATION),
            audit_errors: counter(meter, &catalog::AUDIT_ERRORS),
            connections: meter
                .i64_up_down_counter(catalog::CONNECTIONS.name)
                .with_unit(catalog::CONNECTIONS.unit)
                .with_description(catalog::CONNECTIONS.description)
                .build(),
            handshakes: counter(meter, &catalog::HANDSHAKES_FAILED),
        };
        for reason in Reason::ALL {
            metrics.refused.add(0, &[KeyValue::new(REASON, reason.name())]);
        }
        for reason in RETRY_REASONS {
            metrics.retries.add(0, &[KeyValue::new(REASON, reason)]);
        }
        for failure in HandshakeFailure::ALL {
            metrics.handshakes.add(0, &[KeyValue::new(REASON, failure.name())]);
        }
        for stage in AuditStage::ALL {
            metrics.audit_errors.add(0, &[stage.attribute()]);
        }
        for result in [HIT, MISS] {
            metrics.directory_lookups.add(0, &[KeyValue::new(RESULT, result)]);
        }
        metrics
    }

    /// A call ended; `fault` where its status tells of one.
    pub fn call(&self, method: StringValue, status: &'static str, fault: bool, took: Duration) {
        let attributes = [
            KeyValue::new(RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(RPC_METHOD, method),
            KeyValue::new(RPC_STATUS, status),
            KeyValue::new(ERROR_TYPE, status),
        ];
        let shown = if fault { &attributes[..] } else { &attributes[..3] };
        self.calls.record(took.as_secs_f64(), shown);
    }

    /// A call ended in an error of ours.
    pub fn refused(&self, reason: Reason) {
        self.refused.add(1, &[KeyValue::new(REASON, reason.name())]);
    }

    /// The policy decided about a call.
    pub fn decided(&self, action: &'static str, allowed: bool) {
        let effect = if allowed { "allow" } else { "deny" };
        let attributes = [KeyValue::new(ACTION, action), KeyValue::new(EFFECT, effect)];
        self.decisions.add(1, &attributes);
    }

    /// A member worked on an operation, or was waited for in vain.
    pub fn operation(&self, member: &Arc<str>, operation: Operation, outcome: &'static str, took: Duration) {
        let attributes = [
            KeyValue::new(MEMBER, Arc::clone(member)),
            KeyValue::new(OPERATION, operation.name),
            KeyValue::new(OUTCOME, outcome),
            KeyValue::new(MECHANISM, operation.mechanism),
        ];
        let shown = if operation.mechanism.is_empty() {
            &attributes[..3]
        } else {
            &attributes[..]
        };
        self.operations.record(took.as_secs_f64(), shown);
    }

    /// An operation waited in a member's worker.
    pub fn waited(&self, member: &Arc<str>, wait: Duration) {
        let attributes = [KeyValue::new(MEMBER, Arc::clone(member))];
        self.waits.record(wait.as_secs_f64(), &attributes);
    }

    /// An operation goes on to another member.
    pub fn retried(&self, reason: &'static str) {
        self.retries.add(1, &[KeyValue::new(REASON, reason)]);
    }

    /// There is a member: what counts its changes is there before the first.
    pub fn member_known(&self, member: &Arc<str>) {
        for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
            let attributes = [
                KeyValue::new(MEMBER, Arc::clone(member)),
                KeyValue::new(STATE, breaker_name(state)),
            ];
            self.breaker_changes.add(0, &attributes);
        }
    }

    /// A member's breaker came to another state.
    pub fn breaker_changed(&self, member: &Arc<str>, state: BreakerState) {
        let attributes = [
            KeyValue::new(MEMBER, Arc::clone(member)),
            KeyValue::new(STATE, breaker_name(state)),
        ];
        self.breaker_changes.add(1, &attributes);
    }

    /// A signature was verified before it was released.
    pub fn checked(&self, is_right: bool) {
        let result = if is_right { "right" } else { "wrong" };
        self.signatures_checked.add(1, &[KeyValue::new(RESULT, result)]);
    }

    /// A worker told of its loaded keys.
    pub fn loaded_keys(&self, member: &Arc<str>, since: LoadedKeys) {
        let member = || KeyValue::new(MEMBER, Arc::clone(member));
        for (result, count) in [(HIT, since.hits), (MISS, since.loads)] {
            self.loaded_lookups
                .add(count, &[member(), KeyValue::new(RESULT, result)]);
        }
        self.loaded_evictions.add(since.evictions, &[member()]);
        self.loaded_size.record(since.loaded, &[member()]);
    }

    /// A key's record was in memory, or was not.
    pub fn directory_lookup(&self, hit: bool) {
        let result = if hit { HIT } else { MISS };
        self.directory_lookups.add(1, &[KeyValue::new(RESULT, result)]);
    }

    /// The database ended a transaction of so many changes.
    pub fn transaction(&self, changes: usize, committed: bool, took: Duration) {
        let outcome = if committed { "committed" } else { "failed" };
        self.transactions
            .record(took.as_secs_f64(), &[KeyValue::new(OUTCOME, outcome)]);
        self.changes.record(changes as u64, &[]);
    }

    /// The database was read.
    pub fn query(&self, took: Duration) {
        self.queries.record(took.as_secs_f64(), &[]);
    }

    /// An audit entry was written.
    pub fn appended(&self, took: Duration) {
        self.appends.record(took.as_secs_f64(), &[]);
    }

    /// The audit file was synced.
    pub fn synced(&self, took: Duration) {
        self.syncs.record(took.as_secs_f64(), &[]);
    }

    /// The audit log failed.
    pub fn audit_failed(&self, stage: AuditStage) {
        self.audit_errors.add(1, &[stage.attribute()]);
    }

    /// A connection is open, until what this returns is dropped.
    pub fn connected(&self, listener: Listener) -> OpenConnection {
        self.connections.add(1, &[listener.attribute()]);
        OpenConnection {
            connections: self.connections.clone(),
            listener,
        }
    }

    /// A TLS connection was refused before its first call.
    pub fn handshake_failed(&self, failure: HandshakeFailure) {
        self.handshakes.add(1, &[KeyValue::new(REASON, failure.name())]);
    }
}

fn counter(meter: &Meter, definition: &Definition) -> Counter<u64> {
    meter
        .u64_counter(definition.name)
        .with_unit(definition.unit)
        .with_description(definition.description)
        .build()
}

fn durations(meter: &Meter, definition: &Definition) -> Histogram<f64> {
    meter
        .f64_histogram(definition.name)
        .with_unit(definition.unit)
        .with_description(definition.description)
        .with_boundaries(SECONDS.to_vec())
        .build()
}

fn sizes(meter: &Meter, definition: &Definition) -> Histogram<u64> {
    meter
        .u64_histogram(definition.name)
        .with_unit(definition.unit)
        .with_description(definition.description)
        .with_boundaries(BATCHES.to_vec())
        .build()
}

const HIT: &str = "hit";
const MISS: &str = "miss";
/// Why operations go on to another member; see `cluster::attempt`.
const RETRY_REASONS: [&str; 5] = ["busy", "fatal", "gone", "member_fault", "unsupported"];
/// From what a signature in software takes to what a hanging module takes.
const SECONDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const BATCHES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

//! Every metric of the gateway: its name, what it counts, and the attributes that tell its series apart.
//!
//! All attributes have few values: configured names, or names in the code. `docs/telemetry.md` has the same list.

use super::attribute::{
    ACTION, EFFECT, ERROR_TYPE, LISTENER, MECHANISM, MEMBER, OPERATION, OUTCOME, REASON, RESULT, RPC_METHOD,
    RPC_STATUS, RPC_SYSTEM_NAME, STAGE, STATE, VERSION,
};

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Its name. Prometheus sees underscores for dots, the unit's name at the end, and `_total` after a counter.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The unit (UCUM).
    pub unit: &'static str,
    /// What it tells.
    pub description: &'static str,
    /// The attributes of its series.
    pub attributes: &'static [&'static str],
}

/// A kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations, in seconds.
    Durations,
    /// Sizes of batches.
    Sizes,
}

impl Kind {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Durations | Self::Sizes => "histogram",
        }
    }
}

impl Definition {
    /// The name that Prometheus shows, without `_bucket`, `_sum` and `_count`.
    pub fn prometheus_name(&self) -> String {
        let name = self.name.replace('.', "_");
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{name}{unit}{suffix}")
    }
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$unit:literal] by $attributes:tt: $description:literal;)*) => {
        $(
            #[doc = $description]
            pub const $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                description: $description,
                attributes: &$attributes,
            };
        )*

        /// All of them.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

metrics! {
    CALL_DURATION = Durations "rpc.server.call.duration" ["s"] by [RPC_SYSTEM_NAME, RPC_METHOD, RPC_STATUS, ERROR_TYPE]:
        "How long calls took, from their headers to the end of the answer.";
    REFUSED = Counter "portcullis.requests.refused" ["{request}"] by [REASON]:
        "Calls that ended in an error, by its stable reason.";
    DECISIONS = Counter "portcullis.policy.decisions" ["{decision}"] by [ACTION, EFFECT]:
        "What the policy decided about calls.";
    OPERATION_DURATION = Durations "portcullis.hsm.operation.duration" ["s"] by [MEMBER, OPERATION, MECHANISM, OUTCOME]:
        "How long members worked on operations, without waiting; without an answer, how long it was waited for.";
    SESSION_WAIT = Durations "portcullis.hsm.session.wait" ["s"] by [MEMBER]:
        "How long operations waited in a worker for a session.";
    OUTSTANDING = Gauge "portcullis.hsm.operations.outstanding" ["{operation}"] by [MEMBER]:
        "Operations that a member has and has not answered.";
    LIMIT = Gauge "portcullis.hsm.operations.limit" ["{operation}"] by [MEMBER]:
        "Operations that a member may have at once.";
    RETRIES = Counter "portcullis.hsm.retries" ["{retry}"] by [REASON]:
        "Operations that went on to another member, by what happened on the one before.";
    MEMBER_STATE = Gauge "portcullis.member.state" ["{member}"] by [MEMBER, STATE]:
        "1 for the state that a member is in, 0 for the others.";
    WORKER_STARTS = Counter "portcullis.member.worker.starts" ["{start}"] by [MEMBER]:
        "Workers that were started.";
    MEMBER_WORKERS = Gauge "portcullis.member.workers" ["{worker}"] by [MEMBER, STATE]:
        "Workers of a member in each state.";
    MEMBER_SLOWNESS = Gauge "portcullis.member.slowness" ["{ratio}"] by [MEMBER]:
        "How long a member takes for its work beside the cluster as a whole; 1 is as long.";
    BREAKER_STATE = Gauge "portcullis.member.breaker.state" ["{breaker}"] by [MEMBER, STATE]:
        "1 for the state of a member's breaker, 0 for the others: an open one keeps work away from a member that fails at it.";
    BREAKER_CHANGES = Counter "portcullis.member.breaker.changes" ["{change}"] by [MEMBER, STATE]:
        "Changes of a member's breaker, by the state that it came to.";
    SIGNATURES_CHECKED = Counter "portcullis.signatures.checked" ["{signature}"] by [RESULT]:
        "Signatures that were verified before they were released; a wrong one fences its member.";
    LOADED_LOOKUPS = Counter "portcullis.loaded_keys.lookups" ["{lookup}"] by [MEMBER, RESULT]:
        "Uses of a key that a member had loaded (hit), and keys that it loaded (miss); as of its last probe.";
    LOADED_EVICTIONS = Counter "portcullis.loaded_keys.evictions" ["{key}"] by [MEMBER]:
        "Loaded keys that were taken out to make room for others; as of the last probe.";
    LOADED_SIZE = Gauge "portcullis.loaded_keys.size" ["{key}"] by [MEMBER]:
        "Keys that a member has loaded; as of its last probe.";
    DIRECTORY_LOOKUPS = Counter "portcullis.key_directory.lookups" ["{lookup}"] by [RESULT]:
        "Key records that were in memory (hit), or were read and checked (miss).";
    DIRECTORY_SIZE = Gauge "portcullis.key_directory.size" ["{key}"] by []:
        "Key records in memory.";
    TRANSACTION_DURATION = Durations "portcullis.store.transaction.duration" ["s"] by [OUTCOME]:
        "How long the database took for a transaction, its commit included.";
    TRANSACTION_CHANGES = Sizes "portcullis.store.transaction.changes" ["{change}"] by []:
        "Changes that shared a transaction.";
    QUERY_DURATION = Durations "portcullis.store.query.duration" ["s"] by []:
        "How long reading from the database took.";
    APPEND_DURATION = Durations "portcullis.audit.append.duration" ["s"] by []:
        "How long writing an audit entry to the file took.";
    SYNC_DURATION = Durations "portcullis.audit.sync.duration" ["s"] by []:
        "How long syncing the audit file to disk took.";
    AUDIT_ERRORS = Counter "portcullis.audit.errors" ["{error}"] by [STAGE]:
        "Audit entries that could not be written, and syncs that failed.";
    AUDIT_SEQUENCE = Gauge "portcullis.audit.sequence" ["{entry}"] by []:
        "The number of the audit log's next entry.";
    CONNECTIONS = Gauge "portcullis.connections.open" ["{connection}"] by [LISTENER]:
        "Connections of identified callers that are open.";
    HANDSHAKES_FAILED = Counter "portcullis.handshakes.failed" ["{handshake}"] by [REASON]:
        "TLS connections that were refused before their first call.";
    CERTIFICATE = Gauge "portcullis.tls.certificate.remaining" ["s"] by []:
        "How long the certificate of the mTLS listener is still valid; negative when it has expired.";
    MEMORY = Gauge "process.memory.usage" ["By"] by []:
        "Resident memory of the gateway, without its workers.";
    FILES_OPEN = Gauge "portcullis.process.files.open" ["{file}"] by []:
        "File descriptors that the gateway has open.";
    FILES_LIMIT = Gauge "portcullis.process.files.limit" ["{file}"] by []:
        "File descriptors that the gateway may have open.";
    UPTIME = Gauge "process.uptime" ["s"] by []:
        "How long the gateway has been running.";
    BUILD = Gauge "portcullis.build.info" ["{build}"] by [VERSION]:
        "1, with the gateway's version.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::attribute;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_attributes_bounded() {
        let names: BTreeSet<_> = ALL.iter().map(Definition::prometheus_name).collect();
        assert_eq!(names.len(), ALL.len());
        let unbounded = [
            attribute::REQUEST_ID,
            attribute::KEY_UID,
            attribute::EPOCH,
            attribute::SESSION_WAIT,
        ];
        for one in ALL {
            assert!(
                !one.attributes.iter().any(|name| unbounded.contains(name)),
                "{}",
                one.name
            );
        }
    }

    #[test]
    fn prometheus_sees_units_and_totals() {
        assert_eq!(CALL_DURATION.prometheus_name(), "rpc_server_call_duration_seconds");
        assert_eq!(REFUSED.prometheus_name(), "portcullis_requests_refused_total");
        assert_eq!(MEMORY.prometheus_name(), "process_memory_usage_bytes");
    }
}

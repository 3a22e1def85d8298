//! What can be asked at any time, and is asked when somebody reads the metrics.

use super::{
    NONE, Telemetry,
    attribute::{MEMBER, STATE, VERSION},
    catalog::{self, Definition},
    metrics::breaker_name,
    process,
};
use crate::{
    audit::AuditLog,
    cluster::{
        Cluster, MemberView,
        core::{BreakerState, MemberState, WorkerState},
    },
    keys::directory::KeyDirectory,
};
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};
use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::SystemTime,
};

/// The parts of a gateway that are asked.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The members.
    pub cluster: &'a Arc<Cluster>,
    /// The key records in memory.
    pub directory: &'a Arc<KeyDirectory>,
    /// The audit log.
    pub audit: &'a Arc<AuditLog>,
}

impl Telemetry {
    /// Asks these parts, as long as they live, whenever the metrics are read.
    pub fn observe(&self, observed: &Observed<'_>) {
        self.observe_members(observed.cluster);
        self.observe_process();
        let meter = &self.meter;
        let directory = Arc::downgrade(observed.directory);
        gauge(meter, &catalog::DIRECTORY_SIZE, move |gauge| {
            if let Some(directory) = directory.upgrade() {
                gauge.observe(directory.size(), &[]);
            }
        });
        let audit = Arc::downgrade(observed.audit);
        gauge(meter, &catalog::AUDIT_SEQUENCE, move |gauge| {
            if let Some(audit) = audit.upgrade() {
                gauge.observe(audit.sequence(), &[]);
            }
        });
        let expires = Arc::clone(&self.certificate_expires);
        signed_gauge(meter, &catalog::CERTIFICATE, move |gauge| {
            let expires = expires.load(Ordering::Relaxed);
            if expires != NONE {
                gauge.observe(expires.saturating_sub(seconds_since_1970()), &[]);
            }
        });
    }

    fn observe_members(&self, cluster: &Arc<Cluster>) {
        let meter = &self.meter;
        gauge(
            meter,
            &catalog::OUTSTANDING,
            each_member(cluster, |gauge, view, member| {
                gauge.observe(view.outstanding.into(), &[member]);
            }),
        );
        gauge(
            meter,
            &catalog::LIMIT,
            each_member(cluster, |gauge, view, member| {
                gauge.observe(view.queue.into(), &[member])
            }),
        );
        gauge(
            meter,
            &catalog::MEMBER_STATE,
            each_member(cluster, |gauge, view, member| {
                for (state, name) in STATES {
                    let attributes = [member.clone(), KeyValue::new(STATE, name)];
                    gauge.observe(u64::from(view.state == state), &attributes);
                }
            }),
        );
        gauge(
            meter,
            &catalog::MEMBER_WORKERS,
            each_member(cluster, |gauge, view, member| {
                for (state, name) in WORKER_STATES {
                    let count = view.workers.iter().filter(|worker| worker.state == state).count();
                    gauge.observe(count as u64, &[member.clone(), KeyValue::new(STATE, name)]);
                }
            }),
        );
        gauge(
            meter,
            &catalog::BREAKER_STATE,
            each_member(cluster, |gauge, view, member| {
                for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
                    let attributes = [member.clone(), KeyValue::new(STATE, breaker_name(state))];
                    gauge.observe(u64::from(view.breaker == state), &attributes);
                }
            }),
        );
        let weak = Arc::downgrade(cluster);
        let slowness = move |gauge: &dyn AsyncInstrument<f64>| {
            for view in weak.upgrade().iter().flat_map(|cluster| cluster.members()) {
                gauge.observe(view.slowness, &[KeyValue::new(MEMBER, view.name)]);
            }
        };
        meter
            .f64_observable_gauge(catalog::MEMBER_SLOWNESS.name)
            .with_unit(catalog::MEMBER_SLOWNESS.unit)
            .with_description(catalog::MEMBER_SLOWNESS.description)
            .with_callback(slowness)
            .build();
        let starts = each_member(cluster, |counter, view, member| counter.observe(view.starts, &[member]));
        meter
            .u64_observable_counter(catalog::WORKER_STARTS.name)
            .with_unit(catalog::WORKER_STARTS.unit)
            .with_description(catalog::WORKER_STARTS.description)
            .with_callback(starts)
            .build();
    }

    fn observe_process(&self) {
        let meter = &self.meter;
        let figures: [(&Definition, Figure); 3] = [
            (&catalog::MEMORY, process::resident_memory),
            (&catalog::FILES_OPEN, process::open_files),
            (&catalog::FILES_LIMIT, process::file_limit),
        ];
        for (definition, read) in figures {
            gauge(meter, definition, move |gauge| {
                if let Some(value) = read() {
                    gauge.observe(value, &[]);
                }
            });
        }
        let started = self.started;
        gauge(meter, &catalog::UPTIME, move |gauge| {
            gauge.observe(started.elapsed().as_secs(), &[])
        });
        gauge(meter, &catalog::BUILD, |gauge| {
            gauge.observe(1, &[KeyValue::new(VERSION, env!("CARGO_PKG_VERSION"))]);
        });
    }
}

/// A number that the kernel may know.
type Figure = fn() -> Option<u64>;

/// Observes something of each member.
fn each_member<F>(cluster: &Arc<Cluster>, observe: F) -> impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + use<F>
where
    F: Fn(&dyn AsyncInstrument<u64>, &MemberView, KeyValue) + Send + Sync,
{
    // Weak, because the meter outlives the cluster.
    let cluster: Weak<Cluster> = Arc::downgrade(cluster);
    move |instrument| {
        let Some(cluster) = cluster.upgrade() else { return };
        for view in cluster.members() {
            observe(instrument, &view, KeyValue::new(MEMBER, view.name.clone()));
        }
    }
}

fn gauge(meter: &Meter, definition: &Definition, callback: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static) {
    meter
        .u64_observable_gauge(definition.name)
        .with_unit(definition.unit)
        .with_description(definition.description)
        .with_callback(callback)
        .build();
}

fn signed_gauge(
    meter: &Meter,
    definition: &Definition,
    callback: impl Fn(&dyn AsyncInstrument<i64>) + Send + Sync + 'static,
) {
    meter
        .i64_observable_gauge(definition.name)
        .with_unit(definition.unit)
        .with_description(definition.description)
        .with_callback(callback)
        .build();
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

const WORKER_STATES: [(WorkerState, &str); 6] = [
    (WorkerState::Starting, "starting"),
    (WorkerState::Probing, "probing"),
    (WorkerState::Ready, "ready"),
    (WorkerState::Retiring, "retiring"),
    (WorkerState::Down, "down"),
    (WorkerState::Stopped, "stopped"),
];

const STATES: [(MemberState, &str); 8] = [
    (MemberState::Starting, "starting"),
    (MemberState::Probing, "probing"),
    (MemberState::Ready, "ready"),
    (MemberState::Draining, "draining"),
    (MemberState::Drained, "drained"),
    (MemberState::Down, "down"),
    (MemberState::Stopped, "stopped"),
    (MemberState::Fenced, "fenced"),
];

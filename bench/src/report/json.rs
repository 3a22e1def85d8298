//! The same for programs. Rates are operations in a second, latencies milliseconds; each run is there, and what they say together.

use super::{Curve, Group, Report, Way, latency};
use crate::{operation::Operation, sample::Sample, statistics::Spread, target};
use serde_json::{Value, json};

impl Report {
    /// The report as one document.
    pub fn document(&self) -> Value {
        json!({
            "machine": self.machine,
            "direct_token": self.token,
            "run_seconds": self.time.as_secs_f64(),
            "repeats": self.repeats,
            "connections": self.connections,
            "closed_loop": self.groups.iter().map(group).collect::<Vec<_>>(),
            "open_loop": self.curves.iter().map(curve).collect::<Vec<_>>(),
            "failed": self.failed(),
            "keys_scheduled_for_destruction": self.cleaned.scheduled,
            "keys_left": self.cleaned.left,
        })
    }
}

fn group(group: &Group) -> Value {
    json!({
        "operation": group.operation,
        "callers": group.callers,
        "direct": group.sessions.map(|sessions| json!({
            "sessions": sessions,
            "rate": group.direct_rate(),
            "latency": latencies(&group.direct),
            "runs": runs(&group.direct),
        })),
        "through": group.ways.iter().map(|one| way(group, one)).collect::<Vec<_>>(),
    })
}

fn way(group: &Group, way: &Way) -> Value {
    let creating = group.operation == Operation::CreateKey && group.callers == target::CREATORS;
    json!({
        "transport": way.transport,
        "mode": way.mode,
        "callers": way.callers,
        "rate": way.rate(),
        "share_of_direct": group.share(way),
        "target_share_of_direct": target::least_share(group.operation, way.transport, way.mode),
        "target_rate": creating.then_some(target::KEYS_A_SECOND),
        "latency": latencies(&way.samples),
        "added_to_direct_p50": group.added(way),
        "added_in_echoes": group.added_in_echoes(way),
        "target_added_in_echoes": target::most_added(group.operation, way.mode).filter(|_| group.callers == 1),
        "echo": (!way.echo.is_empty()).then(|| json!({
            "rate": Spread::of(way.echo.iter().map(Sample::rate)),
            "latency": latencies(&way.echo),
            "runs": runs(&way.echo),
        })),
        "runs": runs(&way.samples),
    })
}

fn curve(curve: &Curve) -> Value {
    let points = curve.points.iter().map(|point| {
        json!({
            "arrivals_per_second": point.rate,
            "answered_per_second": point.answered(),
            "latency": latencies(&point.samples),
            "runs": runs(&point.samples),
        })
    });
    json!({
        "operation": curve.operation,
        "transport": curve.transport,
        "mode": curve.mode,
        "direct_rate": curve.direct,
        "points": points.collect::<Vec<_>>(),
    })
}

/// Of each quantile the median, the least and the most of the runs.
fn latencies(samples: &[Sample]) -> Value {
    json!({
        "p50": latency(samples, 0.5),
        "p90": latency(samples, 0.9),
        "p99": latency(samples, 0.99),
        "p999": latency(samples, 0.999),
        "longest": latency(samples, 1.0),
    })
}

fn runs(samples: &[Sample]) -> Vec<Value> {
    let run = |sample: &Sample| {
        json!({
            "seconds": sample.time.as_secs_f64(),
            "operations": sample.operations,
            "failed": sample.failed(),
            "failures": sample.failures,
            "unanswered": sample.unanswered,
            "calls": sample.latencies.count(),
            "rate": sample.rate(),
            "p50": sample.latencies.quantile(0.5).as_secs_f64() * 1e3,
            "p99": sample.latencies.quantile(0.99).as_secs_f64() * 1e3,
        })
    };
    samples.iter().map(run).collect()
}

//! The tables.

use super::{Curve, Group, Report, Table, Way, latency};
use crate::{operation::Operation, sample::Sample, statistics::Spread, target};
use std::collections::BTreeMap;

impl Report {
    /// All tables. Ends without a newline.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.machine.debug_build {
            parts.push(DEBUG_BUILD.to_owned());
        }
        let token = self.token.as_ref();
        parts.push(format!(
            "{}{}",
            self.machine.text(),
            token.map(|token| format!("; directly: {token}")).unwrap_or_default()
        ));
        parts.push(format!(
            "Medians of {} runs of {} each; in brackets the least and the most of them. Connections to each address: {}.",
            self.repeats,
            humantime::format_duration(self.time),
            self.connections
        ));
        let (uses, keys): (Vec<&Group>, Vec<&Group>) =
            self.groups.iter().partition(|group| group.operation.is_repeatable());
        let (one, many): (Vec<&Group>, Vec<&Group>) = uses.into_iter().partition(|group| group.callers == 1);
        if !many.is_empty() {
            parts.push(throughput(&many));
        }
        if !one.is_empty() {
            parts.push(single_caller(&one));
        }
        if !keys.is_empty() {
            parts.push(key_work(&keys));
        }
        if !self.curves.is_empty() {
            parts.push(open_loop(&self.curves));
        }
        parts.extend(self.failures());
        parts.push(self.cleaned.text());
        parts.join("\n\n")
    }

    /// Why operations failed, if any did.
    fn failures(&self) -> Option<String> {
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = |what: String, samples: &[Sample]| {
            for (reason, times) in samples.iter().flat_map(|sample| &sample.failures) {
                *reasons.entry(format!("{what}: {reason}")).or_default() += times;
            }
        };
        for group in &self.groups {
            count(format!("{}, direct", group.operation), &group.direct);
            for way in &group.ways {
                let what = format!("{}, {}", group.operation, name(way));
                count(what.clone(), &way.samples);
                count(format!("{what}, echo"), &way.echo);
            }
        }
        for curve in &self.curves {
            let what = format!("{}, {}, {}, open loop", curve.operation, curve.transport, curve.mode);
            for point in &curve.points {
                count(what.clone(), &point.samples);
            }
        }
        if reasons.is_empty() {
            return None;
        }
        let lines = reasons.iter().map(|(what, times)| format!("- {times} times: {what}"));
        Some(format!(
            "Operations failed:\n\n{}",
            lines.collect::<Vec<_>>().join("\n")
        ))
    }
}

fn throughput(groups: &[&Group]) -> String {
    let mut table = Table::new(
        "Operations a second at saturation (closed loop); latencies in milliseconds",
        &[
            "operation",
            "way",
            "callers",
            "direct (sessions)",
            "through",
            "of direct",
            "target",
            "p50",
            "p99",
            "echo",
            "failed",
        ],
    );
    for group in groups {
        for way in &group.ways {
            let share = group.share(way);
            let target = target::least_share(group.operation, way.transport, way.mode);
            let direct = group.direct_rate().zip(group.sessions);
            table.row([
                group.operation.to_string(),
                name(way),
                way.callers.to_string(),
                direct.map_or_else(none, |(rate, sessions)| format!("{} ({sessions})", per_second(&rate))),
                shown(way.rate(), per_second),
                shown(share, percent),
                target.map_or_else(none, |target| {
                    let text = format!("≥ {:.0} %", target * 100.0);
                    verdict(text, share.map(|share| share.median >= target))
                }),
                shown(latency(&way.samples, 0.5), time),
                shown(latency(&way.samples, 0.99), time),
                shown(Spread::of(way.echo.iter().map(Sample::rate)), per_second),
                way.failed().to_string(),
            ]);
        }
    }
    table.text()
}

fn single_caller(groups: &[&Group]) -> String {
    let mut table = Table::new(
        "One caller at a time: latency in milliseconds",
        &[
            "operation",
            "way",
            "direct p50",
            "echo p50",
            "through p50",
            "through p99",
            "added p50",
            "in echoes",
            "target",
            "failed",
        ],
    );
    for group in groups {
        for way in &group.ways {
            let echoes = group.added_in_echoes(way);
            let target = target::most_added(group.operation, way.mode);
            table.row([
                group.operation.to_string(),
                name(way),
                shown(latency(&group.direct, 0.5), time),
                shown(latency(&way.echo, 0.5), time),
                shown(latency(&way.samples, 0.5), time),
                shown(latency(&way.samples, 0.99), time),
                shown(group.added(way), time),
                echoes.map_or_else(none, |echoes| format!("{echoes:.2}")),
                target.map_or_else(none, |target| {
                    verdict(format!("≤ {target}"), echoes.map(|echoes| echoes <= target))
                }),
                way.failed().to_string(),
            ]);
        }
    }
    table.text()
}

fn key_work(groups: &[&Group]) -> String {
    let mut table = Table::new(
        "Keys made, and keys used for the first time (closed loop); latencies in milliseconds",
        &["work", "way", "callers", "a second", "target", "p50", "p99", "failed"],
    );
    for group in groups {
        for way in &group.ways {
            let rate = way.rate();
            let wanted = group.operation == Operation::CreateKey && group.callers == target::CREATORS;
            table.row([
                group.operation.to_string(),
                name(way),
                way.callers.to_string(),
                shown(rate, per_second),
                if wanted {
                    let reached = rate.map(|rate| rate.median >= target::KEYS_A_SECOND);
                    verdict(format!("≥ {:.0}", target::KEYS_A_SECOND), reached)
                } else {
                    none()
                },
                shown(latency(&way.samples, 0.5), time),
                shown(latency(&way.samples, 0.99), time),
                way.failed().to_string(),
            ]);
        }
    }
    table.text()
}

fn open_loop(curves: &[Curve]) -> String {
    let mut table = Table::new(
        "Latency at an arrival rate, in milliseconds from the intended start (open loop)",
        &[
            "operation",
            "way",
            "arrivals/s",
            "answered/s",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "unanswered",
            "failed",
        ],
    );
    for curve in curves {
        for point in &curve.points {
            let at = |share: f64| shown(latency(&point.samples, share), time);
            let failed: u64 = point.samples.iter().map(Sample::failed).sum();
            table.row([
                curve.operation.to_string(),
                format!("{}, {}", curve.transport, curve.mode),
                format!("{:.0}", point.rate),
                format!("{:.0}", point.answered()),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                point.unanswered().to_string(),
                failed.to_string(),
            ]);
        }
    }
    table.text()
}

fn name(way: &Way) -> String {
    format!("{}, {}", way.transport, way.mode)
}

/// The target, and whether it was reached, where that is known: `≥ 90 % ✓`.
fn verdict(target: String, reached: Option<bool>) -> String {
    match reached {
        None => target,
        Some(true) => format!("{target} ✓"),
        Some(false) => format!("{target} ✗"),
    }
}

fn shown(spread: Option<Spread>, form: fn(&Spread) -> String) -> String {
    spread.as_ref().map_or_else(none, form)
}

fn per_second(spread: &Spread) -> String {
    let Spread { median, least, most } = spread;
    format!("{median:.0} [{least:.0} – {most:.0}]")
}

fn percent(spread: &Spread) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(|share| share * 100.0);
    format!("{median:.0} % [{least:.0} – {most:.0}]")
}

/// Milliseconds, to a microsecond.
fn time(spread: &Spread) -> String {
    format!("{:.3}", spread.median)
}

fn none() -> String {
    "–".to_owned()
}

const DEBUG_BUILD: &str =
    "**THIS IS A DEBUG BUILD. Its figures say nothing of Portcullis: build with `cargo build --release`.**";

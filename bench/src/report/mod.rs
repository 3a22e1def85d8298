//! What was measured, and how it is shown.

mod json;
mod plot;
mod table;
mod text;

pub use table::Table;

use crate::{
    machine::Machine,
    operation::{Mode, Operation, Transport},
    plan::Plan,
    sample::Sample,
    statistics::Spread,
    through::keys::Cleaned,
};
use std::time::Duration;

/// All that one measurement found.
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// What the token that was driven directly says of itself.
    pub token: Option<String>,
    /// How long each run was measured, after its warm-up.
    pub time: Duration,
    /// How often.
    pub repeats: usize,
    /// Connections to each address.
    pub connections: usize,
    /// The closed loop.
    pub groups: Vec<Group>,
    /// The open loop.
    pub curves: Vec<Curve>,
    /// What became of the keys that were made.
    pub cleaned: Cleaned,
}

impl Report {
    pub(crate) fn new(machine: Machine, plan: &Plan) -> Self {
        Self {
            machine,
            token: None,
            time: plan.time,
            repeats: plan.repeats,
            connections: plan.connections,
            groups: Vec::new(),
            curves: Vec::new(),
            cleaned: Cleaned::default(),
        }
    }

    /// Operations that failed in any run of any way.
    pub fn failed(&self) -> u64 {
        let closed = self.groups.iter().flat_map(|group| {
            let ways = group.ways.iter().flat_map(|way| way.samples.iter().chain(&way.echo));
            ways.chain(&group.direct)
        });
        let open = self.curves.iter().flat_map(|curve| &curve.points);
        let open = open.flat_map(|point| &point.samples);
        closed.chain(open).map(Sample::failed).sum()
    }
}

/// One operation with one number of callers: direct, and all ways through the gateway.
pub struct Group {
    /// What was done.
    pub operation: Operation,
    /// How many operations were asked for at once.
    pub callers: usize,
    /// Sessions of the direct way.
    pub sessions: Option<usize>,
    /// Runs of the direct way.
    pub direct: Vec<Sample>,
    /// Through the gateway.
    pub ways: Vec<Way>,
}

impl Group {
    pub(crate) fn new(operation: Operation, callers: usize) -> Self {
        Self {
            operation,
            callers,
            sessions: None,
            direct: Vec::new(),
            ways: Vec::new(),
        }
    }

    /// One of the ways.
    pub fn way(&self, transport: Transport, mode: Mode) -> Option<&Way> {
        self.ways
            .iter()
            .find(|way| way.transport == transport && way.mode == mode)
    }

    /// Operations in a second directly.
    pub fn direct_rate(&self) -> Option<Spread> {
        Spread::of(self.direct.iter().map(Sample::rate))
    }

    /// The share of what was done directly that a way did: the median of the shares of the runs, each beside its own direct run.
    pub fn share(&self, way: &Way) -> Option<Spread> {
        let pairs = way.samples.iter().zip(&self.direct);
        Spread::of(
            pairs
                .filter(|(_, direct)| direct.operations > 0)
                .map(|(through, direct)| through.rate() / direct.rate()),
        )
    }

    /// What a way adds to the median latency of the direct way, in milliseconds.
    pub fn added(&self, way: &Way) -> Option<Spread> {
        let pairs = way.samples.iter().zip(&self.direct);
        Spread::of(pairs.filter_map(|(through, direct)| Some(milliseconds(through, 0.5)? - milliseconds(direct, 0.5)?)))
    }

    /// The same as a multiple of the echo's median latency.
    pub fn added_in_echoes(&self, way: &Way) -> Option<f64> {
        let echo = latency(&way.echo, 0.5).filter(|echo| echo.median > 0.0)?;
        Some(self.added(way)?.median / echo.median)
    }
}

/// One way through the gateway, and the same with the echo.
pub struct Way {
    /// Over what.
    pub transport: Transport,
    /// How.
    pub mode: Mode,
    /// How many callers there really were.
    pub callers: usize,
    /// The runs.
    pub samples: Vec<Sample>,
    /// The runs with the echo.
    pub echo: Vec<Sample>,
}

impl Way {
    pub(crate) fn new(transport: Transport, mode: Mode, callers: usize) -> Self {
        Self {
            transport,
            mode,
            callers,
            samples: Vec::new(),
            echo: Vec::new(),
        }
    }

    /// Operations in a second.
    pub fn rate(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(Sample::rate))
    }

    /// Operations that failed, of all runs.
    pub fn failed(&self) -> u64 {
        self.samples.iter().map(Sample::failed).sum()
    }
}

/// Latency against throughput.
pub struct Curve {
    /// What was done.
    pub operation: Operation,
    /// Over what.
    pub transport: Transport,
    /// How.
    pub mode: Mode,
    /// What the direct way does at most, in a second.
    pub direct: Option<f64>,
    /// One point for each rate.
    pub points: Vec<Point>,
}

impl Curve {
    pub(crate) fn new(operation: Operation, transport: Transport, mode: Mode) -> Self {
        Self {
            operation,
            transport,
            mode,
            direct: None,
            points: Vec::new(),
        }
    }
}

/// One arrival rate.
pub struct Point {
    /// Calls that should begin in a second.
    pub rate: f64,
    /// The runs.
    pub samples: Vec<Sample>,
}

impl Point {
    /// Answered in a second of the time that all answers took.
    pub fn answered(&self) -> f64 {
        Spread::of(self.samples.iter().map(Sample::rate)).map_or(0.0, |rate| rate.median)
    }

    /// The median over the runs of a quantile of the latency, in milliseconds; `None` where nothing was answered.
    pub fn latency(&self, share: f64) -> Option<f64> {
        latency(&self.samples, share).map(|spread| spread.median)
    }

    /// Calls of all runs that had no answer.
    pub fn unanswered(&self) -> u64 {
        self.samples.iter().map(|sample| sample.unanswered).sum()
    }
}

/// The quantile of each run in which a call ended, in milliseconds.
pub(crate) fn latency(samples: &[Sample], share: f64) -> Option<Spread> {
    Spread::of(samples.iter().filter_map(|sample| milliseconds(sample, share)))
}

fn milliseconds(sample: &Sample, share: f64) -> Option<f64> {
    let some = sample.latencies.count() > 0;
    some.then(|| sample.latencies.quantile(share).as_secs_f64() * 1e3)
}

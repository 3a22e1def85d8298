//! The measurement from its beginning to its end.

use crate::{
    closed::{Window, closed},
    creation,
    direct::Direct,
    echo::Echo,
    error::Error,
    machine::Machine,
    open::{arrivals, open},
    operation::{BATCH, Mode, Operation},
    plan::{OpenPlan, Plan},
    report::{Curve, Group, Point, Report, Way},
    sample::Sample,
    through::{
        Request, Route,
        keys::{Cleaned, Keys},
    },
};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Measures what the plan says. `progress` gets a line for each step.
///
/// The keys that were made are scheduled for destruction at the end, whatever the end is: also after Ctrl-C, SIGTERM and a
/// terminal that is closed.
///
/// # Errors
///
/// Whatever keeps the measurement from being made; [`Error::Interrupted`] after Ctrl-C.
pub async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Report, Error> {
    let mut stage = Stage::set(plan).await?;
    let outcome = tokio::select! {
        outcome = stage.measure(plan, progress) => Some(outcome),
        () = interruption() => None,
    };
    progress("destroying the keys");
    let cleared = stage.clear().await;
    match outcome {
        Some(Ok(mut report)) => {
            // What was measured is worth showing, also where something was left behind.
            report.cleaned = cleared.unwrap_or_else(Cleaned::failed);
            Ok(report)
        }
        Some(Err(error)) => Err(error),
        None => Err(Error::Interrupted(cleared?.text())),
    }
}

/// What takes part.
struct Stage {
    routes: Vec<Route>,
    echoes: Vec<(Echo, Route)>,
    direct: Option<Direct>,
    keys: Keys,
}

impl Stage {
    async fn set(plan: &Plan) -> Result<Self, Error> {
        let mut routes = Vec::new();
        for address in &plan.addresses {
            routes.push(Route::connect(address, plan.connections, plan.deadline).await?);
        }
        let Some(first) = routes.first() else {
            return Err(Error::Usage("no gateway is named".to_owned()));
        };
        let keys = Keys::in_ring(first.client(), &plan.ring).await?;
        let repeatable = plan.operations.iter().any(|operation| operation.is_repeatable());
        let direct = match &plan.direct {
            Some(token) if repeatable => {
                let label = format!("portcullis-bench-{}", keys.label());
                Some(Direct::start(&plan.program, token, &label).await?)
            }
            _ => None,
        };
        let mut echoes = Vec::new();
        if plan.echo && repeatable {
            for route in &routes {
                let echo = Echo::start(&plan.program, route.transport).await?;
                let to_echo = Route::connect(echo.address(), plan.connections, plan.deadline).await?;
                echoes.push((echo, to_echo));
            }
        }
        Ok(Self {
            routes,
            echoes,
            direct,
            keys,
        })
    }

    async fn measure(&mut self, plan: &Plan, progress: &dyn Fn(&str)) -> Result<Report, Error> {
        let mut report = Report::new(Machine::here(), plan);
        report.token = self.direct.as_ref().map(|direct| direct.description.clone());
        for &operation in &plan.operations {
            if operation.is_repeatable() {
                self.measure_use(operation, plan, &mut report, progress).await?;
            } else {
                let groups = creation::measure(operation, plan, &self.routes, &self.keys, progress).await?;
                report.groups.extend(groups);
            }
        }
        Ok(report)
    }

    /// An operation that can be repeated with one key.
    async fn measure_use(
        &mut self,
        operation: Operation,
        plan: &Plan,
        report: &mut Report,
        progress: &dyn Fn(&str),
    ) -> Result<(), Error> {
        progress(&format!("{operation}: making keys"));
        let key = self.keys.create(operation).await?;
        let request = Request::new(operation, &key).ok_or_else(|| Error::Usage(format!("{operation} has no key")))?;
        for (number, route) in self.routes.iter().enumerate() {
            let proven = request.prove(route.client(), operation).await?;
            if let Some((echo, _)) = self.echoes.get_mut(number) {
                for &mode in &plan.modes {
                    echo.answer(&proven, mode).await?;
                }
            }
        }
        let mut best = 1;
        if let Some(direct) = &mut self.direct {
            direct.prepare(operation).await?;
            progress(&format!("{operation}: looking for the best number of sessions"));
            best = direct.best_sessions(operation, search_window(plan)).await?;
        }
        let first = report.groups.len();
        for &callers in &plan.callers {
            let group = self
                .measure_group(operation, callers, best, &request, plan, progress)
                .await?;
            report.groups.push(group);
        }
        if let Some(open_plan) = &plan.open {
            let groups = &report.groups[first..];
            let most = groups.iter().max_by_key(|group| group.callers);
            let curves = self
                .measure_curves(operation, most, open_plan, &request, plan, progress)
                .await;
            report.curves.extend(curves);
        }
        Ok(())
    }

    /// Direct and all ways through, in turns, so that what disturbs the machine disturbs all of them.
    async fn measure_group(
        &mut self,
        operation: Operation,
        callers: usize,
        best: usize,
        request: &Request,
        plan: &Plan,
        progress: &dyn Fn(&str),
    ) -> Result<Group, Error> {
        let window = window(plan);
        let sessions = if callers == 1 { 1 } else { best };
        let mut group = Group::new(operation, callers);
        group.sessions = self.direct.as_ref().map(|_| sessions);
        for route in &self.routes {
            for &mode in &plan.modes {
                // A batch is no answer to how long one caller waits for one operation.
                if mode != Mode::Batch || callers > 1 || plan.modes.len() == 1 {
                    group.ways.push(Way::new(route.transport, mode, mode.callers(callers)));
                }
            }
        }
        for repeat in 1..=plan.repeats {
            progress(&format!(
                "{operation}, {callers} callers: run {repeat} of {}",
                plan.repeats
            ));
            if let Some(direct) = &mut self.direct {
                group.direct.push(direct.run(operation, sessions, window).await?);
            }
            let direct_rate = group.direct.last().map(Sample::rate);
            let of_one_route = group.ways.len() / self.routes.len();
            for (number, way) in group.ways.iter_mut().enumerate() {
                let number = number / of_one_route;
                let window = long_enough(window, way, direct_rate);
                let through = run(&self.routes[number], way, request, window).await;
                way.samples.push(through);
                if let Some((_, route)) = self.echoes.get(number) {
                    way.echo.push(run(route, way, request, window).await);
                }
            }
        }
        Ok(group)
    }

    /// Latency against throughput, for every way that makes one call for one operation.
    async fn measure_curves(
        &self,
        operation: Operation,
        most: Option<&Group>,
        open_plan: &OpenPlan,
        request: &Request,
        plan: &Plan,
        progress: &dyn Fn(&str),
    ) -> Vec<Curve> {
        let mut curves = Vec::new();
        for route in &self.routes {
            for &mode in plan.modes.iter().filter(|mode| **mode != Mode::Batch) {
                let way = most.and_then(|group| group.way(route.transport, mode));
                let closed_rate = way.and_then(Way::rate).map_or(0.0, |rate| rate.median);
                let mut curve = Curve::new(operation, route.transport, mode);
                curve.direct = most.and_then(Group::direct_rate).map(|rate| rate.median);
                for rate in open_plan.rates(closed_rate) {
                    progress(&format!("{operation}, {}, {mode}: {rate:.0}/s", route.transport));
                    let mut samples = Vec::new();
                    for _ in 0..plan.repeats {
                        let callers = route.callers(mode, request, OPEN_CALLERS);
                        let (start, moments) = arrivals(rate, window(plan));
                        samples.push(open(callers, moments, start, window(plan)).await);
                    }
                    curve.points.push(Point { rate, samples });
                }
                curves.push(curve);
            }
        }
        curves
    }

    /// Destroys all keys and ends the helpers; the first failure is told when all was tried.
    async fn clear(self) -> Result<Cleaned, Error> {
        let cleaned = self.keys.destroy().await;
        let mut ended = Vec::new();
        for (echo, _) in self.echoes {
            ended.push(echo.end().await);
        }
        if let Some(direct) = self.direct {
            ended.push(direct.end().await);
        }
        let cleaned = cleaned?;
        ended.into_iter().collect::<Result<(), Error>>()?;
        Ok(cleaned)
    }
}

async fn run(route: &Route, way: &Way, request: &Request, window: Window) -> Sample {
    closed(route.callers(way.mode, request, way.callers), window).await
}

pub(crate) fn window(plan: &Plan) -> Window {
    Window {
        warm_up: plan.warm_up,
        time: plan.time,
    }
}

/// Batches of slow operations take so long that few end within a window: they get time for several, at the direct rate.
fn long_enough(window: Window, way: &Way, direct_rate: Option<f64>) -> Window {
    match (way.mode, direct_rate) {
        (Mode::Batch, Some(rate)) if rate > 0.0 => {
            let round = (BATCH * way.callers) as f64 / rate;
            let rounds = Duration::from_secs_f64(round * LEAST_ROUNDS).min(LONGEST_ROUNDS);
            Window {
                time: window.time.max(rounds),
                ..window
            }
        }
        _ => window,
    }
}

/// Shorter: it only has to tell which of several is the best.
fn search_window(plan: &Plan) -> Window {
    Window {
        warm_up: plan.warm_up / 4,
        time: (plan.time / 4).max(SHORTEST_SEARCH.min(plan.time)),
    }
}

async fn interruption() {
    let [interrupt, terminate, hangup] =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    // They are refused only where the runtime has no signals.
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (interrupt, terminate, hangup) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

const LEAST_ROUNDS: f64 = 4.0;
const LONGEST_ROUNDS: Duration = Duration::from_secs(20);
const SHORTEST_SEARCH: Duration = Duration::from_millis(250);

/// How many calls of the open loop may be under way; those beyond that wait, and their waiting counts.
const OPEN_CALLERS: usize = 512;

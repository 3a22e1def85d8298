//! Cuts a schedule that breaks a rule down to what is needed for that, and prints it as it goes into `found`.

use crate::{
    schedule::{Call, End, Plan, Schedule, Step},
    world::World,
};
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::Instant,
};

thread_local! {
    // Whether a panic of this thread is caught and told as what a schedule broke.
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
}

/// What a schedule breaks, panics included.
pub(crate) fn outcome(schedule: &Schedule, base: Instant) -> Result<(), String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SIMULATES.get() {
                usual(panic);
            }
        }));
    });
    SIMULATES.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| World::run(schedule, base))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    SIMULATES.set(false);
    outcome
}

/// What is broken, without who broke it.
pub(crate) fn kind(broken: &str) -> String {
    let words = broken
        .split(|letter: char| !letter.is_alphabetic())
        .filter(|word| !word.is_empty());
    words.take(5).collect::<Vec<_>>().join(" ")
}

/// What a schedule breaks, and the shortest that was found to break it.
pub(crate) fn report(number: u64, schedule: &Schedule, base: Instant) -> String {
    let first = outcome(schedule, base).expect_err("a schedule that breaks a rule");
    let small = shrink(schedule.clone(), &kind(&first), base);
    let then = outcome(&small, base).expect_err("a smaller one that does so too");
    format!(
        "schedule {number} broke a rule: {first}\ncut down, it breaks: {then}\n{}",
        literal(&small)
    )
}

fn shrink(mut schedule: Schedule, broken: &str, base: Instant) -> Schedule {
    let breaks = |schedule: &Schedule| outcome(schedule, base).is_err_and(|found| kind(&found) == broken);
    loop {
        let before = schedule.clone();
        let mut length = schedule.steps.len().next_power_of_two();
        while length > 0 {
            let mut at = 0;
            while at < schedule.steps.len() {
                let mut shorter = schedule.clone();
                shorter.steps.drain(at..(at + length).min(schedule.steps.len()));
                if breaks(&shorter) {
                    schedule = shorter;
                } else {
                    at += length;
                }
            }
            length /= 2;
        }
        while schedule.members.len() > 1 {
            let mut fewer = schedule.clone();
            fewer.members.pop();
            if !breaks(&fewer) {
                break;
            }
            schedule = fewer;
        }
        for at in 0..schedule.members.len() {
            for plan in plainer_plans(schedule.members[at]) {
                let mut plainer = schedule.clone();
                plainer.members[at] = plan;
                if breaks(&plainer) {
                    schedule = plainer;
                }
            }
        }
        for at in 0..schedule.steps.len() {
            for step in plainer_steps(schedule.steps[at]) {
                let mut plainer = schedule.clone();
                plainer.steps[at] = step;
                if breaks(&plainer) {
                    schedule = plainer;
                }
            }
        }
        if schedule == before {
            return schedule;
        }
    }
}

fn plainer_plans(plan: Plan) -> Vec<Plan> {
    let all = [
        Plan { workers: 1, ..plan },
        Plan { threads: 1, ..plan },
        Plan { rich: true, ..plan },
        Plan { queue: 20, ..plan },
    ];
    all.into_iter().filter(|one| *one != plan).collect()
}

fn plainer_steps(step: Step) -> Vec<Step> {
    let all = match step {
        Step::Ask(times, call) => {
            let mut all = vec![Step::Ask(1, call), Step::Ask(times / 2 + 1, call)];
            for at in 0..4 {
                let mut ends = call.ends;
                ends[at] = End::Done;
                all.push(Step::Ask(times, Call { ends, ..call }));
            }
            all.push(Step::Ask(times, Call { principal: 0, ..call }));
            all.push(Step::Ask(times, Call { key: 0, ..call }));
            all.push(Step::Ask(
                times,
                Call {
                    patience: 20_000,
                    ..call
                },
            ));
            all
        }
        Step::Pass(millis) => vec![Step::Pass(millis / 2), Step::Pass(millis / 10 * 9)],
        Step::Starve(millis) => vec![Step::Pass(millis), Step::Starve(millis / 2)],
        Step::Configure(member, plan) => plainer_plans(plan)
            .into_iter()
            .map(|plan| Step::Configure(member, plan))
            .collect(),
        Step::Add(plan) => plainer_plans(plan).into_iter().map(Step::Add).collect(),
        _ => Vec::new(),
    };
    all.into_iter().filter(|one| *one != step).collect()
}

fn literal(schedule: &Schedule) -> String {
    let lines = |items: Vec<String>| {
        items
            .into_iter()
            .map(|item| format!("        {item},\n"))
            .collect::<String>()
    };
    let members = schedule.members.iter().map(|plan| format!("{plan:?}")).collect();
    let steps = schedule.steps.iter().map(|step| format!("{step:?}")).collect();
    format!(
        "Schedule {{\n    seed: {},\n    members: vec![\n{}    ],\n    steps: vec![\n{}    ],\n}}",
        schedule.seed,
        lines(members),
        lines(steps)
    )
}

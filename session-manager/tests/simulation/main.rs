//! The session manager's core among simulated members, workers, callers and operators, in virtual time.

#![forbid(unsafe_code)]

mod invariants;
mod process;
mod schedule;
mod shell;
mod shrink;
mod world;

use schedule::Schedule;
use std::{collections::BTreeMap, ops::Range, time::Instant};

#[test]
fn random_schedules_break_no_rule() {
    let number = |name: &str, otherwise| match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is to be a number, and is {value:?}")),
        Err(_) => otherwise,
    };
    let first: u64 = number("PORTCULLIS_FIRST_SCHEDULE", 0);
    let many: u64 = number("PORTCULLIS_SCHEDULES", 100_000);
    let threads = std::thread::available_parallelism().map_or(1, |many| many.get() as u64);
    let base = Instant::now();
    let broken = std::thread::scope(|scope| {
        let part = |at| move || broken(first..first + many, at, threads as usize, base);
        let parts: Vec<_> = (0..threads as usize).map(|at| scope.spawn(part(at))).collect();
        let mut all = BTreeMap::new();
        for (kind, number) in parts.into_iter().flat_map(|part| part.join().expect("a part")) {
            let least = all.entry(kind).or_insert(number);
            *least = number.min(*least);
        }
        all
    });
    let reports = broken
        .values()
        .map(|number| shrink::report(*number, &Schedule::draw(*number), base));
    let reports: Vec<_> = reports.collect();
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
}

/// The first schedule that breaks a rule, for each rule that some break.
fn broken(numbers: Range<u64>, from: usize, step: usize, base: Instant) -> BTreeMap<String, u64> {
    let mut broken = BTreeMap::new();
    for number in numbers.skip(from).step_by(step) {
        if let Err(what) = shrink::outcome(&Schedule::draw(number), base) {
            broken.entry(shrink::kind(&what)).or_insert(number);
            if broken.len() >= MOST_REPORTS {
                break;
            }
        }
    }
    broken
}

const MOST_REPORTS: usize = 12;

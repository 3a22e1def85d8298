//! The session manager's core among simulated members, workers, callers and operators, in virtual time.
//!
//! A [`schedule::Schedule`] is drawn from a number: calls with what comes of each of their attempts, troubles of members, time,
//! and what operators do. The [`world::World`] lives through it with a real core, and looks after each thing that the core did
//! whether a rule was broken ([`invariants`]). Then everything mends (`rest`): every caller must have been answered, the books
//! must be empty, and every member that is to serve must come to serve within a bounded time, and calls must succeed. A schedule
//! that breaks a rule is cut down and printed (`shrink`), as it then goes into `found` under a name that says what it showed.
//!
//! What is there: workers that start, fail, hang, die and show other domains; their lanes with threads and queues as the core
//! supposes them; answers that are on their way while their worker is killed or its member fenced; workers that are dead and of
//! which nobody has heard yet; attempts that fail before and after they did something, whose reply is lost, that hang, stall,
//! find the member busy, unable or without its login, or sign wrong; callers that go away or run out of time; keys in tokens, of
//! which each may be made once; members that are slow, flap, fail, hang, answer probes wrong or never; drain, resumption, roll,
//! reconfiguration, addition, removal and revival at any time; a gateway that gets no processor for seconds; and its stop.
//!
//! What is not: messages between the shell and a worker (they neither fail nor take long but on their way back), keys in memory
//! and their tokens, time that runs backwards, and whether the choice among members is a good one: only that it is an allowed
//! one.
//!
//! `PORTCULLIS_SCHEDULES=5000000 cargo test -p portcullis-session-manager --test simulation` lives through more schedules than
//! the usual hundred thousand, and `PORTCULLIS_FIRST_SCHEDULE=…` begins with another number than 0. Without these the schedules
//! are the same each time.

#![forbid(unsafe_code)]

mod callers;
mod candidates;
mod found;
mod invariants;
mod process;
mod rest;
mod schedule;
mod shell;
mod shrink;
mod watch;
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

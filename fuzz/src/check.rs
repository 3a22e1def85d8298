//! Running a target for a while, without any tool.

use crate::{Subject, Target, Verdict, mutation::mutants};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use std::{
    cell::Cell,
    fs, panic,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How many inputs were made of samples, and what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many were accepted.
    pub accepted: u64,
    /// How many were refused.
    pub refused: u64,
}

/// Judges every sample, everything that once failed, and for so long what is made of the samples.
///
/// # Panics
///
/// When the subject breaks a promise, when it refuses a sample, and when of all that was made none was accepted or none was
/// refused: then the target would not reach its subject.
pub fn check(target: &Target, time: Duration) -> Tally {
    let subject = (target.prepare)();
    let subject = subject.as_ref();
    let samples = subject.samples();
    let judged = samples.iter().map(|sample| subject.memory().watch(subject, sample));
    let refused: Vec<_> = (0..)
        .zip(judged)
        .filter(|(_, verdict)| *verdict == Verdict::Refused)
        .collect();
    assert!(
        refused.is_empty(),
        "these samples of {} are refused: {refused:?}",
        target.name
    );
    for (path, input) in regressions(target.name) {
        if panic::catch_unwind(panic::AssertUnwindSafe(|| subject.memory().watch(subject, &input))).is_err() {
            panic!("{} fails again", path.display());
        }
    }
    let tally = mutate(target.name, subject, samples, time);
    assert!(
        tally.accepted > 0 && tally.refused > 0,
        "the inputs of {} do not tell right from wrong: {tally:?}",
        target.name
    );
    tally
}

fn mutate(name: &str, subject: &dyn Subject, samples: Vec<Vec<u8>>, time: Duration) -> Tally {
    let tally = Cell::new(Tally::default());
    let known = samples.clone();
    let strategy = mutants(samples);
    let started = Instant::now();
    // A subject that takes its time is given more of it: a few of its inputs say nothing yet.
    let says_nothing = |tally: Tally| tally.accepted == 0 || tally.refused == 0;
    while started.elapsed() < time || says_nothing(tally.get()) && started.elapsed() < PATIENCE {
        let mut runner = TestRunner::new(Config {
            cases: ROUND,
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&strategy, |input| {
            if known.contains(&input) {
                return Ok(());
            }
            let mut counted = tally.get();
            match subject.memory().watch(subject, &input) {
                Verdict::Accepted => counted.accepted += 1,
                Verdict::Refused => counted.refused += 1,
            }
            tally.set(counted);
            Ok::<_, TestCaseError>(())
        });
        if let Err(TestError::Fail(reason, input)) = outcome {
            let text = String::from_utf8_lossy(&input);
            let hexadecimal = hex::encode(&input);
            panic!(
                "{name}: {reason}\nKeep this input under fuzz/regressions/{name} once it is mended.\n{text:?}\n{hexadecimal}"
            );
        }
        outcome.expect("the runner gives up only on a failure");
    }
    tally.get()
}

/// The inputs that once failed.
fn regressions(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("a readable directory").path());
    paths
        .map(|path| (path.clone(), fs::read(path).expect("a regression")))
        .collect()
}

/// After each round the time is looked at.
const ROUND: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(60);

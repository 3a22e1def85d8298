//! One target under libFuzzer. Built by `fuzz/run`, which says which target: an ordinary build has no coverage to be guided by.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod guided {
    use portcullis_fuzz::{Subject, TARGETS, become_worker_if_asked};
    use std::{env, fs, path::PathBuf};

    thread_local! {
        static SUBJECT: Box<dyn Subject> = prepare();
    }

    /// Prepares the target that `FUZZ_TARGET` names, and puts its samples where libFuzzer looks for inputs: `FUZZ_CORPUS`.
    fn prepare() -> Box<dyn Subject> {
        let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        let target = TARGETS.iter().find(|target| target.name == name);
        let subject = (target.unwrap_or_else(|| panic!("no target {name}")).prepare)();
        let corpus = PathBuf::from(env::var_os("FUZZ_CORPUS").expect("FUZZ_CORPUS names a directory"));
        for (number, sample) in subject.samples().iter().enumerate() {
            fs::write(corpus.join(format!("sample-{number}")), sample).expect("a sample in the corpus");
        }
        subject
    }

    libfuzzer_sys::fuzz_target!(
        init: {
            become_worker_if_asked();
            SUBJECT.with(|_| ());
        },
        |input: &[u8]| {
            SUBJECT.with(|subject| subject.memory().watch(subject.as_ref(), input));
        }
    );
}

#[cfg(not(fuzzing))]
#[expect(clippy::print_stderr, reason = "a program that says how it is meant to be run")]
fn main() -> std::process::ExitCode {
    eprintln!("this program is built without coverage; run: fuzz/run TARGET SECONDS");
    std::process::ExitCode::FAILURE
}

//! Plays the scenarios of the failover drill at full size and prints what `docs/failover.md` shows. Build it, and the gateway, with
//! `--release`.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its tables are its output")]

use anyhow::{Context, Result, bail};
use portcullis_softhsm_tests::{
    Held,
    drill::{Burden, Endured, Latencies, Pressure, Report, Scenario, Size, Stage, Throughput, Work, press, throughput},
};
use std::{env, time::Duration};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => scenarios(5, &[]).await,
        ["--runs", runs, names @ ..] => scenarios(runs.parse().context(USAGE)?, names).await,
        ["--soak", minutes] => soak(minutes.parse().context(USAGE)?).await,
        ["--pressure", seconds] => pressure(seconds.parse().context(USAGE)?).await,
        ["--workers", seconds] => workers(seconds.parse().context(USAGE)?).await,
        _ => bail!("{USAGE}"),
    }
}

/// Each scenario so many times; the figures of the run whose p99.9 is in the middle.
async fn scenarios(runs: usize, names: &[&str]) -> Result<()> {
    if runs == 0 {
        bail!("{USAGE}");
    }
    println!("| what happens | calls | failed | wrong | p50 | p99 | p99.9 | longest | until all is well |");
    println!("| --- | --: | --: | --: | --: | --: | --: | --: | --: |");
    let wanted = |scenario: &&Scenario| names.is_empty() || names.contains(&scenario.name);
    for scenario in Scenario::all().filter(wanted) {
        let mut reports = Vec::new();
        for _ in 0..runs {
            reports.push(Stage::play(scenario, FULL_SIZE).await);
        }
        print_row(scenario, reports);
    }
    Ok(())
}

fn print_row(scenario: &Scenario, mut reports: Vec<Report>) {
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    let calls = sum(Report::calls);
    let (failed, wrong) = (sum(|report| report.failures.len()), sum(|report| report.wrong.len()));
    for what in reports
        .iter()
        .flat_map(|report| report.failures.iter().chain(&report.wrong))
        .take(3)
    {
        complain(what);
    }
    let worst = reports
        .iter()
        .map(|report| report.in_window().max)
        .max()
        .unwrap_or_default();
    reports.sort_by_key(|report| report.in_window().p999);
    let Latencies { p50, p99, p999, .. } = reports[reports.len() / 2].in_window();
    reports.sort_by_key(Report::outage);
    let outage = reports[reports.len() / 2].outage().unwrap_or_default();
    println!(
        "| {} | {calls} | {failed} | {wrong} | {} | {} | {} | {} | {} |",
        scenario.what,
        shown(p50),
        shown(p99),
        shown(p999),
        shown(worst),
        shown(outage)
    );
}

#[expect(clippy::print_stderr, reason = "what went wrong is no part of the table")]
fn complain(what: &str) {
    eprintln!("{what}");
}

/// Random kills for so many minutes, and what the gateway holds at its beginning and its end.
async fn soak(minutes: u64) -> Result<()> {
    let mut samples: Vec<[u64; 3]> = Vec::new();
    let time = Duration::from_secs(minutes * 60);
    let (report, kills) = Stage::soak(FULL_SIZE, time, |pid, _| {
        samples.extend(Held::by(pid).map(|held| [held.memory, held.threads, held.descriptors]));
    })
    .await;
    let latencies = report.latencies();
    println!(
        "{kills} kills in {minutes} minutes: {} calls, {} failed, {} wrong; p50 {}, p99 {}, p99.9 {}, longest {}; {} keys created",
        report.calls(),
        report.failures.len(),
        report.wrong.len(),
        shown(latencies.p50),
        shown(latencies.p99),
        shown(latencies.p999),
        shown(latencies.max),
        report.created
    );
    // The first minute is for caches to fill.
    let tenth = (samples.len() / 10).max(1);
    let mean = |of: &[[u64; 3]], what: usize| of.iter().map(|one| one[what]).sum::<u64>() / of.len().max(1) as u64;
    println!("| the gateway holds | 1st tenth | 2nd tenth | half way | last tenth | most |");
    println!("| --- | --: | --: | --: | --: | --: |");
    for (what, name) in ["memory, KiB", "threads", "descriptors"].into_iter().enumerate() {
        let parts: Vec<&[[u64; 3]]> = samples.chunks(tenth).collect();
        let at = |part: usize| parts.get(part).map_or(0, |part| mean(part, what));
        let last = mean(&samples[samples.len().saturating_sub(tenth)..], what);
        let most = samples.iter().map(|one| one[what]).max().unwrap_or_default();
        println!(
            "| {name} | {} | {} | {} | {last} | {most} |",
            at(0),
            at(1),
            at(parts.len() / 2)
        );
    }
    Ok(())
}

/// Ten times what can be served, for so many seconds.
async fn pressure(seconds: u64) -> Result<()> {
    println!(
        "| what is asked for | served/s | of before | refused | late | failed | served/s before | memory before | most memory |"
    );
    println!("| --- | --: | --: | --: | --: | --: | --: | --: | --: |");
    for (burden, what) in [
        (Burden::Signatures, "RSA-4096 signatures, ten times as many a second"),
        (Burden::Megabytes, "encryptions of 1 MiB by ten times the callers"),
    ] {
        let Endured {
            before,
            under,
            memory_before,
            memory_most,
        } = press(Pressure {
            burden,
            callers: FULL_SIZE.callers,
            time: Duration::from_secs(seconds),
            patience: None,
        })
        .await;
        for failure in before.failed.iter().chain(&under.failed).take(3) {
            complain(failure);
        }
        println!(
            "| {what} | {:.0} | {:.0} % | {} | {} | {} | {:.0} | {} MiB | {} MiB |",
            under.rate(),
            100.0 * under.rate() / before.rate(),
            under.refused,
            before.late + under.late,
            before.failed.len() + under.failed.len(),
            before.rate(),
            memory_before >> 10,
            memory_most >> 10
        );
    }
    Ok(())
}

/// What several workers pay; the median of three runs.
async fn workers(seconds: u64) -> Result<()> {
    println!("| members | workers each | P-256 signatures/s | AES-256-GCM 1 KiB/s |");
    println!("| --: | --: | --: | --: |");
    for members in [1, 3] {
        for workers in [1, 2, 3] {
            let of = Throughput {
                members,
                workers,
                callers: FULL_SIZE.callers,
                time: Duration::from_secs(seconds),
            };
            let (sign, encrypt) = (median(of, Work::Sign).await, median(of, Work::Encrypt).await);
            println!("| {members} | {workers} | {sign:.0} | {encrypt:.0} |");
        }
    }
    Ok(())
}

async fn median(of: Throughput, work: Work) -> f64 {
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(throughput(of, work).await);
    }
    rates.sort_by(f64::total_cmp);
    rates[1]
}

fn shown(time: Duration) -> String {
    match time.as_millis() {
        0..10_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

const USAGE: &str =
    "usage: failover-drill [--runs NUMBER [SCENARIO]... | --soak MINUTES | --pressure SECONDS | --workers SECONDS]";
const FULL_SIZE: Size = Size {
    callers: 64,
    calls: 5_000,
    deadline: None,
};

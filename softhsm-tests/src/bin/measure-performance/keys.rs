//! Many keys: how fast they are made, and what they cost at the start, in memory, and when they are used for the first time.

use crate::{
    complain,
    setting::{Effort, all_serve},
};
use anyhow::{Context, Result};
use portcullis_bench::{Spread, Table};
use portcullis_client::{
    Client,
    v1::{CreateKeyRequest, Key, KeyType, SignRequest, sign_request::Input},
};
use portcullis_softhsm_tests::{Gateway, LONG, create_ring};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// One store that grows; at each size the gateway is started anew.
pub(crate) async fn measure(effort: &Effort) -> Result<()> {
    let cluster = effort.cluster();
    let mut table = Table::new(
        "Many P-256 keys, all made through the API",
        &[
            "keys",
            "created a second (16 callers)",
            "start until ready",
            "gateway after the start",
            "first use p50",
            "first use p99",
            "keys then used",
            "gateway with them",
            "largest worker with them",
        ],
    );
    let mut there = 0;
    for &wanted in effort.keys {
        complain(&format!("{wanted} keys"));
        let gateway = Gateway::start(&cluster);
        all_serve(effort, &gateway).await;
        let client = gateway.unix_client().await.with_deadline(LONG);
        if there == 0 {
            create_ring(&client, RING).await;
        }
        let started = Instant::now();
        for_each(&client, CALLERS, there..wanted, create).await?;
        let rate = (wanted - there) as f64 / started.elapsed().as_secs_f64();
        there = wanted;
        gateway.stop();

        let mut starts = Vec::new();
        for _ in 1..effort.repeats {
            let started = Instant::now();
            let gateway = Gateway::start(&cluster);
            starts.push(started.elapsed().as_secs_f64());
            gateway.stop();
        }
        let started = Instant::now();
        let gateway = Gateway::start(&cluster);
        starts.push(started.elapsed().as_secs_f64());
        all_serve(effort, &gateway).await;
        let empty = resident(gateway.pid()).context("the gateway's memory")?;
        let client = gateway.unix_client().await.with_deadline(LONG);
        // Connections and caches that belong to no key.
        for_each(&client, 1, 0..1, sign).await?;
        let step = (wanted / FIRST_USES).max(1);
        let mut times = Vec::new();
        for key in (step / 2..wanted).step_by(step).filter(|key| *key != 0) {
            let begun = Instant::now();
            sign(client.clone(), key).await?;
            times.push(begun.elapsed());
        }
        let used = wanted.min(MOST_USED);
        for_each(&client, CALLERS, 0..used, sign).await?;
        let start = Spread::of(starts).context("a start")?;
        table.row([
            wanted.to_string(),
            format!("{rate:.0}"),
            format!("{:.2} s [{:.2} – {:.2}]", start.median, start.least, start.most),
            mebibytes(empty),
            milliseconds(quantile(&mut times, 0.5)),
            milliseconds(quantile(&mut times, 0.99)),
            used.to_string(),
            mebibytes(resident(gateway.pid()).context("the gateway's memory")?),
            mebibytes(largest_worker(&gateway).context("a worker's memory")?),
        ]);
        gateway.stop();
    }
    println!("## Many keys\n\n{}\n", table.text());
    Ok(())
}

/// So many callers, who take one number after another.
async fn for_each<F>(
    client: &Client,
    callers: usize,
    numbers: std::ops::Range<usize>,
    work: fn(Client, usize) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (next, client) = (Arc::clone(&next), client.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return Ok(());
                }
                work(client.clone(), number).await?;
            }
        });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn create(client: Client, number: usize) -> Result<()> {
    let request = CreateKeyRequest {
        parent: format!("keyRings/{RING}"),
        key_id: format!("key-{number}"),
        key: Some(Key {
            r#type: KeyType::EcP256 as i32,
            ..Key::default()
        }),
        ..CreateKeyRequest::default()
    };
    let created = client.keys().create_key(request).await;
    created.with_context(|| format!("creating key {number}"))?;
    Ok(())
}

async fn sign(client: Client, number: usize) -> Result<()> {
    let request = SignRequest {
        name: format!("keyRings/{RING}/keys/key-{number}"),
        input: Some(Input::Digest(vec![7; 32].into())),
        ..SignRequest::default()
    };
    let signed = client.crypto().sign(request).await;
    signed.with_context(|| format!("signing with key {number}"))?;
    Ok(())
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    times.get(at).copied().unwrap_or_default()
}

fn largest_worker(gateway: &Gateway) -> Option<u64> {
    gateway.workers().into_values().filter_map(resident).max()
}

/// Memory in KiB, which a process tells everybody, also where it tells nothing else.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn mebibytes(kibibytes: u64) -> String {
    format!("{} MiB", kibibytes / 1024)
}

const RING: &str = "many";
const CALLERS: usize = 16;
const FIRST_USES: usize = 500;
const MOST_USED: usize = 20_000;

//! Ten times as much as can be done: who is served, who is refused, and what the gateway's memory comes to.

use crate::{
    calls::{KeySpec, create_key, create_ring, encrypt_request, message_request},
    cluster::TestCluster,
    gateway::Gateway,
    process::Held,
    program::LONG,
};
use portcullis_client::{
    Client, Code, Status,
    v1::{KeyOperation, KeyType, Mechanism},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic_types::StatusExt;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burden {
    /// Signatures by RSA-4096, ten times as many a second as are made when nobody is refused: few bytes and much work.
    Signatures,
    /// Encryptions of a megabyte, by ten times the callers, who ask again at once when they are refused: many bytes and little work.
    Megabytes,
}

/// How hard it is pressed.
#[derive(Debug, Clone, Copy)]
pub struct Pressure {
    /// What is asked for.
    pub burden: Burden,
    /// How many callers are served well.
    pub callers: usize,
    /// How long they are, and after them ten times as many.
    pub time: Duration,
    /// How long work and probes may take, if not as long as by default.
    pub patience: Option<&'static str>,
}

/// What came of it.
#[derive(Debug)]
pub struct Endured {
    /// Calls of each kind of end while all were served well.
    pub before: Ends,
    /// Calls of each kind of end under ten times that.
    pub under: Ends,
    /// The gateway's memory in KiB at the end of the first time.
    pub memory_before: u64,
    /// The most memory in KiB while it was pressed.
    pub memory_most: u64,
}

/// How calls ended.
#[derive(Debug, Default, Clone)]
pub struct Ends {
    /// They were done.
    pub served: u64,
    /// They were told to come back, and when.
    pub refused: u64,
    /// Their deadline passed.
    pub late: u64,
    /// Anything else, in words.
    pub failed: Vec<String>,
    /// How long they took in all to end.
    pub lasted: Duration,
}

impl Ends {
    /// How many were done in a second.
    pub fn rate(&self) -> f64 {
        self.served as f64 / self.lasted.as_secs_f64()
    }

    fn note(&mut self, answer: Result<(), Status>) {
        let Err(status) = answer else {
            self.served += 1;
            return;
        };
        match status.code() {
            Code::ResourceExhausted if status.get_details_retry_info().is_some() => self.refused += 1,
            Code::DeadlineExceeded => self.late += 1,
            _ => self.failed.push(status.to_string()),
        }
    }

    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.late += other.late;
        self.failed.extend(other.failed);
    }
}

/// One call after another.
#[derive(Clone)]
struct Caller {
    client: Client,
    name: Arc<str>,
    burden: Burden,
}

impl Caller {
    async fn call(&self) -> Result<(), Status> {
        let crypto = self.client.crypto();
        match self.burden {
            Burden::Signatures => drop(crypto.clone().sign(message_request(&self.name, b"a message")).await?),
            Burden::Megabytes => {
                let request = encrypt_request(&self.name, &[7; MEGABYTE], b"");
                drop(crypto.clone().encrypt(request).await?);
            }
        }
        Ok(())
    }
}

/// Presses a gateway on a cluster of its own.
pub async fn press(pressure: Pressure) -> Endured {
    let cluster = TestCluster::new();
    if let Some(patience) = pressure.patience {
        cluster.set_in_cluster("hang_after", patience);
        cluster.set_in_cluster("probe_deadline", patience);
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let spec = match pressure.burden {
        Burden::Signatures => KeySpec::wrapped(KeyType::Rsa4096, &[(KeyOperation::Sign, Mechanism::RsaPkcs1Sha256)]),
        Burden::Megabytes => KeySpec::AES_256,
    };
    let patient = client.clone().with_deadline(LONG);
    let name = create_key(&patient, "ring", "key", spec).await.name.into();
    let caller = Caller {
        client,
        name,
        burden: pressure.burden,
    };
    let held = || Held::by(gateway.pid()).map_or(0, |held| held.memory);
    let before = closed(&caller, pressure.callers, pressure.time).await;
    let memory_before = held();
    let most = Arc::new(AtomicU64::new(memory_before));
    let over = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let (most, over, pid) = (Arc::clone(&most), Arc::clone(&over), gateway.pid());
        async move {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(Held::by(pid).map_or(0, |held| held.memory), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    let under = match pressure.burden {
        Burden::Signatures => open(&caller, before.rate() * TIMES as f64, pressure.time).await,
        Burden::Megabytes => closed(&caller, pressure.callers * TIMES, pressure.time).await,
    };
    over.store(true, Ordering::Relaxed);
    watching.await.expect("the watch does not panic");
    // And then it is as before.
    caller.call().await.expect("a call when the pressure is over");
    Endured {
        before,
        under,
        memory_before,
        memory_most: most.load(Ordering::Relaxed),
    }
}

/// So many callers, each with one call after another.
async fn closed(caller: &Caller, callers: usize, time: Duration) -> Ends {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let caller = caller.clone();
        tasks.spawn(async move {
            let mut ends = Ends::default();
            while started.elapsed() < time {
                ends.note(caller.call().await);
            }
            ends
        });
    }
    let mut all = Ends::default();
    while let Some(ends) = tasks.join_next().await {
        all.add(ends.expect("no caller panics"));
    }
    all.lasted = started.elapsed();
    all
}

/// So many calls a second, whatever becomes of those before them.
async fn open(caller: &Caller, rate: f64, time: Duration) -> Ends {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    let mut all = Ends::default();
    let mut begun = 0.0;
    while started.elapsed() < time {
        while begun < started.elapsed().as_secs_f64() * rate {
            begun += 1.0;
            let caller = caller.clone();
            tasks.spawn(async move { caller.call().await });
        }
        while let Some(answer) = tasks.try_join_next() {
            all.note(answer.expect("no caller panics"));
        }
        tokio::time::sleep(TURN).await;
    }
    while let Some(answer) = tasks.join_next().await {
        all.note(answer.expect("no caller panics"));
    }
    all.lasted = started.elapsed();
    all
}

/// So many times what can be served.
const TIMES: usize = 10;
const MEGABYTE: usize = 1 << 20;
const LOOK: Duration = Duration::from_millis(50);
const TURN: Duration = Duration::from_millis(2);

//! How much is done in a second.

use crate::{
    calls::{KeySpec, create_key, create_ring, encrypt_request, message_request},
    cluster::{MEMBERS, TestCluster},
    gateway::Gateway,
    program::LONG,
};
use portcullis_client::v1::MemberState;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Signatures by ECDSA on P-256.
    Sign,
    /// AES-256-GCM over 1 KiB.
    Encrypt,
}

/// How much of it is done, with how many processes.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// How many members serve.
    pub members: usize,
    /// How many workers each of them has.
    pub workers: u32,
    /// How many call at once, over the Unix socket, one call after another.
    pub callers: usize,
    /// For how long it is measured, after a tenth of that to warm up.
    pub time: Duration,
}

/// Operations in a second.
pub async fn throughput(of: Throughput, work: Work) -> f64 {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let members = config["member"].as_array_mut().expect("[[member]]");
        members.truncate(of.members);
        for member in members {
            let member = member.as_table_mut().expect("a member's table");
            member.insert("workers".to_owned(), i64::from(of.workers).into());
        }
    });
    let gateway = Gateway::start(&cluster);
    for member in MEMBERS.into_iter().take(of.members) {
        let ready = gateway.wait_for_worker(member, of.workers.into()).await;
        assert_eq!(ready.state(), MemberState::Ready, "{}", ready.reason);
    }
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let spec = match work {
        Work::Sign => KeySpec::EC_P256,
        Work::Encrypt => KeySpec::AES_256,
    };
    let name = create_key(&client, "ring", "key", spec).await.name;
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for _ in 0..of.callers {
        let (client, name) = (client.clone(), name.clone());
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        callers.spawn(async move {
            let crypto = client.crypto();
            let (sign, encrypt) = (
                message_request(&name, &[7; 32]),
                encrypt_request(&name, &[7; 1024], b""),
            );
            while !stop.load(Ordering::Relaxed) {
                match work {
                    Work::Sign => drop(crypto.clone().sign(sign.clone()).await.expect("a signature")),
                    Work::Encrypt => drop(crypto.clone().encrypt(encrypt.clone()).await.expect("a ciphertext")),
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(of.time / 10).await;
    let (before, started) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(of.time).await;
    let rate = (done.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller panics");
    }
    rate
}

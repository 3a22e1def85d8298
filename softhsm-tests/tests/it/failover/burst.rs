//! A member dies under load, and nobody notices.

use portcullis_client::{
    Client,
    v1::{Mechanism, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    Gateway, KeySpec, LONG, TestCluster, create_key, create_ring, public_key, sign, verifies, wait_until,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::task::JoinSet;

/// Signatures, all of them under way at once: each has a caller of its own.
const SIGNATURES: usize = 2000;
const CALLERS: usize = SIGNATURES;

/// A signing key and what is needed to check its work.
#[derive(Clone)]
struct Signer {
    name: String,
    mechanism: Mechanism,
    public_key: Vec<u8>,
}

impl Signer {
    async fn create(client: &Client, id: &str, spec: KeySpec, mechanism: Mechanism) -> Self {
        let name = create_key(client, "ring", id, spec).await.name;
        let public_key = public_key(client, &name, PublicKeyFormat::Der)
            .await
            .public_key
            .to_vec();
        Self {
            name,
            mechanism,
            public_key,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_under_load_costs_no_call_and_comes_back() {
    let cluster = TestCluster::new();
    // On a machine that does much else at once, signatures may take so long that a worker seems to hang.
    cluster.set_in_cluster("hang_after", "60s");
    cluster.set_in_cluster("probe_deadline", "60s");
    let gateway = Gateway::start(&cluster);
    let clients = gateway.clients().await.map(|(_, client)| client.with_deadline(LONG));
    create_ring(&clients[0], "ring").await;
    let signers = [
        Signer::create(&clients[0], "ec", KeySpec::EC_P256, Mechanism::EcdsaSha256).await,
        Signer::create(&clients[0], "rsa", KeySpec::RSA_PKCS1, Mechanism::RsaPkcs1Sha256).await,
    ];
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (client, done, signers) = (clients[caller % 2].clone(), Arc::clone(&done), signers.clone());
        callers.spawn(async move {
            let mut results = Vec::new();
            for number in (caller..SIGNATURES).step_by(CALLERS) {
                let signer = signers[(number / 2) % 2].clone();
                let message = format!("message {number}").into_bytes();
                let answer = sign(&client, &signer.name, &message).await;
                done.fetch_add(1, Ordering::Relaxed);
                results.push((signer, message, answer.map(|answer| answer.signature)));
            }
            results
        });
    }
    let killed = tokio::task::block_in_place(|| {
        wait_until("a quarter of the signatures", LONG, || {
            (done.load(Ordering::Relaxed) >= SIGNATURES / 4).then_some(())
        });
        gateway.kill_worker("b")
    });
    let before = done.load(Ordering::Relaxed);
    assert!(
        before < SIGNATURES * 9 / 10,
        "the load was over before the worker was killed"
    );

    let (mut signatures, mut failures) = (0, Vec::new());
    while let Some(results) = callers.join_next().await {
        for (signer, message, answer) in results.expect("a caller does not panic") {
            match answer {
                Ok(signature) => {
                    assert!(
                        verifies(&signer.public_key, signer.mechanism, &message, &signature),
                        "{}",
                        signer.name
                    );
                    signatures += 1;
                }
                Err(status) => failures.push(status.to_string()),
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {SIGNATURES} failed, first: {}",
        failures.len(),
        failures[0]
    );
    assert_eq!(signatures, SIGNATURES);

    let member = gateway.wait_for_worker("b", 2).await;
    assert_eq!(member.worker_starts, 2);
    let new = gateway.workers()["b"];
    assert_ne!(new, killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_in_turn_may_die_while_callers_go_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    let ciphertext = portcullis_softhsm_tests::encrypt(&client, &name, b"a plaintext", b"")
        .await
        .expect("a ciphertext");
    for member in ["a", "b", "c"] {
        gateway.kill_worker(member);
        for number in 0..50 {
            // New keys, old keys, and plaintexts that another member encrypted.
            if number % 10 == 0 {
                let key = create_key(&client, "ring", &format!("{member}-{number}"), KeySpec::EC_P256).await;
                sign(&client, &key.name, b"a message").await.expect("a signature");
            }
            let answer = portcullis_softhsm_tests::decrypt(&client, &name, &ciphertext.ciphertext, b"").await;
            assert_eq!(answer.expect("the plaintext").plaintext, &b"a plaintext"[..]);
        }
        gateway.wait_for_worker(member, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_replaced_and_costs_no_call() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("probe_interval", "100ms");
    cluster.set_in_cluster("probe_deadline", "1s");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let signer = Signer::create(&client, "ec", KeySpec::EC_P256, Mechanism::EcdsaSha256).await;
    let frozen = gateway.freeze_worker("b");
    let mut callers = JoinSet::new();
    for number in 0..200u8 {
        let (client, name) = (client.clone(), signer.name.clone());
        callers.spawn(async move { (number, sign(&client, &name, &[number]).await) });
    }
    while let Some(result) = callers.join_next().await {
        let (number, answer) = result.expect("a caller does not panic");
        let signature = answer
            .unwrap_or_else(|status| panic!("signature {number}: {status}"))
            .signature;
        assert!(verifies(&signer.public_key, signer.mechanism, &[number], &signature));
    }
    tokio::task::block_in_place(|| {
        wait_until("another worker in the place of the one that hangs", LONG, || {
            gateway
                .workers()
                .get("b")
                .is_some_and(|pid| *pid != frozen)
                .then_some(())
        });
    });
    gateway.wait_for_worker("b", 2).await;
}

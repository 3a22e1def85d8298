//! The gateway dies at any moment; what it answered is true.

use portcullis_client::{
    Client,
    v1::{GetKeyRequest, Key, ListKeysRequest, Mechanism, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, KeySpec, TestCluster, create_key, create_ring, key_request, public_key, sign, verifies,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};
use tokio::task::JoinSet;

const ROUNDS: u64 = 6;
const CALLERS: usize = 8;
const SEED: u64 = 0x706f_7274_6375_6c6c;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_answered_outlives_the_gateway_and_a_listed_key_can_be_used() {
    let cluster = TestCluster::new();
    let mut gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "ring").await;
    let mut answered: BTreeMap<String, Key> = BTreeMap::new();
    let mut moments = StdRng::seed_from_u64(SEED);
    for round in 0..ROUNDS {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let client = gateway.unix_client().await;
            callers.spawn(create_until_it_breaks(client, format!("r{round}-c{caller}")));
        }
        // Not waiting for anything: the moment is what this test varies.
        tokio::time::sleep(Duration::from_micros(moments.random_range(1_000..400_000))).await;
        tokio::task::block_in_place(|| gateway.kill9());
        while let Some(keys) = callers.join_next().await {
            answered.extend(keys.expect("a caller does not panic").into_iter().map(|key| (key.name.clone(), key)));
        }
        gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        for (name, key) in &answered {
            let found = client.keys().get_key(GetKeyRequest { name: name.clone() }).await;
            let found = found.unwrap_or_else(|status| panic!("round {round}: {name} was answered: {status}"));
            assert!(found.into_inner() == *key, "round {round}: {name} is another than was answered");
        }
        let listed = list(&client).await;
        for name in answered.keys() {
            assert!(listed.contains(name), "round {round}: {name} is not listed");
        }
        for name in &listed {
            let public_key = public_key(&client, name, PublicKeyFormat::Der).await.public_key;
            let answer = sign(&client, name, b"a message").await;
            let answer = answer.unwrap_or_else(|status| panic!("round {round}: {name} is listed: {status}"));
            assert!(verifies(&public_key, Mechanism::EcdsaSha256, b"a message", &answer.signature), "{name}");
        }
        // The name of each key that was not answered is free or taken, but never in between.
        create_key(&client, "ring", &format!("after-{round}"), KeySpec::EC_P256).await;
    }
    assert!(!answered.is_empty(), "no key was ever answered: the moments are too early");
    gateway.stop();
    AuditLog::read(&cluster.audit_file());
}

/// Creates keys until the gateway is gone; returns those that it answered.
async fn create_until_it_breaks(client: Client, prefix: String) -> Vec<Key> {
    let mut keys = Vec::new();
    for number in 0.. {
        match client.keys().create_key(key_request("ring", &format!("{prefix}-{number}"), KeySpec::EC_P256)).await {
            Ok(answer) => keys.push(answer.into_inner()),
            Err(_) => break,
        }
    }
    keys
}

async fn list(client: &Client) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListKeysRequest { parent: "keyRings/ring".to_owned(), page_size: 1000, page_token, ..Default::default() };
        let page = client.keys().list_keys(request).await.expect("a page").into_inner();
        assert!(page.unauthentic.is_empty(), "{:?}", page.unauthentic);
        names.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_that_was_answered_outlives_the_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ed", KeySpec::ED25519_RESIDENT).await.name;
    let public = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
    tokio::task::block_in_place(|| gateway.kill9());
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    assert_eq!(public_key(&client, &name, PublicKeyFormat::Der).await.public_key, public);
    let answer = sign(&client, &name, b"a message").await.expect("a signature");
    assert!(verifies(&public, Mechanism::Ed25519, b"a message", &answer.signature));
}

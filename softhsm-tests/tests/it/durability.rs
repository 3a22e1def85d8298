//! The gateway dies at any moment; what it answered is true.

use portcullis_client::{
    Client,
    v1::{GetKeyRequest, Key, ListKeysRequest, Mechanism, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    Adversary, AuditLog, Gateway, KeySpec, MEMBERS, SHORT, TestCluster, create_key, create_ring, key_request,
    public_key, sign, verifies, wait_until,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
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
            answered.extend(
                keys.expect("a caller does not panic")
                    .into_iter()
                    .map(|key| (key.name.clone(), key)),
            );
        }
        gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        for (name, key) in &answered {
            let found = client.keys().get_key(GetKeyRequest { name: name.clone() }).await;
            let found = found.unwrap_or_else(|status| panic!("round {round}: {name} was answered: {status}"));
            assert!(
                found.into_inner() == *key,
                "round {round}: {name} is another than was answered"
            );
        }
        let listed = list(&client).await;
        for name in answered.keys() {
            assert!(listed.contains(name), "round {round}: {name} is not listed");
        }
        for name in &listed {
            let public_key = public_key(&client, name, PublicKeyFormat::Der).await.public_key;
            let answer = sign(&client, name, b"a message").await;
            let answer = answer.unwrap_or_else(|status| panic!("round {round}: {name} is listed: {status}"));
            assert!(
                verifies(&public_key, Mechanism::EcdsaSha256, b"a message", &answer.signature),
                "{name}"
            );
        }
        // The name of each key that was not answered is free or taken, but never in between.
        create_key(&client, "ring", &format!("after-{round}"), KeySpec::EC_P256).await;
    }
    assert!(
        !answered.is_empty(),
        "no key was ever answered: the moments are too early"
    );
    gateway.stop();
    AuditLog::read(&cluster.audit_file());
}

/// Creates keys until the gateway is gone; returns those that it answered.
async fn create_until_it_breaks(client: Client, prefix: String) -> Vec<Key> {
    let mut keys = Vec::new();
    for number in 0.. {
        match client
            .keys()
            .create_key(key_request("ring", &format!("{prefix}-{number}"), KeySpec::EC_P256))
            .await
        {
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
        let request = ListKeysRequest {
            parent: "keyRings/ring".to_owned(),
            page_size: 1000,
            page_token,
            ..Default::default()
        };
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
    assert_eq!(
        public_key(&client, &name, PublicKeyFormat::Der).await.public_key,
        public
    );
    let answer = sign(&client, &name, b"a message").await.expect("a signature");
    assert!(verifies(&public, Mechanism::Ed25519, b"a message", &answer.signature));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_that_was_not_finished_leaves_nothing_on_its_member() {
    let cluster = TestCluster::new();
    let mut gateway = Gateway::start(&cluster);
    create_ring(&gateway.unix_client().await, "ring").await;
    let mut moments = StdRng::seed_from_u64(SEED);
    let mut known = 0;
    for round in 0..3 {
        let mut callers = JoinSet::new();
        for caller in 0..3 {
            let client = gateway.unix_client().await;
            callers.spawn(async move {
                for number in 0.. {
                    let request = key_request(
                        "ring",
                        &format!("r{round}-c{caller}-{number}"),
                        KeySpec::ED25519_RESIDENT,
                    );
                    if client.keys().create_key(request).await.is_err() {
                        return;
                    }
                }
            });
        }
        // Not waiting for anything: the moment is what this test varies.
        tokio::time::sleep(Duration::from_micros(moments.random_range(50_000..400_000))).await;
        tokio::task::block_in_place(|| gateway.kill9());
        callers.join_all().await;
        gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        let mut expected = BTreeMap::from(MEMBERS.map(|member| (member.to_owned(), BTreeSet::new())));
        for name in list(&client).await {
            let key = client
                .keys()
                .get_key(GetKeyRequest { name: name.clone() })
                .await
                .expect("a key")
                .into_inner();
            let id = format!("{}00000001", key.uid.replace('-', ""));
            let members = key.primary.expect("the primary version").members;
            expected
                .get_mut(members[0].trim_start_matches("members/"))
                .expect("a known member")
                .insert(id);
            sign(&client, &name, b"a message")
                .await
                .unwrap_or_else(|status| panic!("{name} is listed: {status}"));
        }
        known = expected.values().map(BTreeSet::len).sum();
        // What was begun and not finished is taken away in the background.
        tokio::task::block_in_place(|| {
            for member in MEMBERS {
                let mut found = BTreeSet::new();
                let clean = || {
                    found = Adversary::at(&cluster, member).resident_keys();
                    (found == expected[member]).then_some(())
                };
                wait_until(
                    &format!("round {round}: only finished keys on member {member}"),
                    SHORT,
                    clean,
                );
            }
        });
    }
    assert!(
        known > 0,
        "no resident key was ever finished: the moments are too early"
    );
}

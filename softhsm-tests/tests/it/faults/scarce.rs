//! What only one member has, and what all have little of: resident keys and sessions.

use super::FaultyMember;
use portcullis_client::{
    Code,
    v1::{KeyOperation, KeyType, Mechanism, MemberState, PublicKeyFormat},
};
use portcullis_softhsm_tests::{
    FaultyModule, Function, Gateway, KeySpec, LONG, MEMBERS, Rule, TestCluster, create_key, create_ring, key_request,
    public_key, refusal, sign, verifies,
};
use std::time::{Duration, Instant};

/// A resident key on `b`, which no other member can help with.
async fn resident_on_b(faulty: &FaultyMember) -> (String, Vec<u8>) {
    let spec = KeySpec {
        uses: &[(KeyOperation::Sign, Mechanism::EcdsaSha256)],
        key_type: KeyType::EcP256,
        ..KeySpec::ED25519_RESIDENT
    };
    let mut request = key_request("ring", "resident", spec);
    request.member = "b".to_owned();
    let key = faulty.client.keys().create_key(request).await.expect("a resident key");
    let name = key.into_inner().name;
    let public_key = public_key(&faulty.client, &name, PublicKeyFormat::Der).await.public_key;
    (name, public_key.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_survives_what_a_worker_can_repair() {
    let faulty = FaultyMember::start().await;
    let (name, public_key) = resident_on_b(&faulty).await;
    for rule in [
        Rule::lose_login([Function::C_SignInit]),
        Rule::lose_sessions([Function::C_SignInit]),
        Rule::fail_before([Function::C_SignInit], 0x82).first(1),
        Rule::fail_before([Function::C_FindObjectsInit], 0xb3).first(1),
        Rule::fail_before([Function::C_Sign], 0x101).first(1),
    ] {
        let placed = faulty.module.place(rule.clone());
        if rule.functions == [Function::C_FindObjectsInit] {
            // It is looked for again only when its handle is lost.
            faulty
                .module
                .place(Rule::fail_before([Function::C_SignInit], 0x82).first(1));
        }
        let signed = sign(&faulty.client, &name, b"a message").await;
        let signed = signed.unwrap_or_else(|status| panic!("{rule:?}: {status:?}"));
        assert!(verifies(
            &public_key,
            Mechanism::EcdsaSha256,
            b"a message",
            &signed.signature
        ));
        assert_eq!(faulty.module.strikes(placed), 1, "{rule:?}");
        faulty.module.clear();
    }
    let member = faulty.member().await;
    assert_eq!(
        (member.state(), member.worker_starts),
        (MemberState::Ready, 1),
        "{}",
        member.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_whose_member_was_reset_signs_again_after_a_new_start() {
    let faulty = FaultyMember::start_with(|cluster| cluster.set_in_cluster("probe_interval", "200ms")).await;
    let (name, public_key) = resident_on_b(&faulty).await;
    faulty.module.place(Rule::lose_handles([Function::C_SignInit]));
    let started = Instant::now();
    let signed = loop {
        match sign(&faulty.client, &name, b"a message").await {
            Ok(signed) => break signed,
            Err(status) => refusal::<()>(Err(status))
                .is(Code::Unavailable, "HSM_UNAVAILABLE")
                .retryable(),
        };
        assert!(started.elapsed() < LONG, "the resident key is lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(verifies(
        &public_key,
        Mechanism::EcdsaSha256,
        b"a message",
        &signed.signature
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_few_sessions_serve_many_callers() {
    let cluster = TestCluster::new();
    let modules = MEMBERS.map(|member| FaultyModule::install(&cluster, member));
    // One says how many it has, one says that it has no limit, one lies.
    for (module, told) in modules.iter().zip([Some(7), None, Some(1000)]) {
        module.place(Rule::cap_sessions(7, told));
    }
    cluster.set_in_cluster("probe_interval", "200ms");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "signer", KeySpec::EC_P256).await.name;
    let public_key = public_key(&client, &name, PublicKeyFormat::Der).await.public_key;
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..64u8 {
        let (client, name) = (client.clone(), name.clone());
        callers.spawn(async move {
            let mut signed = Vec::new();
            for round in 0..5 {
                let message = vec![number, round];
                let answer = sign(&client, &name, &message).await.expect("a signature");
                signed.push((message, answer.signature));
            }
            create_key(&client, "ring", &format!("key-{number}"), KeySpec::EC_P256).await;
            signed
        });
    }
    for (message, signature) in callers.join_all().await.into_iter().flatten() {
        assert!(verifies(&public_key, Mechanism::EcdsaSha256, &message, &signature));
    }
    // A resident key needs one session more.
    for member in MEMBERS {
        let mut request = key_request("ring", &format!("resident-{member}"), KeySpec::ED25519_RESIDENT);
        request.member = member.to_owned();
        client.keys().create_key(request).await.expect("a resident key");
        let found = gateway.member(member).await;
        assert_eq!(
            (found.state(), found.worker_starts),
            (MemberState::Ready, 1),
            "{}",
            found.reason
        );
    }
}

//! Members that do not start, or are all gone.

use portcullis_client::{
    Client, Code,
    v1::{Member, MemberState},
};
use portcullis_softhsm_tests::{
    Adversary, Gateway, KeySpec, LONG, MEMBERS, TestCluster, create_key, create_ring, key_request, public_key, refusal,
    sign,
};
use std::{fs, os::unix::fs::PermissionsExt, time::Instant};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Starts a cluster whose member `b` cannot work, and checks that the others serve and that `b` is left alone.
async fn others_serve_without_b(cluster: &TestCluster) -> Member {
    let gateway = Gateway::start(cluster);
    let stopped = gateway.wait_for_member("b", MemberState::Stopped).await;
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    for number in 0..100u8 {
        sign(&client, &name, &[number])
            .await
            .expect("a signature by another member");
    }
    // Another member dies and comes back meanwhile; the stopped one must not be tried again with it.
    gateway.kill_worker("a");
    let back = gateway.wait_for_worker("a", 2).await;
    assert_eq!(back.worker_starts, 2);
    let still = gateway.member("b").await;
    assert!(still.state() == MemberState::Stopped, "{}", still.reason);
    assert_eq!(
        still.worker_starts, stopped.worker_starts,
        "the stopped member was started again"
    );
    assert_eq!(still.worker_starts, 1, "it was tried more than once");
    assert!(
        !gateway.workers().contains_key("b"),
        "a worker of the stopped member is left"
    );
    still
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_stops_its_member_after_one_try_and_says_so() {
    let cluster = TestCluster::new();
    // With no pause a retry would come at once.
    cluster.set_in_cluster("restart_pause", "1ms");
    let wrong = cluster.path().join("wrong.pin");
    fs::write(&wrong, "00000000-wrong\n").expect("a PIN file");
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).expect("its permissions");
    cluster.edit_member("b", |member| {
        drop(member.insert("pin_file".to_owned(), wrong.to_str().expect("UTF-8").into()))
    });
    let stopped = others_serve_without_b(&cluster).await;
    assert!(stopped.reason.contains("PIN"), "{}", stopped.reason);
    assert!(
        !stopped.reason.contains("00000000-wrong"),
        "the reason shows the PIN: {}",
        stopped.reason
    );
    assert!(
        Adversary::at(&cluster, "b").can_log_in(),
        "the right PIN is refused now"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_module_stops_its_member_and_is_named() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "1ms");
    let module = "/nonexistent/libpkcs11.so";
    cluster.edit_member("b", |member| drop(member.insert("module".to_owned(), module.into())));
    let stopped = others_serve_without_b(&cluster).await;
    assert!(stopped.reason.contains(module), "{}", stopped.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_module_stops_its_member_and_is_named() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "1ms");
    let module = cluster.path().join("not-a-module.so");
    fs::write(&module, "not a module").expect("a file");
    cluster.edit_member("b", |member| {
        drop(member.insert("module".to_owned(), module.to_str().expect("UTF-8").into()))
    });
    let stopped = others_serve_without_b(&cluster).await;
    assert!(stopped.reason.contains("not-a-module.so"), "{}", stopped.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_stops_its_member_and_is_named() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "1ms");
    cluster.edit_member("b", |member| {
        drop(member.insert("token_label".to_owned(), "nowhere".into()))
    });
    let stopped = others_serve_without_b(&cluster).await;
    assert!(stopped.reason.contains("nowhere"), "{}", stopped.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_members_are_all_stopped_starts_and_says_that_it_cannot_serve() {
    let cluster = TestCluster::new();
    for member in MEMBERS {
        cluster.edit_member(member, |member| {
            drop(member.insert("token_label".to_owned(), "nowhere".into()))
        });
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    let request = portcullis_client::v1::GenerateRandomRequest { length_bytes: 16 };
    let refused = refusal(client.crypto().generate_random(request).await);
    refused.is(Code::Unavailable, "HSM_UNAVAILABLE").retryable();
    assert_eq!(health(&gateway).await, ServingStatus::NotServing);
    gateway.stop();
}

async fn health(gateway: &Gateway) -> ServingStatus {
    let mut health = HealthClient::new(gateway.wire().await.channel());
    health
        .check(HealthCheckRequest::default())
        .await
        .expect("the health of the gateway")
        .into_inner()
        .status()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_member_is_ready_callers_are_told_when_to_come_back_and_then_all_is_well() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "4s");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    assert_eq!(health(&gateway).await, ServingStatus::Serving);
    for member in MEMBERS {
        gateway.kill_worker(member);
    }
    let started = Instant::now();
    let refused = loop {
        match sign(&client, &name, b"a message").await {
            Err(status) => break refusal::<()>(Err(status)),
            // The gateway had not seen yet that its workers are gone.
            Ok(_) => assert!(started.elapsed() < LONG, "signatures without a member"),
        }
    };
    refused.is(Code::Unavailable, "HSM_UNAVAILABLE").retryable();
    assert_eq!(health(&gateway).await, ServingStatus::NotServing);
    let create = client
        .keys()
        .create_key(key_request("ring", "meanwhile", KeySpec::EC_P256))
        .await;
    refusal(create).is(Code::Unavailable, "HSM_UNAVAILABLE").retryable();
    // What needs no HSM goes on, as long as the record was checked before.
    public_key(&client, &name, portcullis_client::v1::PublicKeyFormat::Pem).await;

    for member in MEMBERS {
        gateway.wait_for_member(member, MemberState::Ready).await;
    }
    assert_eq!(health(&gateway).await, ServingStatus::Serving);
    sign(&client, &name, b"a message").await.expect("a signature");
    create_after(&client).await;
}

async fn create_after(client: &Client) {
    create_key(client, "ring", "meanwhile", KeySpec::EC_P256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resident_key_waits_for_its_member() {
    let cluster = TestCluster::new();
    cluster.set_in_cluster("restart_pause", "2s");
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let mut request = key_request("ring", "ed", KeySpec::ED25519_RESIDENT);
    request.member = "b".to_owned();
    let name = client
        .keys()
        .create_key(request)
        .await
        .expect("a resident key")
        .into_inner()
        .name;
    let wrapped = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    gateway.kill_worker("b");
    gateway.wait_for_member("b", MemberState::Down).await;
    let refused = refusal(sign(&client, &name, b"a message").await);
    refused.is(Code::Unavailable, "HSM_UNAVAILABLE").retryable();
    sign(&client, &wrapped, b"a message")
        .await
        .expect("a wrapped key is served by the others");
    gateway.wait_for_worker("b", 2).await;
    sign(&client, &name, b"a message").await.expect("the member is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cluster_refuses_at_once_and_does_what_it_accepted() {
    let cluster = TestCluster::new();
    for member in MEMBERS {
        cluster.edit_member(member, |member| {
            member.insert("queue".to_owned(), 2.into());
            member.insert("sessions".to_owned(), 1.into());
        });
    }
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "rsa", KeySpec::RSA_PSS).await.name;
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..200u8 {
        let (client, name) = (client.clone(), name.clone());
        callers.spawn(async move { sign(&client, &name, &[number]).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = callers.join_all().await.into_iter().partition(Result::is_ok);
    assert!(
        !made.is_empty() && !refused.is_empty(),
        "{} signatures, {} refusals",
        made.len(),
        refused.len()
    );
    for answer in refused {
        refusal(answer).is(Code::ResourceExhausted, "HSM_SATURATED").retryable();
    }
    for member in MEMBERS {
        let member = gateway.member(member).await;
        assert!(
            member.state() == MemberState::Ready && member.worker_starts == 1,
            "{}",
            member.reason
        );
    }
    sign(&client, &name, b"a message").await.expect("there is room again");
}

//! Everything that is exchanged while calls go on.

use super::{call, connect, wait_for_reloads};
use portcullis_client::{Client, Code, Credentials};
use portcullis_softhsm_tests::{
    Authority, Gateway, KeySpec, LONG, SHORT, TestCluster, Wish, create_key, create_ring, message_request, refusal,
    sign, wait_until,
};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let gateway = Gateway::start(&cluster);
    let old = gateway.tls_client().await;
    let authority = Authority::named("a new authority");
    let bundle = cluster.place("pki/new-ca.pem", authority.certificate());
    let trusting = Credentials::new(cluster.pki("developer.pem"), cluster.pki("developer.key"), bundle);
    assert!(
        connect(&gateway, &trusting).await.is_err(),
        "the old certificate is trusted by the new bundle"
    );

    // Two files and two steps: in between they do not fit, and nothing changes.
    let (certificate, key) = authority.server();
    cluster.place("pki/server.pem", &certificate);
    cluster.place("pki/server.key", &key);
    let started = Instant::now();
    while connect(&gateway, &trusting).await.is_err() {
        assert!(started.elapsed() < LONG, "the new certificate is not shown");
    }
    call(&old).await.expect("an answer on the old connection");
    assert!(
        connect(&gateway, &cluster.developer()).await.is_err(),
        "the old certificate is still shown"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_authority_lets_its_clients_in() {
    let cluster = TestCluster::new();
    cluster.reload_often();
    let gateway = Gateway::start(&cluster);
    let partner = Authority::named("a partner");
    let identity = partner.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    assert!(connect(&gateway, &identity.credentials()).await.is_err());
    let ours = fs::read_to_string(cluster.pki("ca.pem")).expect("the authority");
    let both = cluster.place("pki/clients.pem", &format!("{ours}{}", partner.certificate()));
    cluster.edit_tls(|tls| {
        tls.insert("client_authorities".to_owned(), both.to_str().expect("UTF-8").into());
    });
    wait_for_reloads(&cluster, &["OK"]);
    let client = connect(&gateway, &identity.credentials()).await.expect("a connection");
    call(&client).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_the_logs_filter_change_on_sighup() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    let long = vec![7; 2000];
    client
        .crypto()
        .sign(message_request(&key, &long))
        .await
        .expect("a signature");
    assert!(!gateway.log().contains("a request ended"));
    cluster.edit_config(|config| {
        let limits = toml::Table::from_iter([("payload".to_owned(), "1KiB".into())]);
        config.insert("limits".to_owned(), limits.into());
        let log = toml::Table::from_iter([("filter".to_owned(), "info,portcullis_gateway=debug".into())]);
        config.insert("log".to_owned(), log.into());
    });
    gateway.hang_up();
    wait_for_reloads(&cluster, &["OK"]);
    let started = Instant::now();
    while client.crypto().sign(message_request(&key, &long)).await.is_ok() {
        assert!(started.elapsed() < LONG, "the old limit holds");
    }
    refusal(client.crypto().sign(message_request(&key, &long)).await).is(Code::InvalidArgument, "PAYLOAD_TOO_LARGE");
    tokio::task::block_in_place(|| {
        wait_until("the new filter", SHORT, || {
            gateway.log().contains("a request ended").then_some(())
        });
    });
}

/// Signs until it is told to end; every signature is made.
async fn sign_on(client: Client, key: String, ended: Arc<AtomicBool>) -> usize {
    let mut signatures = 0;
    while !ended.load(Ordering::Relaxed) {
        sign(&client, &key, b"a message").await.expect("a signature");
        signatures += 1;
    }
    signatures
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_reload_changes_nothing_while_calls_go_on() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let key = create_key(&client, "ring", "key", KeySpec::EC_P256).await.name;
    let ended = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for client in [client.clone(), gateway.unix_client().await] {
        callers.spawn(sign_on(client, key.clone(), Arc::clone(&ended)));
    }
    let good = fs::read_to_string(cluster.config_file()).expect("the configuration");
    // Wrong in two ways, and with a limit that would refuse every call.
    cluster.place(
        "portcullis.toml",
        &format!("{good}\n[limits]\npayload = \"1B\"\ncolour = \"blue\"\n[log]\nformat = \"song\"\n"),
    );
    gateway.hang_up();
    wait_for_reloads(&cluster, &["CONFIGURATION_INVALID"]);
    let log = gateway.log();
    for problem in ["limits.colour", "log.format", "nothing was reloaded"] {
        assert!(log.contains(problem), "{problem} is not in the log:\n{log}");
    }
    // A key that does not fit its certificate is found out too, before anything is exchanged.
    let (_, other_key) = Authority::named("another").server();
    let server_key = fs::read_to_string(cluster.pki("server.key")).expect("the key");
    cluster.place("portcullis.toml", &format!("{good}\n[limits]\npayload = \"1B\"\n"));
    cluster.place("pki/server.key", &other_key);
    gateway.hang_up();
    wait_for_reloads(&cluster, &["CONFIGURATION_INVALID", "CONFIGURATION_INVALID"]);
    call(&client).await.expect("an answer");
    // And all is well when it is repaired.
    cluster.place("pki/server.key", &server_key);
    cluster.place("portcullis.toml", &good);
    gateway.hang_up();
    wait_for_reloads(&cluster, &["CONFIGURATION_INVALID", "CONFIGURATION_INVALID", "OK"]);
    gateway.tls_client().await;
    ended.store(true, Ordering::Relaxed);
    for signatures in callers.join_all().await {
        assert!(signatures > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_said_by_name() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    cluster.edit_tls(|tls| drop(tls.insert("address".to_owned(), "127.0.0.1:1".into())));
    gateway.hang_up();
    wait_for_reloads(&cluster, &["OK"]);
    let log = gateway.log();
    assert!(
        log.contains("it needs a restart setting=\"listen.tls.address\""),
        "{log}"
    );
    assert!(!log.contains("setting=\"domain\""), "{log}");
    gateway.tls_client().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_configured_otherwise_gets_a_new_worker_before_the_old_one_goes() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    cluster.edit_member("a", |member| drop(member.insert("weight".to_owned(), 2.into())));
    gateway.hang_up();
    wait_for_reloads(&cluster, &["OK"]);
    let member = gateway.wait_for_worker("a", 2).await;
    assert_eq!((member.weight, member.worker_starts), (2, 2));
    let log = gateway.log();
    assert!(!log.contains("a member is down"), "{log}");
    assert!(!log.contains("it needs a restart"), "{log}");
}

//! The endpoint that Prometheus reads.

use portcullis_client::{Client, Code};
use portcullis_gateway::telemetry::catalog;
use portcullis_softhsm_tests::{
    Authority, Gateway, KeySpec, Launch, MEMBERS, SHORT, Scrape, TestCluster, Wish, create_key, create_ring, decrypt,
    encrypt, find_tool, refusal, run_with_input, sign, wait_until,
};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, process::Command};

/// A gateway that serves its metrics and has done a little of everything for one client.
pub(super) async fn busy_gateway() -> (TestCluster, Gateway, Client) {
    let cluster = TestCluster::new();
    let socket = cluster.serve_metrics();
    cluster.set_in_cluster("probe_interval", "50ms");
    let gateway = Gateway::start(&cluster);
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let signer = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    let data = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    for _ in 0..20 {
        sign(&client, &signer, b"a message").await.expect("a signature");
    }
    let ciphertext = encrypt(&client, &data, b"a plaintext", b"")
        .await
        .expect("a ciphertext");
    refusal(decrypt(&client, &data, &ciphertext.ciphertext, b"wrong").await)
        .is(Code::InvalidArgument, "DECRYPTION_FAILED");
    refusal(sign(&client, "keyRings/ring/keys/absent", b"").await).is(Code::NotFound, "KEY_NOT_FOUND");
    // What workers know of their keys comes with their next probes.
    tokio::task::block_in_place(|| {
        wait_until("the workers' counts", SHORT, || {
            let scrape = Scrape::of(&socket);
            let lookups = |result| scrape.sum("portcullis_loaded_keys_lookups_total", &[("portcullis_result", result)]);
            // Each of the two keys was loaded by one member or another.
            (lookups("hit") > Some(0.0) && lookups("miss") >= Some(2.0)).then_some(())
        })
    });
    (cluster, gateway, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_what_was_done_and_nothing_that_nobody_expects() {
    let (cluster, gateway, _client) = busy_gateway().await;
    let socket = cluster.path().join("metrics.sock");
    let scrape = Scrape::of(&socket);
    run_with_input(
        Command::new(find_tool("promtool", "prometheus")).args(["check", "metrics"]),
        scrape.text().as_bytes(),
    )
    .succeeded();

    // Exactly the metrics of the catalogue, with no other labels than it has.
    let mut expected: BTreeSet<String> = catalog::ALL.iter().map(catalog::Definition::prometheus_name).collect();
    expected.insert("target_info".to_owned());
    let families = scrape.families();
    assert_eq!(families.keys().cloned().collect::<BTreeSet<_>>(), expected);
    for metric in catalog::ALL {
        let name = metric.prometheus_name();
        assert_eq!(families[&name], metric.kind.name(), "{name}");
        let allowed: BTreeSet<_> = metric.attributes.iter().map(|one| one.replace('.', "_")).collect();
        let labels = scrape.labels(&name);
        assert!(labels.is_subset(&allowed), "{name} has the labels {labels:?}");
    }
    for told in ["ring", "keyRings", "developer", "spiffe", "absent"] {
        let shown = scrape
            .text()
            .lines()
            .find(|line| !line.starts_with('#') && line.contains(&format!("\"{told}")));
        assert_eq!(shown, None, "a label holds what a caller chose");
    }

    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    let signed = ("rpc_method", "portcullis.v1.CryptoService/Sign");
    let calls = "rpc_server_call_duration_seconds_count";
    assert_eq!(sum(calls, &[signed, ("rpc_response_status_code", "OK")]), Some(20.0));
    assert_eq!(
        sum(calls, &[signed, ("rpc_response_status_code", "NOT_FOUND")]),
        Some(1.0)
    );
    assert_eq!(
        sum(calls, &[("error_type", "NOT_FOUND")]),
        None,
        "a caller's mistake is no fault"
    );
    let refused = |reason| sum("portcullis_requests_refused_total", &[("portcullis_reason", reason)]);
    assert_eq!(refused("DECRYPTION_FAILED"), Some(1.0));
    assert_eq!((refused("KEY_NOT_FOUND"), refused("INTERNAL")), (Some(1.0), Some(0.0)));
    let operation = |labels: &[_]| sum("portcullis_hsm_operation_duration_seconds_count", labels);
    let by_ecdsa = [
        ("portcullis_operation", "SIGN"),
        ("portcullis_mechanism", "ECDSA_SHA256"),
        ("portcullis_outcome", "served"),
    ];
    assert_eq!(operation(&by_ecdsa), Some(20.0), "{}", scrape.text());
    assert_eq!(operation(&[("portcullis_outcome", "decryption_failed")]), Some(1.0));
    // Each attempt waits once, and once more where the worker asked for the token.
    let waits = sum("portcullis_hsm_session_wait_seconds_count", &[]).expect("waits");
    assert!(waits > operation(&[]).expect("operations"), "{waits}");
    for member in MEMBERS {
        let member = ("portcullis_member", member);
        assert_eq!(
            sum("portcullis_member_state", &[member]),
            Some(1.0),
            "one state at a time"
        );
        assert_eq!(
            sum("portcullis_member_state", &[member, ("portcullis_state", "ready")]),
            Some(1.0)
        );
        assert_eq!(sum("portcullis_member_worker_starts_total", &[member]), Some(1.0));
        assert_eq!(sum("portcullis_hsm_operations_limit", &[member]), Some(2048.0 + 256.0));
    }
    assert!(sum("portcullis_loaded_keys_lookups_total", &[("portcullis_result", "miss")]) >= Some(2.0));
    assert!(
        sum(
            "portcullis_key_directory_lookups_total",
            &[("portcullis_result", "hit")]
        ) >= Some(20.0)
    );
    // A ring and two keys, and what the gateway keeps by itself.
    assert!(sum("portcullis_store_transaction_changes_sum", &[]) >= Some(3.0));
    assert_eq!(
        sum("portcullis_policy_decisions_total", &[("portcullis_effect", "deny")]),
        None
    );
    assert_eq!(
        sum("portcullis_connections_open", &[("portcullis_listener", "tls")]),
        Some(1.0)
    );
    assert!(sum("portcullis_audit_sequence", &[]) > Some(20.0));
    assert!(sum("portcullis_tls_certificate_remaining_seconds", &[]) > Some(86_400.0));
    assert!(sum("process_memory_usage_bytes", &[]) > Some(1e6));
    gateway.stop();
    assert!(!socket.exists(), "the socket goes with the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_a_stranger_and_a_denial_are_counted() {
    let cluster = TestCluster::new();
    let socket = cluster.serve_metrics();
    let gateway = Gateway::start(&cluster);
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    gateway.kill_worker("b");
    gateway.wait_for_worker("b", 2).await;

    let stranger = Authority::foreign().client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    drop(gateway.tls_client_as(&stranger.credentials()).await);
    let nobody = cluster
        .authority()
        .client(Wish::of("spiffe://portcullis.dev/nobody"), &cluster.pki("ca.pem"));
    let nobody = gateway
        .tls_client_as(&nobody.credentials())
        .await
        .expect("a connection");
    refusal(sign(&nobody, &name, b"a message").await).is(Code::PermissionDenied, "ACCESS_DENIED");

    let count = |name: &str, label| Scrape::of(&socket).sum(name, &[label]).unwrap_or_default();
    tokio::task::block_in_place(|| {
        wait_until("what happened in the metrics", SHORT, || {
            let refused = count("portcullis_handshakes_failed_total", ("portcullis_reason", "refused"));
            let denied = count("portcullis_policy_decisions_total", ("portcullis_effect", "deny"));
            let starts = count("portcullis_member_worker_starts_total", ("portcullis_member", "b"));
            (refused >= 1.0 && denied >= 1.0 && starts >= 2.0).then_some(())
        });
    });
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_answers_for_metrics_alone_and_to_its_owner_alone() {
    let cluster = TestCluster::new();
    let socket = cluster.serve_metrics();
    let gateway = Gateway::start(&cluster);
    let mode = fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: g\r\n\r\n", "404"),
        ("GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: g\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n", "405"),
    ] {
        let (head, _) = Scrape::get(&socket, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
    }
    // Whoever holds connections open without a word keeps nobody from the gateway itself.
    let silent: Vec<_> = (0..64)
        .map(|_| std::os::unix::net::UnixStream::connect(&socket))
        .collect();
    create_ring(&gateway.unix_client().await, "ring").await;
    drop(silent);
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_on_loopback_and_nowhere_else_unless_allowed() {
    let cluster = TestCluster::new();
    cluster.set_in_telemetry("prometheus_listen", "0.0.0.0:0");
    let ended = Launch::new(&cluster).start_in_vain();
    assert!(
        !ended.status.success() && ended.log.contains("no authentication"),
        "{}",
        ended.log
    );
    cluster.set_in_telemetry("prometheus_listen", "127.0.0.1:0");
    let gateway = Gateway::start(&cluster);
    let line = gateway
        .log()
        .lines()
        .find(|line| line.contains("metrics are served"))
        .map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("no address in:\n{}", gateway.log()));
    let at = line.find("127.0.0.1:").expect("an address");
    let address: String = line[at..]
        .chars()
        .take_while(|one| one.is_ascii_digit() || ".:".contains(*one))
        .collect();
    let mut stream = std::net::TcpStream::connect(&address).expect("the endpoint");
    stream.set_read_timeout(Some(SHORT)).expect("a limit");
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n").expect("a request");
    let answer = std::io::read_to_string(stream).expect("an answer");
    assert!(answer.contains("portcullis_build_info{"), "{answer}");
    gateway.stop();
}

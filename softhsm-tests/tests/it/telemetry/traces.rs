//! Traces and metrics by OTLP, received by a real receiver.

use portcullis_client::{
    Client, Code,
    v1::{EncryptRequest, EncryptionContext, encrypt_request::Authenticated},
};
use portcullis_gateway::telemetry::{attribute, catalog};
use portcullis_softhsm_tests::{
    Collector, Gateway, KeySpec, MEMBERS, TestCluster, create_key, create_ring, decrypt, encrypt, message_request,
    refusal, sign,
};
use prost::bytes::Bytes;
use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};
use tonic::Request;

const CANARY: &str = "canary-7c1e-plaintext";
const CANARY_DATA: &str = "canary-52ab-associated-data";
const CANARY_CONTEXT: &str = "canary-90f3-context";
const CANARY_MESSAGE: &str = "canary-e6d8-message";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A gateway that exports everything, soon.
fn exporting(cluster: &TestCluster, collector: &Collector, scheme: &str) -> Gateway {
    cluster.set_in_telemetry("otlp_endpoint", format!("{scheme}://{}", collector.address()));
    cluster.set_in_telemetry("otlp_interval", "200ms");
    cluster.set_in_telemetry("trace_sample_ratio", 1.0);
    cluster.set_in_telemetry("service_name", "signing");
    let mut resource = toml::Table::new();
    resource.insert("deployment.environment.name".to_owned(), "test".into());
    cluster.set_in_telemetry("resource", resource);
    Gateway::start(cluster)
}

/// A signature whose caller traces.
async fn sign_traced(client: &Client, name: &str, flags: &str) {
    let mut request = Request::new(message_request(name, CANARY_MESSAGE.as_bytes()));
    let traceparent = format!("00-{TRACE}-{CALLER}-{flags}");
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().expect("ASCII"));
    request
        .metadata_mut()
        .insert("tracestate", "vendor=canary-state".parse().expect("ASCII"));
    client.crypto().sign(request).await.expect("a signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_a_span_with_its_attempt_and_nothing_secret_leaves() {
    let cluster = TestCluster::new();
    let collector = Collector::start().await;
    cluster.edit_config(|config| {
        let mut log = toml::Table::new();
        log.insert("filter".to_owned(), "info,portcullis_gateway=debug".into());
        config.insert("log".to_owned(), log.into());
    });
    let gateway = exporting(&cluster, &collector, "http");
    let client = gateway.tls_client().await;
    create_ring(&client, "ring").await;
    let signer = create_key(&client, "ring", "ec", KeySpec::EC_P256).await;
    let data = create_key(&client, "ring", "aes", KeySpec::AES_256).await.name;
    sign_traced(&client, &signer.name, "01").await;
    let ciphertext = encrypt(&client, &data, CANARY.as_bytes(), CANARY_DATA.as_bytes()).await;
    let ciphertext = ciphertext.expect("a ciphertext").ciphertext;
    decrypt(&client, &data, &ciphertext, CANARY_DATA.as_bytes())
        .await
        .expect("the plaintext");
    refusal(decrypt(&client, &data, &ciphertext, b"wrong").await).is(Code::InvalidArgument, "DECRYPTION_FAILED");
    let context = EncryptRequest {
        name: data.clone(),
        plaintext: Bytes::from_static(CANARY.as_bytes()),
        authenticated: Some(Authenticated::EncryptionContext(EncryptionContext {
            values: [("purpose".to_owned(), CANARY_CONTEXT.to_owned())].into(),
        })),
        ..Default::default()
    };
    client.crypto().encrypt(context).await.expect("a ciphertext");

    // The signature: in its caller's trace, under its caller's span.
    let method = "portcullis.v1.CryptoService/Sign";
    let call = collector
        .wait_for_span("of the signature", |span| span.name == method)
        .await;
    assert_eq!((call.trace.as_str(), call.parent.as_str()), (TRACE, CALLER));
    let attempt = collector
        .wait_for_span("of its attempt", |span| {
            span.parent == call.id && span.name == "hsm.attempt"
        })
        .await;
    assert_eq!(attempt.trace, TRACE);
    for (span, name, value) in [
        (&call, attribute::RPC_SYSTEM_NAME, "grpc"),
        (&call, attribute::RPC_METHOD, method),
        (&call, attribute::RPC_STATUS, "OK"),
        (&call, attribute::MECHANISM, "ECDSA_SHA256"),
        (&call, attribute::KEY_UID, signer.uid.as_str()),
        (&call, attribute::MEMBER, attempt.attribute(attribute::MEMBER)),
        (&attempt, attribute::EPOCH, "1"),
        (&attempt, attribute::OPERATION, "SIGN"),
        (&attempt, attribute::MECHANISM, "ECDSA_SHA256"),
        (&attempt, attribute::OUTCOME, "served"),
    ] {
        assert_eq!(span.attribute(name), value, "{name} of {span:#?}");
    }
    assert!(MEMBERS.contains(&attempt.attribute(attribute::MEMBER)));
    let id = call.attribute(attribute::REQUEST_ID);
    // The same id and trace are in the log.
    let log = gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains(id) && line.contains("a request ended"));
    assert!(line.is_some_and(|line| line.contains(TRACE)), "{id} is not in:\n{log}");

    let refused = collector
        .wait_for_span("of the refusal", |span| {
            span.attribute(attribute::REASON) == "DECRYPTION_FAILED"
        })
        .await;
    assert_eq!(refused.attribute(attribute::RPC_STATUS), "INVALID_ARGUMENT");
    assert_eq!(
        refused.attribute(attribute::ERROR_TYPE),
        "",
        "a caller's mistake is no fault"
    );
    assert_eq!(refused.parent, "", "who sends no traceparent begins a trace");
    // A creation goes on in a task of its own, and its attempts belong to it all the same.
    let creation = collector
        .wait_for_span("of a creation", |span| span.name.ends_with("/CreateKey"))
        .await;
    collector
        .wait_for_span("of a generation", |span| {
            span.trace == creation.trace && span.attribute(attribute::OPERATION) == "generate_wrapped"
        })
        .await;

    for metric in [
        &catalog::CALL_DURATION,
        &catalog::OPERATION_DURATION,
        &catalog::MEMBER_STATE,
    ] {
        collector.wait_for_metric(metric.name).await;
    }
    // What is under way is sent before the end.
    sign(&client, &signer.name, b"the last").await.expect("a signature");
    drop(client);
    let ended = gateway.stop();
    let signatures = collector.spans().into_iter().filter(|span| span.name == method).count();
    assert_eq!(signatures, 2, "the last span was not sent:\n{}", ended.log);

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "signing");
    assert_eq!(resource["deployment.environment.name"], "test");
    let mut allowed: BTreeSet<&str> = attribute::ON_SPANS.into();
    allowed.extend(attribute::ON_RESOURCE);
    allowed.insert("deployment.environment.name");
    allowed.extend(catalog::ALL.iter().flat_map(|metric| metric.attributes));
    let names = collector.attribute_names();
    assert!(names.iter().all(|name| allowed.contains(name.as_str())), "{names:?}");
    for (metric, attributes) in collector.metrics() {
        let known = catalog::ALL.iter().find(|one| one.name == metric);
        let known = known.unwrap_or_else(|| panic!("{metric} is not in the catalogue"));
        assert!(
            attributes.iter().all(|name| known.attributes.contains(&name.as_str())),
            "{metric}: {attributes:?}"
        );
    }
    let pins = MEMBERS.map(|member| cluster.user_pin(member));
    let secrets = [
        CANARY,
        CANARY_DATA,
        CANARY_CONTEXT,
        CANARY_MESSAGE,
        "canary-state",
        "keyRings/",
        "spiffe://",
    ];
    for secret in secrets.into_iter().chain(pins.iter().map(String::as_str)) {
        assert!(!collector.saw(secret.as_bytes()), "{secret} left the gateway");
    }
    // The search itself works.
    assert!(collector.saw(method.as_bytes()) && collector.saw(id.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_on_a_member_that_dies_is_seen_and_so_is_the_next() {
    let cluster = TestCluster::new();
    let collector = Collector::start().await;
    let gateway = exporting(&cluster, &collector, "http");
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    // A frozen worker takes work and does not answer; killed, it lets it go.
    let frozen = gateway.freeze_worker("b");
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (client, name) = (client.clone(), name.clone());
        callers.spawn(async move { sign(&client, &name, b"a message").await.expect("a signature") });
    }
    let outstanding = async {
        while gateway.member("b").await.outstanding == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), outstanding)
        .await
        .expect("work for the frozen worker");
    assert_eq!(gateway.kill_worker("b"), frozen);
    while let Some(done) = callers.join_next().await {
        done.expect("a caller does not panic");
    }
    let gone = collector
        .wait_for_span("of an attempt that failed", |span| {
            span.attribute(attribute::OUTCOME) == "gone"
        })
        .await;
    assert_eq!(gone.attribute(attribute::MEMBER), "b");
    collector
        .wait_for_span("of the attempt after it", |span| {
            span.parent == gone.parent && span.attribute(attribute::OUTCOME) == "served"
        })
        .await;
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_trace_is_not_traced() {
    let cluster = TestCluster::new();
    let collector = Collector::start().await;
    let gateway = exporting(&cluster, &collector, "http");
    let client = gateway.unix_client().await;
    create_ring(&client, "ring").await;
    let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
    sign_traced(&client, &name, "00").await;
    sign(&client, &name, b"a message").await.expect("a signature");
    gateway.stop();
    let signatures: Vec<_> = collector
        .spans()
        .into_iter()
        .filter(|span| span.name.ends_with("/Sign"))
        .collect();
    assert_eq!(signatures.len(), 1, "{signatures:#?}");
    assert_ne!(signatures[0].trace, TRACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_reached_over_tls_and_a_false_one_gets_nothing() {
    let cluster = TestCluster::new();
    let (certificate, key, authority) = (
        cluster.pki("server.pem"),
        cluster.pki("server.key"),
        cluster.pki("ca.pem"),
    );
    let collector = Collector::start_with_tls(&certificate, &key, &authority).await;
    let path = |file: &str| cluster.pki(file).display().to_string();
    cluster.set_in_telemetry("otlp_authorities", path("ca.pem"));
    cluster.set_in_telemetry("otlp_certificate", path("developer.pem"));
    cluster.set_in_telemetry("otlp_private_key", path("developer.key"));
    let gateway = exporting(&cluster, &collector, "https");
    create_ring(&gateway.unix_client().await, "ring").await;
    collector
        .wait_for_span("of a creation", |span| span.name.ends_with("/CreateKeyRing"))
        .await;
    collector.wait_for_metric(catalog::CALL_DURATION.name).await;
    gateway.stop();

    // Another domain's authority does not vouch for it.
    let other = TestCluster::with_another_domain();
    cluster.set_in_telemetry("otlp_authorities", other.pki("ca.pem").display().to_string());
    let collector = Collector::start_with_tls(&certificate, &key, &authority).await;
    let gateway = exporting(&cluster, &collector, "https");
    create_ring(&gateway.unix_client().await, "another").await;
    let ended = gateway.stop();
    assert!(collector.spans().is_empty() && collector.metrics().is_empty());
    assert!(ended.log.contains("certificate"), "nobody was told:\n{}", ended.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_silent_or_absent_delays_and_fails_nothing() {
    // One takes connections and says nothing; the other's port is free again.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let absent = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its address");
    for address in [silent.local_addr().expect("its address"), absent] {
        let cluster = TestCluster::new();
        cluster.set_in_telemetry("otlp_endpoint", format!("http://{address}"));
        cluster.set_in_telemetry("otlp_interval", "100ms");
        cluster.set_in_telemetry("trace_sample_ratio", 1.0);
        let gateway = Gateway::start(&cluster);
        let client = gateway.unix_client().await;
        create_ring(&client, "ring").await;
        let name = create_key(&client, "ring", "ec", KeySpec::EC_P256).await.name;
        // More spans than the exporter's queue holds.
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (client, name) = (client.clone(), name.clone());
            callers.spawn(async move {
                for _ in 0..64 {
                    sign(&client, &name, b"a message").await.expect("a signature");
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.expect("a caller does not panic");
        }
        let begun = Instant::now();
        gateway.stop();
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the end took {:?}",
            begun.elapsed()
        );
    }
}

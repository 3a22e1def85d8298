//! The environment does not configure the gateway: what OpenTelemetry's libraries would read there changes nothing.

use portcullis_client::v1::GenerateRandomRequest;
use portcullis_softhsm_tests::{Collector, Launch, TestCluster};
use std::{fs, net::TcpListener};

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_opentelemetry_change_nothing() {
    let cluster = TestCluster::new();
    let collector = Collector::start().await;
    // Where nobody answers; a gateway that went by it would send nothing to the collector.
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = format!("http://{}", elsewhere.local_addr().expect("its address"));
    cluster.set_in_telemetry("otlp_endpoint", format!("http://{}", collector.address()));
    cluster.set_in_telemetry("otlp_interval", "200ms");
    cluster.set_in_telemetry("trace_sample_ratio", 1.0);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", elsewhere.as_str()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &elsewhere),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-canary=canary-header-31f0"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_RESOURCE_ATTRIBUTES", "canary=canary-attribute-77b2"),
        ("OTEL_SERVICE_NAME", "canary-name-0c4d"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
        ("OTEL_SDK_DISABLED", "true"),
    ];
    let launch = variables
        .into_iter()
        .fold(Launch::new(&cluster), |launch, (name, value)| {
            launch.with_environment(name, value)
        });
    let gateway = tokio::task::block_in_place(|| launch.start());
    let request = GenerateRandomRequest { length_bytes: 8 };
    gateway
        .unix_client()
        .await
        .crypto()
        .generate_random(request)
        .await
        .expect("an answer");
    let span = collector
        .wait_for_span("the call", |span| {
            span.name == "portcullis.v1.CryptoService/GenerateRandom"
        })
        .await;
    assert!(!span.attributes.is_empty());
    collector.wait_for_metric("portcullis.connections.open").await;
    assert_eq!(collector.resource()["service.name"], "portcullis");
    for canary in ["canary-header-31f0", "canary-attribute-77b2", "canary-name-0c4d"] {
        assert!(!collector.saw(canary.as_bytes()), "{canary}");
    }
    let environment = fs::read(format!("/proc/{}/environ", gateway.pid())).expect("the gateway's environment");
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("OTEL_"), "{environment}");
    let name = fs::read_to_string(format!("/proc/{}/comm", gateway.pid())).expect("the process's name");
    assert_eq!(name.trim(), "portcullisd");
    tokio::task::block_in_place(|| gateway.stop());
}

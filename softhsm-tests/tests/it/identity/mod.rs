//! Who callers are, for how long, and how a running gateway learns of changes.

mod endings;
mod flood;
mod principals;
mod reload;
mod revocation;

use portcullis_client::{
    CertificateRefusal, Client, ConnectionError, Credentials, Error, Status,
    v1::{GenerateRandomRequest, GenerateRandomResponse},
};
use portcullis_softhsm_tests::{Gateway, LONG, TestCluster, wait_until};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tonic::{Response, Streaming};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

/// Until a time that no test reaches.
fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(24 * 3600)
}

/// Names revocation lists in the configuration.
fn set_lists(cluster: &TestCluster, lists: &[PathBuf], policy: &str) {
    cluster.edit_tls(|tls| {
        let lists: Vec<_> = lists
            .iter()
            .map(|path| toml::Value::from(path.to_str().expect("UTF-8")))
            .collect();
        tls.insert("revocation_lists".to_owned(), lists.into());
        tls.insert("revocation_policy".to_owned(), policy.into());
    });
}

/// Connects; says how the gateway refused the certificate.
async fn connect(gateway: &Gateway, credentials: &Credentials) -> Result<Client, String> {
    match gateway.tls_client_as(credentials).await {
        Ok(client) => Ok(client),
        Err(Error::Connection(ConnectionError::ClientCertificate(refusal))) => Err(match refusal {
            CertificateRefusal::Revoked => "revoked".to_owned(),
            CertificateRefusal::Expired => "expired".to_owned(),
            CertificateRefusal::UnknownAuthority => "unknown authority".to_owned(),
            other => format!("{other:?}"),
        }),
        Err(other) => Err(other.to_string()),
    }
}

/// A call that any caller may try.
async fn call(client: &Client) -> Result<Response<GenerateRandomResponse>, Status> {
    client
        .crypto()
        .generate_random(GenerateRandomRequest { length_bytes: 8 })
        .await
}

/// A stream that says something once, and then nothing for as long as the gateway is well.
async fn stream(client: &Client) -> Streaming<HealthCheckResponse> {
    let answer = HealthClient::new(client.transport())
        .watch(HealthCheckRequest::default())
        .await;
    let mut stream = answer.expect("a stream").into_inner();
    stream
        .message()
        .await
        .expect("a message")
        .expect("the gateway's health");
    stream
}

/// Waits for the outcomes of reloads in the audit log, since the gateway started.
fn wait_for_reloads(cluster: &TestCluster, expected: &[&str]) {
    tokio::task::block_in_place(|| {
        wait_until(&format!("the reloads {expected:?}"), LONG, || {
            let text = std::fs::read_to_string(cluster.audit_file()).expect("the audit log");
            let entries = text
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let reloads = entries.filter(|entry| entry["action"] == "gateway.reload" && entry["phase"] == "gateway");
            let outcomes: Vec<_> = reloads
                .map(|entry| entry["outcome"].as_str().unwrap_or("").to_owned())
                .collect();
            (outcomes == expected).then_some(())
        });
    });
}

//! Certificates that are renewed while a client is in use.

use super::signing;
use portcullis_client::{Client, Credentials};
use portcullis_softhsm_tests::{
    AuditLog, Gateway, Identity, KeySpec, LONG, TestCluster, Wish, create_key, create_ring, temporary_directory,
};
use std::{fs, path::Path, time::Instant};

/// Puts a client's files into their places, the certificate first: for a moment it is not the key's.
fn place(directory: &Path, identity: &Identity) {
    for (from, name) in [
        (identity.certificate(), "client.pem"),
        (identity.private_key(), "client.key"),
    ] {
        let new = directory.join("new");
        fs::copy(from, &new).expect("a copy");
        fs::rename(&new, directory.join(name)).expect("in its place");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_without_a_call_that_fails() {
    let cluster = TestCluster::new();
    cluster
        .grant("name = 'renewed'\nrole = 'signer'\nprincipals = ['spiffe://portcullis.dev/renewed']\nrings = ['ring']");
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let key = create_key(&developer, "ring", "key", KeySpec::EC_P256).await.name;

    let authority = cluster.authority();
    let directory = temporary_directory();
    let before = authority.client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    let after = authority.client(Wish::of("spiffe://portcullis.dev/renewed"), &cluster.pki("ca.pem"));
    place(directory.path(), &before);
    let credentials = Credentials::new(
        directory.path().join("client.pem"),
        directory.path().join("client.key"),
        cluster.pki("ca.pem"),
    );
    let client = Client::connect(gateway.tls_endpoint(), Some(credentials))
        .await
        .expect("a connection");
    client.sign(signing(&key, "a message")).await.expect("a signature");

    // Files that are no certificate change nothing.
    fs::write(directory.path().join("client.pem"), "half of a certificate").expect("the file");
    let started = Instant::now();
    while started.elapsed().as_secs() < 3 {
        client.sign(signing(&key, "a message")).await.expect("a signature");
    }
    place(directory.path(), &after);
    let renewed = |log: &str| log.contains("spiffe://portcullis.dev/renewed");
    while !renewed(&fs::read_to_string(cluster.audit_file()).expect("the audit log")) {
        client.sign(signing(&key, "a message")).await.expect("a signature");
        assert!(started.elapsed() < LONG, "the new certificate is not used");
    }
    gateway.stop();
    let log = AuditLog::read(&cluster.audit_file());
    let signed: Vec<_> = log
        .outcomes()
        .filter(|entry| entry["action"] == "sign")
        .map(|entry| {
            (
                entry["principal"].as_str().unwrap_or_default(),
                entry["outcome"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert!(signed.iter().all(|(_, outcome)| *outcome == "OK"));
    let changed = signed.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    assert_eq!(changed, 1, "the new stream takes the place of the old one, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_is_exchanged_for_the_next_one_again_and_again() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let developer = gateway.tls_client().await;
    create_ring(&developer, "ring").await;
    let key = create_key(&developer, "ring", "key", KeySpec::EC_P256).await.name;
    let authority = cluster.authority();
    let directory = temporary_directory();
    let issue = || {
        let wish = Wish {
            lasts: Some(std::time::Duration::from_secs(8)),
            ..Wish::DEVELOPER
        };
        place(directory.path(), &authority.client(wish, &cluster.pki("ca.pem")));
        Instant::now()
    };
    let mut issued = issue();
    let started = issued;
    let credentials = Credentials::new(
        directory.path().join("client.pem"),
        directory.path().join("client.key"),
        cluster.pki("ca.pem"),
    );
    let client = Client::connect(gateway.tls_endpoint(), Some(credentials))
        .await
        .expect("a connection");
    // Longer than the first certificate is good, and its connection.
    while started.elapsed().as_secs() < 16 {
        client.sign(signing(&key, "a message")).await.expect("a signature");
        if issued.elapsed().as_secs() >= 3 {
            issued = issue();
        }
    }
    gateway.stop();
}

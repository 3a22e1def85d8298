//! Connections that must not come about.

use portcullis_client::{CertificateRefusal, ConnectionError, Credentials, Error};
use portcullis_softhsm_tests::{
    Authority, Gateway, Identity, SHORT, TestCluster, Wish, find_tool, run_with_input, temporary_directory,
};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::Command,
};

async fn refused(gateway: &Gateway, credentials: &Credentials) -> ConnectionError {
    match gateway.tls_client_as(credentials).await {
        Err(Error::Connection(error)) => error,
        Err(other) => panic!("not a refused connection: {other:?}"),
        Ok(_) => panic!("the gateway accepted the client"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_foreign_authority_is_refused_and_told_why() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let foreign = Authority::foreign().client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    let error = refused(&gateway, &foreign.credentials()).await;
    let expected = ConnectionError::ClientCertificate(CertificateRefusal::UnknownAuthority);
    assert_eq!(error.to_string(), expected.to_string());
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_the_same_name_does_not_help() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    // Another cluster's authority has the same name and another key.
    let other = TestCluster::with_another_domain();
    let impostor = other.authority().client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    let error = refused(&gateway, &impostor.credentials()).await;
    assert!(matches!(error, ConnectionError::ClientCertificate(_)), "{error}");
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_and_told_why() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let expired = cluster.authority().client(Wish::EXPIRED, &cluster.pki("ca.pem"));
    let error = refused(&gateway, &expired.credentials()).await;
    let expected = ConnectionError::ClientCertificate(CertificateRefusal::Expired);
    assert_eq!(error.to_string(), expected.to_string());
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_certificate_is_no_client() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let server = Credentials::new(
        cluster.pki("server.pem"),
        cluster.pki("server.key"),
        cluster.pki("ca.pem"),
    );
    match gateway.tls_client_as(&server).await {
        Err(Error::Connection(error)) => assert!(matches!(error, ConnectionError::ClientCertificate(_)), "{error}"),
        Err(other) => panic!("{other:?}"),
        // If the gateway takes it for a client at all, it is one without rights.
        Ok(client) => {
            let status = client
                .cluster()
                .list_members(portcullis_client::v1::ListMembersRequest {})
                .await;
            portcullis_softhsm_tests::refusal(status).is(tonic::Code::PermissionDenied, "ACCESS_DENIED");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_trust_another_gateway() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let directory = temporary_directory();
    let other = TestCluster::with_another_domain();
    fs::copy(other.pki("ca.pem"), directory.path().join("ca.pem")).expect("a trust bundle");
    let deceived = cluster
        .authority()
        .client(Wish::DEVELOPER, &directory.path().join("ca.pem"));
    let error = refused(&gateway, &deceived.credentials()).await;
    assert!(matches!(error, ConnectionError::ServerCertificate { .. }), "{error}");
}

/// What `openssl s_client` sees of the gateway when it sends an HTTP/2 preface.
fn s_client(gateway: &Gateway, cluster: &TestCluster, identity: Option<&Identity>, options: &[&str]) -> String {
    let mut command = Command::new(find_tool("openssl", "openssl"));
    command.args([
        "s_client",
        "-connect",
        &gateway.tls().to_string(),
        "-ign_eof",
        "-alpn",
        "h2",
        "-brief",
    ]);
    command.arg("-CAfile").arg(cluster.pki("ca.pem")).args(options);
    if let Some(identity) = identity {
        command
            .arg("-cert")
            .arg(identity.certificate())
            .arg("-key")
            .arg(identity.private_key());
    }
    // The preface, empty SETTINGS, and GOAWAY, after which the gateway closes.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &goaway].concat();
    let output = run_with_input(&mut command, &preface);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tls_13_with_a_client_certificate_is_spoken() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let developer = cluster.authority().client(Wish::DEVELOPER, &cluster.pki("ca.pem"));
    tokio::task::block_in_place(|| {
        let good = s_client(&gateway, &cluster, Some(&developer), &["-verify_return_error"]);
        assert!(good.contains("TLSv1.3"), "{good}");
        assert!(!good.contains("alert"), "{good}");

        let missing = s_client(&gateway, &cluster, None, &[]);
        assert!(missing.contains("alert certificate required"), "{missing}");
        let old = s_client(&gateway, &cluster, Some(&developer), &["-no_tls1_3"]);
        assert!(old.contains("alert protocol version"), "{old}");
        assert!(!old.contains("Protocol version: TLSv1.2"), "{old}");
    });
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_gets_nothing_from_the_tls_port() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for request in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], preface] {
        let mut stream = TcpStream::connect(gateway.tls()).expect("a connection");
        stream.set_read_timeout(Some(SHORT)).expect("a timeout");
        stream.write_all(request).expect("plaintext is sent");
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open: {error}"),
        }
        // A TLS alert at most: type 21, version 3.x, two bytes.
        assert!(
            answer.is_empty() || (answer[0] == 21 && answer.len() == 7),
            "{answer:02x?}"
        );
    }
    still_serves(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_file_lets_in_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let mode = fs::metadata(gateway.unix()).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    tokio::task::block_in_place(|| {
        // A second gateway on the same state must not take the first one's place.
        let second = portcullis_softhsm_tests::Launch::new(&cluster).start_in_vain();
        assert!(!second.status.success());
        assert!(!second.log.is_empty(), "it ends without a word");
    });
    still_serves(&gateway).await;
    let socket = gateway.unix().to_owned();
    tokio::task::block_in_place(|| gateway.kill9());
    assert!(socket.exists(), "a killed gateway leaves its socket");
    let gateway = Gateway::start(&cluster);
    still_serves(&gateway).await;
}

async fn still_serves(gateway: &Gateway) {
    assert_eq!(gateway.cluster_status().await.members.len(), 3);
    gateway.unix_client().await;
}

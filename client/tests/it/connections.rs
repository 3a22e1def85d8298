//! Connections that work, and those that do not: each failure must say what is wrong.

use crate::{
    authority::{Admission, Authority, Wish},
    gateway::Gateway,
};
use portcullis_client::{
    CertificateRefusal, Client, ConnectionError, Credentials, CredentialsError, Endpoint, Error,
    ServerCertificateFault,
    v1::{DrainMemberRequest, GetMemberRequest, ListMembersRequest, ResumeMemberRequest, RollMembersRequest},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, UnixListener},
};

fn endpoint(address: SocketAddr) -> Endpoint {
    format!("https://{address}").parse().expect("an endpoint")
}

async fn connection_error(endpoint: Endpoint, credentials: Credentials) -> ConnectionError {
    match Client::connect(endpoint, Some(credentials)).await {
        Err(Error::Connection(error)) => error,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("connected"),
    }
}

/// The error of a client like `wish` at a gateway that admits those of `admission`.
async fn refusal(wish: Wish, issuer: &Authority, admission: &Admission<'_>) -> ConnectionError {
    let gateways = Authority::new("gateways");
    let (_files, credentials) = issuer.client(wish, &gateways);
    let (_gateway, address) = Gateway::on_tcp(gateways.gateway("127.0.0.1", admission)).await;
    connection_error(endpoint(address), credentials).await
}

#[tokio::test]
async fn mutual_tls_connects_and_calls() {
    let authority = Authority::new("one for all");
    let (_files, credentials) = authority.client(Wish::USUAL, &authority);
    let (_gateway, address) = Gateway::on_tcp(authority.gateway("127.0.0.1", &Admission::of(&authority))).await;
    let client = Client::connect(endpoint(address), Some(credentials))
        .await
        .expect("connected");
    let answer = client
        .cluster()
        .list_members(ListMembersRequest {})
        .await
        .expect("an answer");
    assert_eq!(answer.get_ref().domain_epoch, 7);
}

#[tokio::test]
async fn unix_sockets_connect_and_call() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sock");
    let _gateway = Gateway::on_socket(&path);
    let client = Client::connect(Endpoint::unix(path), None).await.expect("connected");
    let answer = client
        .cluster()
        .list_members(ListMembersRequest {})
        .await
        .expect("an answer");
    assert_eq!(answer.get_ref().domain_epoch, 7);
}

#[tokio::test]
async fn answers_and_deadlines_cross_the_wire() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sock");
    let _gateway = Gateway::on_socket(&path);
    let client = Client::connect(Endpoint::unix(path), None).await.expect("connected");

    let status = client
        .cluster()
        .get_member(GetMemberRequest::default())
        .await
        .err()
        .expect("an error");
    let Error::Unavailable(fault) = Error::from(status) else {
        panic!("another group")
    };
    assert_eq!(
        (fault.reason(), fault.request_id()),
        (Some("HSM_UNAVAILABLE"), Some("0190"))
    );
    assert_eq!(fault.retry_delay(), Some(Duration::from_secs(2)));

    let large = client
        .cluster()
        .roll_members(RollMembersRequest::default())
        .await
        .expect("a large answer");
    assert_eq!(large.get_ref().members[0].reason.len(), 8 * 1024 * 1024);

    let seen = client
        .cluster()
        .resume_member(ResumeMemberRequest::default())
        .await
        .expect("an answer");
    assert_eq!(seen.get_ref().reason, "none");
    let client = client.with_deadline(Duration::from_secs(30));
    let seen = client
        .cluster()
        .resume_member(ResumeMemberRequest::default())
        .await
        .expect("an answer");
    assert_eq!(seen.get_ref().reason, "30000000u");
    let mut own = tonic::Request::new(ResumeMemberRequest::default());
    own.set_timeout(Duration::from_secs(9));
    let seen = client.cluster().resume_member(own).await.expect("an answer");
    assert_eq!(seen.get_ref().reason, "9000000u");

    let client = client.with_deadline(Duration::from_millis(20));
    let status = client
        .cluster()
        .drain_member(DrainMemberRequest::default())
        .await
        .err()
        .expect("no answer");
    assert!(matches!(Error::from(status), Error::TimedOut(_)));
}

#[tokio::test]
async fn an_expired_client_certificate_is_told() {
    let clients = Authority::new("clients");
    let error = refusal(Wish::EXPIRED, &clients, &Admission::of(&clients)).await;
    assert!(
        matches!(error, ConnectionError::ClientCertificate(CertificateRefusal::Expired)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_client_certificate_of_a_foreign_authority_is_told() {
    let error = refusal(
        Wish::USUAL,
        &Authority::new("others"),
        &Admission::of(&Authority::new("clients")),
    )
    .await;
    assert!(
        matches!(
            error,
            ConnectionError::ClientCertificate(CertificateRefusal::UnknownAuthority)
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_revoked_client_certificate_is_told() {
    let clients = Authority::new("clients");
    let admission = Admission {
        revoked: Some(Wish::USUAL.serial),
        ..Admission::of(&clients)
    };
    let error = refusal(Wish::USUAL, &clients, &admission).await;
    assert!(
        matches!(error, ConnectionError::ClientCertificate(CertificateRefusal::Revoked)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_client_certificate_is_told() {
    // A client sends no certificate when the gateway cannot check signatures by its key.
    let clients = Authority::new("clients");
    let admission = Admission {
        ed25519: false,
        ..Admission::of(&clients)
    };
    let error = refusal(Wish::ED25519, &clients, &admission).await;
    assert!(matches!(error, ConnectionError::ClientCertificateMissing), "{error:?}");
}

#[tokio::test]
async fn a_client_that_is_refused_later_is_told_by_its_calls() {
    let (gateways, before, after) = (
        Authority::new("gateways"),
        Authority::new("before"),
        Authority::new("after"),
    );
    let (_files, credentials) = before.client(Wish::USUAL, &gateways);
    let (gateway, address) = Gateway::on_tcp(gateways.gateway("127.0.0.1", &Admission::of(&before))).await;
    let client = Client::connect(endpoint(address), Some(credentials))
        .await
        .expect("connected");
    gateway.stop().await;
    let _gateway = Gateway::again_on_tcp(address, gateways.gateway("127.0.0.1", &Admission::of(&after))).await;
    // The first call may still meet the connection that was closed; the next one opens another.
    let mut told = Vec::new();
    for _ in 0..2 {
        let status = client
            .cluster()
            .list_members(ListMembersRequest {})
            .await
            .err()
            .expect("refused");
        told.push(Error::from(status).to_string());
    }
    assert!(
        told[1].contains("it was not issued by an authority the gateway trusts"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_gateway_certificate_outside_the_trust_bundle_is_told() {
    let (gateways, clients) = (Authority::new("gateways"), Authority::new("clients"));
    let (files, credentials) = clients.client(Wish::USUAL, &clients);
    let (_gateway, address) = Gateway::on_tcp(gateways.gateway("127.0.0.1", &Admission::of(&clients))).await;
    let error = connection_error(endpoint(address), credentials).await;
    let bundle = files.path().join("ca.pem");
    assert!(
        matches!(&error, ConnectionError::ServerCertificate {
            fault: ServerCertificateFault::UnknownAuthority { trust_bundle }, ..
        } if *trust_bundle == bundle),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_gateway_certificate_for_another_host_is_told() {
    let authority = Authority::new("one for all");
    let (_files, credentials) = authority.client(Wish::USUAL, &authority);
    let config = authority.gateway("other.example", &Admission::of(&authority));
    let (_gateway, address) = Gateway::on_tcp(config).await;
    let error = connection_error(endpoint(address), credentials).await;
    assert!(
        matches!(
            &error,
            ConnectionError::ServerCertificate {
                fault: ServerCertificateFault::OtherHost { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let authority = Authority::new("one for all");
    let (_files, credentials) = authority.client(Wish::USUAL, &authority);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
        socket
    });
    let error = connection_error(endpoint(address), credentials).await;
    assert!(matches!(error, ConnectionError::NotTheGateway { .. }), "{error:?}");
    server.await.expect("the server ends");
}

#[tokio::test]
async fn a_server_without_http2_is_told() {
    let authority = Authority::new("one for all");
    let (_files, credentials) = authority.client(Wish::USUAL, &authority);
    let mut config = authority
        .gateway("127.0.0.1", &Admission::of(&authority))
        .as_ref()
        .clone();
    config.alpn_protocols.clear();
    let (_gateway, address) = Gateway::on_tcp(config.into()).await;
    let error = connection_error(endpoint(address), credentials).await;
    assert!(matches!(error, ConnectionError::NotTheGateway { .. }), "{error:?}");
}

#[tokio::test]
async fn a_closed_port_is_told() {
    let authority = Authority::new("one for all");
    let (_files, credentials) = authority.client(Wish::USUAL, &authority);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = connection_error(endpoint(address), credentials).await;
    assert!(matches!(error, ConnectionError::NothingListens { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_socket_and_a_dead_one_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sock");
    let told = async || match Client::connect(Endpoint::unix(&path), None).await {
        Err(Error::Connection(error)) => error,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("connected"),
    };
    assert!(matches!(told().await, ConnectionError::NoSocket { .. }));
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(matches!(told().await, ConnectionError::NothingListens { .. }));
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = tokio::spawn(async move { drop(listener.accept().await.expect("a connection")) });
    let result = Client::connect(Endpoint::unix(&path), None).await;
    server.await.expect("the server ends");
    let error = result.err().expect("no connection");
    // Whether the client was still writing when the end came decides which of the two it sees.
    assert!(
        matches!(
            error,
            Error::Connection(ConnectionError::Closed { .. } | ConnectionError::Lost { .. })
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("api.sock");
    let _listener = UnixListener::bind(&path).expect("a socket");
    let error = Client::connect(Endpoint::unix(&path), None)
        .await
        .err()
        .expect("no connection");
    assert!(
        matches!(error, Error::Connection(ConnectionError::NoAnswer { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn https_without_credentials_is_refused_before_connecting() {
    let endpoint: Endpoint = "https://gateway.example:8443".parse().expect("an endpoint");
    let error = Client::connect(endpoint, None).await.err().expect("no connection");
    assert!(
        matches!(error, Error::Credentials(CredentialsError::Missing)),
        "{error:?}"
    );
}

//! Connections that say nothing.

use portcullis_client::v1::ListMembersRequest;
use portcullis_softhsm_tests::{Gateway, TestCluster};
use std::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_nobody_out() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let limits = toml::Table::from_iter([("connections".to_owned(), 20.into())]);
        config.insert("limits".to_owned(), limits.into());
    });
    let gateway = Gateway::start(&cluster);
    let silent: Vec<_> = (0..100)
        .map(|number| {
            TcpStream::connect(gateway.tls()).unwrap_or_else(|error| panic!("silent connection {number}: {error}"))
        })
        .collect();
    // Together fewer than the limit of either listener, and all open at once.
    let mut callers = Vec::new();
    for _ in 0..6 {
        callers.extend(gateway.clients().await);
    }
    for (transport, client) in &callers {
        let answer = client.cluster().list_members(ListMembersRequest {}).await;
        answer.unwrap_or_else(|status| panic!("a caller over {transport}: {status}"));
    }
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_listener_keeps_the_other_listeners_callers_in() {
    let cluster = TestCluster::new();
    cluster.edit_config(|config| {
        let limits = toml::Table::from_iter([("connections".to_owned(), 5.into())]);
        config.insert("limits".to_owned(), limits.into());
    });
    let gateway = Gateway::start(&cluster);
    let mut callers = Vec::new();
    for _ in 0..5 {
        let client = gateway.tls_client().await;
        client
            .cluster()
            .list_members(ListMembersRequest {})
            .await
            .expect("a caller over mTLS");
        callers.push(client);
    }
    let unix = gateway.unix_client().await;
    unix.cluster()
        .list_members(ListMembersRequest {})
        .await
        .expect("a caller over the socket");
    callers.pop();
}

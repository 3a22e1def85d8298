//! A flood of connections that never show who they are.

use portcullis_client::v1::ListMembersRequest;
use portcullis_hsm::worker::hardening;
use portcullis_softhsm_tests::{Gateway, TestCluster};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::{TcpSocket, TcpStream};

/// A connection from an address of the loopback network.
async fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((source, 0).into()).ok()?;
    socket.connect(to).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_many_addresses_keeps_no_caller_out() {
    hardening::raise_descriptor_limit();
    let cluster = TestCluster::new();
    let gateway = Gateway::start(&cluster);
    let to = gateway.tls();
    // More than there are places, from more addresses than may fill them, and new ones all the time.
    let flooding = Arc::new(AtomicBool::new(true));
    let flood = tokio::spawn({
        let flooding = Arc::clone(&flooding);
        async move {
            let mut silent = std::collections::VecDeque::new();
            let mut number = 0_u32;
            while flooding.load(Ordering::Relaxed) {
                let source = Ipv4Addr::from(0x7f00_0100 + number % 200);
                number += 1;
                silent.extend(connect_from(source, to).await);
                if silent.len() > 1500 {
                    silent.pop_front();
                }
            }
        }
    });
    let dropped = || gateway.log().contains("the oldest of them were dropped");
    let started = Instant::now();
    while !dropped() {
        assert!(started.elapsed() < Duration::from_secs(60), "the places never ran out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Whoever is slow on this busy machine may lose a place once; nobody is kept out.
    let mut refusals = 0;
    for caller in 0..20 {
        let client = loop {
            match gateway.tls_client_as(&cluster.developer()).await {
                Ok(client) => break client,
                Err(error) => {
                    refusals += 1;
                    assert!(refusals < 5, "caller {caller}: {error}");
                }
            }
        };
        let answer = client.cluster().list_members(ListMembersRequest {}).await;
        answer.unwrap_or_else(|status| panic!("caller {caller}: {status}"));
    }
    flooding.store(false, Ordering::Relaxed);
    flood.await.expect("the flood ends");
}

//! Who may do what.

mod circumstances;
mod conditions;
mod denial;
mod files;
mod hidden;
mod page;
mod pages;
mod reload;
mod second_keys;

use portcullis_client::Client;
use portcullis_softhsm_tests::{Gateway, TestCluster, Wish};

/// A client over mTLS with a certificate for a SPIFFE id.
async fn client_of(cluster: &TestCluster, gateway: &Gateway, uri: &str) -> Client {
    let identity = cluster.authority().client(Wish::of(uri), &cluster.pki("ca.pem"));
    gateway
        .tls_client_as(&identity.credentials())
        .await
        .unwrap_or_else(|error| panic!("{uri}: {error}"))
}

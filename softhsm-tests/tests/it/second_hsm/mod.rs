//! Another kind of token than SoftHSM2: kryoptic, in a release that refuses unwrap templates and in one that enforces them.
//!
//! Nothing in the gateway knows the name; what differs is found by its probes.
//!
//! - `obstacles`: that the first cannot hold wrapped keys, and where that is said.
//! - `resident`: what resident keys of each type do on it.
//! - `lives`: resident keys through the death of workers and of the gateway, rotation and destruction.
//! - `sealing`: that the second holds a domain like SoftHSM2.

mod lives;
mod obstacles;
mod resident;
mod sealing;

use portcullis_client::{
    Client,
    v1::{KeyOperation, KeyProtection, KeyType, Mechanism, MemberState},
};
use portcullis_softhsm_tests::{Gateway, KeySpec, Kryoptic, LONG, TestCluster, create_ring};

/// A resident key on one member.
const fn resident(key_type: KeyType, uses: &'static [(KeyOperation, Mechanism)]) -> KeySpec {
    KeySpec {
        protection: KeyProtection::Resident,
        allow_single_replica: true,
        ..KeySpec::wrapped(key_type, uses)
    }
}

async fn started() -> (TestCluster, Gateway, Client) {
    let cluster = Kryoptic::WithoutTemplates.cluster();
    // This token does nothing else while it makes a key, and RSA keys take their time on a busy machine.
    cluster.set_in_cluster("probe_deadline", "2m");
    let gateway = Gateway::start(&cluster);
    // RSA keys of 4096 bits take their time.
    let client = gateway.unix_client().await.with_deadline(LONG);
    create_ring(&client, "ring").await;
    (cluster, gateway, client)
}

/// Nothing that was asked cost the member anything.
async fn is_unharmed(gateway: &Gateway) {
    let member = gateway.member("a").await;
    assert!(member.state() == MemberState::Ready, "{}", member.reason);
    assert_eq!(member.worker_starts, 1);
}

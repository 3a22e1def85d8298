//! Another kind of token than SoftHSM2: kryoptic, in a release that refuses unwrap templates and in one that enforces them.
//!
//! Nothing in the gateway knows the name; what differs is found by its probes.
//!
//! - `obstacles`: that the first cannot hold wrapped keys, and where that is said.
//! - `resident`: what resident keys do on it, through the death of workers and of the gateway.
//! - `sealing`: that the second holds a domain like SoftHSM2.

mod obstacles;
mod resident;
mod sealing;

use portcullis_client::v1::{KeyOperation, KeyProtection, KeyType, Mechanism};
use portcullis_softhsm_tests::KeySpec;

/// A resident key on one member.
const fn resident(key_type: KeyType, uses: &'static [(KeyOperation, Mechanism)]) -> KeySpec {
    KeySpec {
        protection: KeyProtection::Resident,
        allow_single_replica: true,
        ..KeySpec::wrapped(key_type, uses)
    }
}

//! What the design asks for: the gateway should disappear beside the HSM.

use crate::operation::{Mode, Operation, Transport};

/// The least share of what is done directly that is done through the gateway, at saturation.
pub(crate) fn least_share(operation: Operation, transport: Transport, mode: Mode) -> Option<f64> {
    match (operation, mode, transport) {
        (Operation::Rsa2048, Mode::Unary, Transport::Mtls) => Some(0.90),
        (Operation::Rsa2048, Mode::Pipelined, Transport::Mtls) => Some(0.95),
        (Operation::P256, Mode::Pipelined, Transport::Unix) => Some(1.00),
        (Operation::P256, Mode::Pipelined, Transport::Mtls) => Some(0.90),
        (Operation::P256, Mode::Unary, Transport::Unix) => Some(0.75),
        (Operation::P256, Mode::Unary, Transport::Mtls) => Some(0.65),
        (Operation::P256 | Operation::Gcm1k | Operation::Hmac, Mode::Batch, _) => Some(1.00),
        (Operation::Gcm1k, Mode::Pipelined, Transport::Unix) => Some(0.60),
        _ => None,
    }
}

/// The most that the gateway may add to the median latency of one caller, as a multiple of the echo's median.
pub(crate) fn most_added(operation: Operation, mode: Mode) -> Option<f64> {
    (operation.is_repeatable() && mode != Mode::Batch).then_some(1.5)
}

/// The least number of keys that are created in a second.
pub(crate) const KEYS_A_SECOND: f64 = 1000.0;

/// By how many callers.
pub(crate) const CREATORS: usize = 16;

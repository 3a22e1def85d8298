//! What is to be measured.

use crate::{
    direct::DirectToken,
    operation::{Mode, Operation},
    through::Address,
};
use std::{path::PathBuf, time::Duration};

/// What is to be measured, and how.
pub struct Plan {
    /// What is done, in this order.
    pub operations: Vec<Operation>,
    /// How callers ask the gateway.
    pub modes: Vec<Mode>,
    /// Closed loop: how many callers there are, one measurement for each number. 1 tells what one caller waits, more tell how
    /// much is done at most.
    pub callers: Vec<usize>,
    /// Open loop, after the closed one.
    pub open: Option<OpenPlan>,
    /// How long each run warms up.
    pub warm_up: Duration,
    /// How long each run is measured.
    pub time: Duration,
    /// How often each run is repeated; the ways take turns.
    pub repeats: usize,
    /// Connections to each address.
    pub connections: usize,
    /// Whether the echo is measured too.
    pub echo: bool,
    /// How many cold keys are used in each run.
    pub cold_keys: usize,
    /// The gateway, by one address or several.
    pub addresses: Vec<Address>,
    /// How long one call may take.
    pub deadline: Duration,
    /// The token that is driven directly.
    pub direct: Option<DirectToken>,
    /// The key ring for the keys; it is made if there is none.
    pub ring: String,
    /// The program that has this crate's helpers behind [`HELPER`](crate::HELPER): `portcullis`.
    pub program: PathBuf,
}

/// At which rates calls begin.
#[derive(Debug, Clone)]
pub struct OpenPlan {
    /// Calls in a second; where there are none, shares of what the closed loop with the most callers came to.
    pub rates: Vec<f64>,
}

impl OpenPlan {
    /// The rates for a way that does so much at most.
    pub(crate) fn rates(&self, most: f64) -> Vec<f64> {
        if self.rates.is_empty() {
            SHARES.iter().map(|share| (share * most).max(1.0)).collect()
        } else {
            self.rates.clone()
        }
    }
}

/// From idle to beyond what is possible.
const SHARES: [f64; 11] = [0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05];

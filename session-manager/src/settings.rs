//! How the session manager behaves, and how each member is used.

use std::time::Duration;

/// How the session manager behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How long a worker may take to open its token and to show its domain.
    pub start_deadline: Duration,
    /// How often a ready worker is probed.
    pub probe_interval: Duration,
    /// How long a probe may take before the worker is killed.
    pub probe_deadline: Duration,
    /// How long the use of a key may take, once a session has begun it, before the worker is killed.
    pub hang_after: Duration,
    /// The same for the generation of a key and for changes of token objects.
    pub generation_hang_after: Duration,
    /// The first pause before a dead worker is started again.
    pub restart_pause: Duration,
    /// The longest such pause.
    pub restart_pause_max: Duration,
    /// How long the token of a member that has served may be missing before the member needs a person.
    pub token_grace: Duration,
    /// Which share of the signatures by a key that has proved itself is verified, between 0 and 1.
    pub verified_share: f64,
}

/// How a member is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberPlan {
    /// How many workers it has.
    pub workers: u32,
    /// Uses of keys that each worker may have at once.
    pub queue: u32,
    /// Generations of keys that each worker may have at once.
    pub generation_queue: u32,
    /// How many keys each worker keeps loaded.
    pub loaded_keys: u32,
    /// Its share of the work.
    pub weight: u32,
}

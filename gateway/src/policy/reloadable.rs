//! A policy that is exchanged as a whole while calls go on.

use super::{Action, Decision, Policy, Question};
use crate::identity::Peer;
use arc_swap::ArcSwap;
use std::sync::Arc;
use time::OffsetDateTime;

/// The policy that is in force. Each question is answered by one policy, the old or the new one.
#[derive(Debug)]
pub struct Reloadable(ArcSwap<Arc<dyn Policy>>);

impl Reloadable {
    /// With a policy.
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        Self(ArcSwap::from_pointee(policy))
    }

    /// From now on, another policy.
    pub fn replace(&self, policy: Arc<dyn Policy>) {
        self.0.store(Arc::new(policy));
    }
}

impl Policy for Reloadable {
    fn decide(&self, question: Question<'_>, now: OffsetDateTime) -> Decision {
        self.0.load().decide(question, now)
    }

    fn could_allow(&self, peer: &Peer, action: Action) -> Decision {
        self.0.load().could_allow(peer, action)
    }
}

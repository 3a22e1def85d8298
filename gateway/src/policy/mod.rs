//! Whether a principal may do something. Nothing is allowed unless a rule allows it.
//!
//! - [`action`]: what calls do, by name and duty.
//! - [`question`]: what a policy is asked: who, what, on which resource, under which circumstances.
//! - [`reloadable`]: the policy that is in force.
//! - [`rules`]: rules from the configuration.

pub mod action;
pub mod question;
pub mod reloadable;
pub mod rules;

pub use action::{Action, Duty};
pub use question::{Circumstances, KeyFacts, Question, Resource};

use crate::identity::Peer;
use std::{fmt, sync::Arc};
use time::OffsetDateTime;

/// The answer, with the name of the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by this rule.
    Allow(Arc<str>),
    /// Not allowed: forbidden by this rule, or, without one, allowed by none.
    Deny(Option<Arc<str>>),
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The rule that decided, if one did.
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::Allow(rule) => Some(rule),
            Self::Deny(rule) => rule.as_ref(),
        }
    }
}

/// Decides. What decides may change; what is asked does not.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Answers a question. Has no side effect and does not wait.
    fn decide(&self, question: Question<'_>, now: OffsetDateTime) -> Decision;

    /// Whether a rule could allow this principal this action on anything at all, under whatever circumstances. Cheap, so
    /// that those who never could are refused before anything is looked up for them.
    fn could_allow(&self, peer: &Peer, action: Action) -> Decision;
}

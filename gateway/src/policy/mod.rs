//! Whether a principal may do something. Policies are written in Cedar; nothing is allowed unless a policy permits it and
//! none forbids it.
//!
//! - [`action`]: what calls do, by name and duty.
//! - [`question`]: what a policy is asked: who, what, on which resource, under which circumstances.
//! - [`role`] and [`grant`]: the roles that come with the gateway, and how the configuration gives them.
//! - `load`: from settings to policies, with everything that is wrong with them.
//! - `rule`: a loaded policy and what its head says.
//! - `engine`: answers questions; `memory`: remembers the answers that cannot change; `facts`: from a question to entities.
//! - [`review`]: who holds duties that should be apart.
//! - [`explain`]: who may do what, by which policy.
//! - `vocabulary`: the words of policies, with the schema `portcullis.cedarschema`.

pub mod action;
mod engine;
pub mod explain;
mod facts;
pub mod grant;
mod load;
mod memory;
pub mod question;
pub mod review;
pub mod role;
mod rule;
mod vocabulary;

pub use action::{Action, Duty, Target};
pub use engine::Policy;
pub use grant::{Grant, Place, PolicySettings};
pub use load::{PolicyError, PolicyProblem};
pub use question::{Circumstances, KeyFacts, Question, Resource};
pub use role::Role;

use std::sync::Arc;

#[cfg(test)]
mod tests;

/// The answer, with the name of the rule that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by this rule; by several, if their names are listed.
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

//! Rules from the configuration.

use super::{Action, Decision, Duty, Policy, Question, Resource};
use crate::identity::{Peer, PrincipalPattern};
use std::sync::Arc;
use time::OffsetDateTime;

/// One or several actions, as a rule names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Every action.
    All,
    /// Every use of a key.
    KeyUse,
    /// One action.
    One(Action),
}

impl RuleAction {
    /// Reads a name; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::All),
            "key.use" => Ok(Self::KeyUse),
            name => match Action::parse(name) {
                Some(action) => Ok(Self::One(action)),
                None => {
                    let names: Vec<_> = Action::grantable().map(Action::name).collect();
                    Err(format!(
                        "\"{text}\" is no action: expected {}, key.use or *",
                        names.join(", ")
                    ))
                }
            },
        }
    }

    /// Whether it means nothing without a ring.
    pub fn needs_ring(self) -> bool {
        !matches!(
            self,
            Self::One(
                Action::Random
                    | Action::ReadCluster
                    | Action::ManageCluster
                    | Action::RequestActivation
                    | Action::ApproveActivation
                    | Action::ReadActivation
                    | Action::ReadAudit
            )
        )
    }

    fn covers(self, action: Action) -> bool {
        match self {
            Self::All => action.duty() != Duty::Internal,
            Self::KeyUse => action.duty() == Duty::Use,
            Self::One(one) => one == action,
        }
    }
}

/// A rule that allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which stands in the audit log.
    pub name: String,
    /// Whom it is for.
    pub principals: Vec<PrincipalPattern>,
    /// What it allows.
    pub actions: Vec<RuleAction>,
    /// In which rings: ids, or `*`.
    pub rings: Vec<String>,
}

/// Rules from the configuration: the first that fits allows.
#[derive(Debug, Clone, Default)]
pub struct RuleTable(Vec<Rule>);

impl RuleTable {
    /// A table of these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }
}

impl RuleTable {
    fn first(&self, peer: &Peer, action: Action, fits: impl Fn(&Rule) -> bool) -> Decision {
        let mut covering = self.0.iter().filter(|rule| {
            rule.principals.iter().any(|pattern| pattern.matches(&peer.principal))
                && rule.actions.iter().any(|one| one.covers(action))
        });
        match covering.find(|rule| fits(rule)) {
            Some(rule) => Decision::Allow(Arc::from(rule.name.as_str())),
            None => Decision::Deny(None),
        }
    }
}

impl Policy for RuleTable {
    fn decide(&self, question: Question<'_>, _: OffsetDateTime) -> Decision {
        let ring = match question.resource {
            Resource::Gateway => None,
            Resource::KeyRing(ring) => Some(ring),
            Resource::Key(key) => Some(&key.name.ring),
        };
        self.first(question.peer, question.action, |rule| {
            ring.is_none_or(|ring| rule.rings.iter().any(|one| one == "*" || one == ring.as_str()))
        })
    }

    fn could_allow(&self, peer: &Peer, action: Action) -> Decision {
        self.first(peer, action, |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{AuthenticationMethod, Principal, SpiffeId},
        keys::name::Id,
        policy::Circumstances,
    };

    fn peer(id: &str) -> Peer {
        let id = SpiffeId::parse(id).expect("an id");
        Peer::new(
            Principal::of_workload(&id),
            AuthenticationMethod::ClientCertificate,
            "127.0.0.1:1".to_owned(),
        )
    }

    #[test]
    fn nothing_is_allowed_without_a_rule_and_rules_are_exact() {
        let caller = peer("spiffe://example.org/pay");
        let (payments, other) = (
            Id::parse("payments").expect("an id"),
            Id::parse("other").expect("an id"),
        );
        let ask = |policy: &RuleTable, action, ring| {
            let question = Question {
                peer: &caller,
                action,
                resource: Resource::KeyRing(ring),
                circumstances: Circumstances::default(),
            };
            policy.decide(question, OffsetDateTime::UNIX_EPOCH).is_allowed()
        };
        let none = RuleTable::default();
        assert!(!ask(&none, Action::Sign, &payments));
        let table = RuleTable::new(vec![Rule {
            name: "payments".to_owned(),
            principals: vec![PrincipalPattern::parse("spiffe://example.org/pay").expect("a pattern")],
            actions: vec![RuleAction::KeyUse],
            rings: vec!["payments".to_owned()],
        }]);
        assert!(ask(&table, Action::Sign, &payments));
        assert!(!ask(&table, Action::Sign, &other));
        assert!(!ask(&table, Action::CreateKey, &payments));
    }
}

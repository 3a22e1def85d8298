//! Whether a principal may do something. Nothing is allowed unless a rule allows it.

use crate::{
    identity::{Peer, PrincipalPattern},
    keys::name::Id,
};
use std::fmt;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Create a key ring.
    CreateKeyRing,
    /// Read key rings.
    ReadKeyRing,
    /// Create a key.
    CreateKey,
    /// Read keys and public keys.
    ReadKey,
    /// Make a signature.
    Sign,
    /// Check a signature.
    Verify,
    /// Encrypt.
    Encrypt,
    /// Decrypt.
    Decrypt,
    /// Get random bytes.
    Random,
    /// See the members.
    ReadCluster,
    /// A call that this gateway does not serve yet.
    Unavailable,
}

impl Action {
    /// The name in policy and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateKeyRing => "key_ring.create",
            Self::ReadKeyRing => "key_ring.read",
            Self::CreateKey => "key.create",
            Self::ReadKey => "key.read",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Random => "random",
            Self::ReadCluster => "cluster.read",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub peer: &'a Peer,
    /// What for.
    pub action: Action,
    /// The key ring that is concerned, if any.
    pub ring: Option<&'a Id>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by the rule of this name.
    Allow(String),
    /// Not allowed.
    Deny,
}

/// Decides. What decides may change (a rule table, Cedar); what is asked does not.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Answers a question. Has no side effect and does not wait.
    fn decide(&self, question: Question<'_>) -> Decision;
}

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
            name => match GRANTABLE.into_iter().find(|action| action.name() == name) {
                Some(action) => Ok(Self::One(action)),
                None => {
                    let names: Vec<_> = GRANTABLE.iter().map(|action| action.name()).collect();
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
        !matches!(self, Self::One(Action::Random | Action::ReadCluster))
    }

    fn covers(self, action: Action) -> bool {
        match self {
            Self::All => true,
            Self::KeyUse => matches!(
                action,
                Action::Sign | Action::Verify | Action::Encrypt | Action::Decrypt
            ),
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

impl Policy for RuleTable {
    fn decide(&self, question: Question<'_>) -> Decision {
        let fits = |rule: &&Rule| {
            rule.principals
                .iter()
                .any(|pattern| pattern.matches(&question.peer.principal))
                && rule.actions.iter().any(|action| action.covers(question.action))
                && question
                    .ring
                    .is_none_or(|ring| rule.rings.iter().any(|one| one == "*" || one == ring.as_str()))
        };
        self.0
            .iter()
            .find(fits)
            .map_or(Decision::Deny, |rule| Decision::Allow(rule.name.clone()))
    }
}

const GRANTABLE: [Action; 10] = [
    Action::CreateKeyRing,
    Action::ReadKeyRing,
    Action::CreateKey,
    Action::ReadKey,
    Action::Sign,
    Action::Verify,
    Action::Encrypt,
    Action::Decrypt,
    Action::Random,
    Action::ReadCluster,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AuthenticationMethod, Principal};

    fn peer(der_free_name: &str) -> Peer {
        // The only way to a principal without a socket or certificate is the pattern's own reading of names.
        let certificate = {
            let mut parameters = rcgen::CertificateParams::default();
            parameters
                .subject_alt_names
                .push(rcgen::SanType::URI(der_free_name.try_into().expect("an ASCII URI")));
            let key = rcgen::KeyPair::generate().expect("a key");
            parameters.self_signed(&key).expect("a certificate").der().to_vec()
        };
        Peer::new(
            Principal::of_certificate(&certificate).expect("a principal"),
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
            policy.decide(Question {
                peer: &caller,
                action,
                ring: Some(ring),
            }) != Decision::Deny
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

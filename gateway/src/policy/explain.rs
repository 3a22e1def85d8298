//! Who may do what, by which policy.

use super::{Action, Circumstances, Decision, KeyFacts, Policy, Question, Resource, Target, rule::Reach};
use crate::{
    identity::{AuthenticationMethod, Peer, Principal, PrincipalPattern},
    keys::{
        name::{Id, KeyName, KeyRingName},
        purpose::Purpose,
        record::Protection,
    },
};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use std::{collections::BTreeMap, fmt};
use time::OffsetDateTime;

/// A resource by its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceName {
    /// The gateway itself.
    Gateway,
    /// A ring.
    KeyRing(Id),
    /// A key.
    Key(KeyName),
}

impl ResourceName {
    /// Reads `gateway`, `keyRings/{ring}` or `keyRings/{ring}/keys/{key}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "gateway" {
            return Ok(Self::Gateway);
        }
        let ring = KeyRingName::parse(text).map(|name| Self::KeyRing(name.0));
        ring.or_else(|_| KeyName::parse(text).map(Self::Key)).map_err(|_| {
            format!("\"{text}\" is no resource: expected gateway, keyRings/{{ring}} or keyRings/{{ring}}/keys/{{key}}")
        })
    }

    fn target(&self) -> Target {
        match self {
            Self::Gateway => Target::Gateway,
            Self::KeyRing(_) => Target::KeyRing,
            Self::Key(_) => Target::Key,
        }
    }

    /// Whether an action can be done to it, or to something in it.
    fn holds(&self, action: Action) -> bool {
        let inside = |target: &Target| match self {
            Self::Gateway => *target == Target::Gateway,
            Self::KeyRing(_) => *target != Target::Gateway,
            Self::Key(_) => *target == Target::Key,
        };
        action.targets().iter().any(inside)
    }

    fn reach(&self) -> Reach {
        match self {
            Self::Gateway => Reach::gateway(),
            Self::KeyRing(ring) => Reach::ring(ring.as_str()),
            Self::Key(key) => Reach::key(key.ring.as_str(), key.key.as_str()),
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => formatter.write_str("the gateway"),
            Self::KeyRing(ring) => write!(formatter, "keyRings/{ring}"),
            Self::Key(key) => key.fmt(formatter),
        }
    }
}

/// A request as it might come.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub principal: PrincipalPattern,
    /// What for.
    pub action: Action,
    /// On what.
    pub resource: ResourceName,
    /// What else is so.
    pub assumed: Assumed,
}

/// What is assumed of a request beside its names.
#[derive(Debug, Clone)]
pub struct Assumed {
    /// The key's labels.
    pub labels: BTreeMap<String, String>,
    /// Why the key exists.
    pub purpose: Purpose,
    /// What the key is.
    pub key_type: KeyType,
    /// How the key is kept.
    pub protection: Protection,
    /// Whether the key may be exported.
    pub exportable: bool,
    /// The mechanism.
    pub mechanism: Option<Mechanism>,
    /// The encryption context.
    pub encryption_context: Option<BTreeMap<String, String>>,
    /// Whether the primary version is used.
    pub primary_version: Option<bool>,
    /// The caller's address and port, if it has one.
    pub peer: Option<std::net::SocketAddr>,
    /// When.
    pub time: OffsetDateTime,
}

/// The answer to a request as it might come.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// The policies that name the principal, the action and the resource in their heads, but whose conditions do not hold.
    pub unmet: Vec<String>,
}

/// What is wrong with a request as it might come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// A pattern is not somebody.
    #[error("{0} is a pattern: name one principal, or leave the action or the resource out")]
    Pattern(PrincipalPattern),
    /// The action is not done to such a resource.
    #[error("{action} is not done to {resource}: name {expected}")]
    Target {
        /// The action.
        action: Action,
        /// The resource.
        resource: ResourceName,
        /// What it is done to.
        expected: &'static str,
    },
}

/// Decides a request as it might come.
pub fn ask(policy: &Policy, request: &Request) -> Result<Answer, AskError> {
    let principal = Principal::named(&request.principal).ok_or_else(|| AskError::Pattern(request.principal.clone()))?;
    if !request.action.targets().contains(&request.resource.target()) {
        return Err(AskError::Target {
            action: request.action,
            resource: request.resource.clone(),
            expected: match request.action.targets() {
                [Target::KeyRing] => "a ring, keyRings/{ring}",
                [Target::Key] => "a key, keyRings/{ring}/keys/{key}",
                [Target::Gateway] => "the gateway: --resource gateway",
                [Target::Gateway, Target::Key] => "the gateway or a key",
                _ => "a ring or a key",
            },
        });
    }
    let method = if principal.as_str().starts_with("unix:") {
        AuthenticationMethod::UnixPeer
    } else {
        AuthenticationMethod::ClientCertificate
    };
    let assumed = &request.assumed;
    let address = assumed.peer.map(|address| address.to_string()).unwrap_or_default();
    let peer = Peer::new(principal, method, address);
    let question = Question {
        peer: &peer,
        action: request.action,
        resource: match &request.resource {
            ResourceName::Gateway => Resource::Gateway,
            ResourceName::KeyRing(ring) => Resource::KeyRing(ring),
            ResourceName::Key(name) => Resource::Key(KeyFacts {
                name,
                labels: &assumed.labels,
                purpose: assumed.purpose,
                key_type: assumed.key_type,
                protection: assumed.protection,
                exportable: assumed.exportable,
            }),
        },
        circumstances: Circumstances {
            mechanism: assumed.mechanism,
            encryption_context: assumed.encryption_context.as_ref(),
            primary_version: assumed.primary_version,
        },
    };
    let decision = policy.decide(question, assumed.time);
    let reach = request.resource.reach();
    let could = policy.rules().into_iter().filter(|rule| {
        rule.permits()
            && rule.is_for(&peer.principal)
            && rule.actions.contains(&request.action)
            && rule.reach.meets(&reach)
            && rule.has_conditions()
    });
    Ok(Answer {
        unmet: if decision.is_allowed() {
            Vec::new()
        } else {
            could.map(|rule| rule.name.to_string()).collect()
        },
        decision,
    })
}

/// What a policy says of somebody, in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whom it names.
    pub principals: String,
    /// Whether it permits or forbids.
    pub permits: bool,
    /// What it names.
    pub actions: Vec<Action>,
    /// Where.
    pub resource: String,
    /// Whether it has conditions that are not decided here.
    pub conditions: bool,
    /// Its name.
    pub rule: String,
}

/// What the heads of the policies say, of whom and what is given: who may do what, where, and by which policy.
pub fn tabulate(
    policy: &Policy,
    principal: Option<&PrincipalPattern>,
    action: Option<Action>,
    resource: Option<&ResourceName>,
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for rule in policy.rules() {
        let Some(principals) = &rule.principals else { continue };
        let concerned = principal.is_none_or(|given| principals.covers(given) || given.covers(principals));
        let place = resource.is_none_or(|given| rule.reach.meets(&given.reach()));
        let mut actions = rule.actions.clone();
        actions
            .retain(|one| action.is_none_or(|given| given == *one) && resource.is_none_or(|given| given.holds(*one)));
        if concerned && place && !actions.is_empty() {
            rows.push(Row {
                principals: principals.to_string(),
                permits: rule.permits(),
                actions,
                resource: rule.reach.to_string(),
                conditions: rule.has_conditions(),
                rule: rule.name.to_string(),
            });
        }
    }
    rows.sort_by(|a, b| {
        let order = |row: &Row| {
            (
                row.principals.clone(),
                !row.permits,
                row.resource.clone(),
                row.rule.clone(),
            )
        };
        order(a).cmp(&order(b))
    });
    rows
}

//! A loaded policy: one of an operator's file, or a role's template as a grant filled it in.

use super::{
    Action, Target,
    vocabulary::{Kind, actions_of},
};
use crate::identity::{Principal, PrincipalPattern};
use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PrincipalConstraint, ResourceConstraint, SlotId, Template,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

/// A loaded policy.
#[derive(Debug)]
pub(super) struct Rule {
    /// What the audit log calls it: the grant's name, the policy's `@id`, or its file and line.
    pub(super) name: Arc<str>,
    pub(super) policy: Policy,
    /// The template and the values that were filled in, if it is a grant's.
    pub(super) link: Option<(Template, HashMap<SlotId, EntityUid>)>,
    /// Whom its head names; `None` if nobody.
    pub(super) principals: Option<PrincipalPattern>,
    /// What its head names.
    pub(super) actions: Vec<Action>,
    /// Where its head holds.
    pub(super) reach: Reach,
    /// Whether its answer can change from one request of the same kind to the next.
    pub(super) passing: bool,
    /// Whether its conditions look at the resource.
    pub(super) looks_at_resource: bool,
    /// Whether it has been reported that it could not be evaluated.
    pub(super) reported: AtomicBool,
}

impl Rule {
    /// Reads the head of a policy.
    pub(super) fn new(name: Arc<str>, policy: Policy, link: Option<(Template, HashMap<SlotId, EntityUid>)>) -> Self {
        let reach = Reach::of(&policy.resource_constraint());
        let mut actions = actions_in(&policy.action_constraint());
        actions.retain(|action| reach.has(*action));
        let json = match &link {
            Some((template, _)) => template.to_json(),
            None => policy.to_json(),
        };
        Self {
            principals: principals_of(&policy.principal_constraint()),
            actions,
            reach,
            looks_at_resource: json.as_ref().map_or(true, |json| names_resource(&json["conditions"])),
            passing: json.map_or(true, |json| depends_on_what_passes(&json)),
            name,
            policy,
            link,
            reported: AtomicBool::new(false),
        }
    }

    pub(super) fn id(&self) -> &PolicyId {
        self.policy.id()
    }

    pub(super) fn permits(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }

    /// Whether it has conditions beside its head.
    pub(super) fn has_conditions(&self) -> bool {
        self.policy.has_non_scope_constraint()
    }

    /// Whether its head names a principal.
    pub(super) fn is_for(&self, principal: &Principal) -> bool {
        self.principals
            .as_ref()
            .is_some_and(|pattern| pattern.matches(principal))
    }

    /// Every entity that it names.
    pub(super) fn entities(&self) -> Vec<EntityUid> {
        let mut named = self.policy.entity_literals();
        if let Some((_, values)) = &self.link {
            named.extend(values.values().cloned());
        }
        named
    }
}

/// Where the head of a policy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    within: Within,
    only: Option<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Everything,
    Ring(String),
    Key { ring: String, key: String },
    Nothing,
}

impl Reach {
    /// A ring and all in it.
    pub(super) fn ring(ring: &str) -> Self {
        Self {
            within: Within::Ring(ring.to_owned()),
            only: None,
        }
    }

    /// The keys of a ring.
    pub(super) fn keys_of(ring: &str) -> Self {
        Self {
            only: Some(Target::Key),
            ..Self::ring(ring)
        }
    }

    /// One key.
    pub(super) fn key(ring: &str, key: &str) -> Self {
        Self {
            within: Within::Key {
                ring: ring.to_owned(),
                key: key.to_owned(),
            },
            only: Some(Target::Key),
        }
    }

    /// The gateway itself, without its rings.
    pub(super) fn gateway() -> Self {
        Self {
            within: Within::Everything,
            only: Some(Target::Gateway),
        }
    }

    fn of(constraint: &ResourceConstraint) -> Self {
        let reach = |within, only| Self { within, only };
        match constraint {
            ResourceConstraint::Any => reach(Within::Everything, None),
            ResourceConstraint::Is(kind) => match target(kind) {
                Some(target) => reach(Within::Everything, Some(target)),
                None => reach(Within::Nothing, None),
            },
            ResourceConstraint::In(entity) => Self::inside(entity),
            ResourceConstraint::Eq(entity) => Self {
                only: target(entity.type_name()),
                ..Self::inside(entity)
            },
            ResourceConstraint::IsIn(kind, entity) => Self {
                only: target(kind),
                ..Self::inside(entity)
            },
        }
    }

    fn inside(entity: &EntityUid) -> Self {
        let id = entity.id().unescaped();
        match Kind::of(entity) {
            Some(Kind::Gateway) => Self {
                within: Within::Everything,
                only: None,
            },
            Some(Kind::KeyRing) => Self::ring(id),
            Some(Kind::Key) => {
                let (ring, key) = id.split_once('/').unwrap_or((id, ""));
                Self::key(ring, key)
            }
            _ => Self {
                within: Within::Nothing,
                only: None,
            },
        }
    }

    /// Whether an action can be done to something in here.
    pub(super) fn has(&self, action: Action) -> bool {
        let inside = |target: &Target| match self.within {
            Within::Everything => true,
            Within::Ring(_) => *target != Target::Gateway,
            Within::Key { .. } => *target == Target::Key,
            Within::Nothing => false,
        };
        let fits = |target: &Target| inside(target) && self.only.is_none_or(|only| only == *target);
        action.targets().iter().any(fits)
    }

    /// Whether something lies both here and there.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let kinds = match (self.only, other.only) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let outside = |reach: &Self| reach.only == Some(Target::Gateway);
        let places = match (&self.within, &other.within) {
            (Within::Nothing, _) | (_, Within::Nothing) => false,
            (Within::Everything, Within::Everything) => true,
            (Within::Everything, _) => !outside(self),
            (_, Within::Everything) => !outside(other),
            (Within::Ring(a), Within::Ring(b)) => a == b,
            (Within::Ring(a), Within::Key { ring, .. }) | (Within::Key { ring, .. }, Within::Ring(a)) => a == ring,
            (a @ Within::Key { .. }, b @ Within::Key { .. }) => a == b,
        };
        kinds && places
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.within, self.only) {
            (Within::Everything, None) => formatter.write_str("everything"),
            (Within::Everything, Some(Target::Gateway)) => formatter.write_str("the gateway"),
            (Within::Everything, Some(Target::KeyRing)) => formatter.write_str("keyRings/*"),
            (Within::Everything, Some(Target::Key)) => formatter.write_str("keyRings/*/keys/*"),
            (Within::Ring(ring), Some(Target::Key)) => write!(formatter, "keyRings/{ring}/keys/*"),
            (Within::Ring(ring), Some(_)) => write!(formatter, "keyRings/{ring} alone"),
            (Within::Ring(ring), None) => write!(formatter, "keyRings/{ring}"),
            (Within::Key { ring, key }, _) => write!(formatter, "keyRings/{ring}/keys/{key}"),
            (Within::Nothing, _) => formatter.write_str("nothing"),
        }
    }
}

fn target(kind: &cedar_policy::EntityTypeName) -> Option<Target> {
    match Kind::of_type(kind) {
        Some(Kind::Gateway) => Some(Target::Gateway),
        Some(Kind::KeyRing) => Some(Target::KeyRing),
        Some(Kind::Key) => Some(Target::Key),
        _ => None,
    }
}

fn principals_of(constraint: &PrincipalConstraint) -> Option<PrincipalPattern> {
    let (entity, equal) = match constraint {
        PrincipalConstraint::Any => return PrincipalPattern::parse("*").ok(),
        PrincipalConstraint::Is(kind) if Kind::of_type(kind) == Some(Kind::Principal) => {
            return PrincipalPattern::parse("*").ok();
        }
        PrincipalConstraint::Is(_) => return None,
        PrincipalConstraint::In(entity) => (entity, false),
        PrincipalConstraint::Eq(entity) => (entity, true),
        PrincipalConstraint::IsIn(kind, entity) if Kind::of_type(kind) == Some(Kind::Principal) => (entity, false),
        PrincipalConstraint::IsIn(..) => return None,
    };
    match Kind::of(entity) {
        Some(Kind::Principal) => PrincipalPattern::parse(entity.id().unescaped()).ok(),
        // Nobody is a pattern; many may be in one.
        Some(Kind::Pattern) if !equal => PrincipalPattern::parse(entity.id().unescaped()).ok(),
        _ => None,
    }
}

fn actions_in(constraint: &ActionConstraint) -> Vec<Action> {
    match constraint {
        ActionConstraint::Any => Action::grantable().collect(),
        ActionConstraint::In(entities) => {
            let mut actions: Vec<Action> = entities.iter().flat_map(actions_of).collect();
            actions.sort();
            actions.dedup();
            actions
        }
        ActionConstraint::Eq(entity) => Action::parse(entity.id().unescaped()).into_iter().collect(),
    }
}

/// Whether the conditions of a policy look at more of the context than what decisions are remembered by.
fn depends_on_what_passes(json: &Value) -> bool {
    let is_context = |value: &Value| value.get("Var").and_then(Value::as_str) == Some("context");
    match json {
        Value::Object(fields) => fields.iter().any(|(operator, operands)| match operator.as_str() {
            "Var" => operands.as_str() == Some("context"),
            "." | "has" if operands.get("left").is_some_and(is_context) => {
                let attribute = operands.get("attr").and_then(Value::as_str);
                !attribute.is_some_and(|attribute| REMEMBERED.contains(&attribute))
            }
            _ => depends_on_what_passes(operands),
        }),
        Value::Array(values) => values.iter().any(depends_on_what_passes),
        _ => false,
    }
}

/// Whether conditions name the resource.
fn names_resource(json: &Value) -> bool {
    match json {
        Value::Object(fields) => fields.iter().any(|(operator, operands)| match operator.as_str() {
            "Var" => operands.as_str() == Some("resource"),
            _ => names_resource(operands),
        }),
        Value::Array(values) => values.iter().any(names_resource),
        _ => false,
    }
}

/// The attributes of the context by which decisions are remembered; how a caller is connected follows from its name.
const REMEMBERED: [&str; 3] = ["mechanism", "primary_version", "connection"];

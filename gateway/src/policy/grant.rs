//! What the configuration says of policy: files of an operator's own, and grants of roles.

use super::{
    Role,
    vocabulary::{Kind, gateway},
};
use crate::{
    identity::PrincipalPattern,
    keys::name::{Id, KeyName},
};
use cedar_policy::{EntityUid, SlotId};
use std::{collections::HashMap, path::PathBuf};

/// Where policies come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// Files with policies in Cedar.
    pub files: Vec<PathBuf>,
    /// Grants of the roles that come with the gateway.
    pub grants: Vec<Grant>,
}

/// A role for somebody, somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name, which stands in the audit log.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Whom.
    pub principals: Vec<PrincipalPattern>,
    /// Where; empty for a role that concerns the whole gateway.
    pub places: Vec<Place>,
}

/// Where a grant holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the whole gateway.
    Everywhere,
    /// In a ring.
    KeyRing(Id),
    /// On one key.
    Key(KeyName),
}

impl Place {
    /// Reads a ring as a grant names it: its id, or `*` for all of them.
    pub fn parse_ring(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Everywhere),
            id => Id::parse(id)
                .map(Self::KeyRing)
                .map_err(|_| format!("\"{id}\" is neither a ring's id nor \"*\"")),
        }
    }

    /// Reads a key as a grant names it: `{ring}/{key}`.
    pub fn parse_key(text: &str) -> Result<Self, String> {
        let parse = |(ring, key): (&str, &str)| {
            Some(Self::Key(KeyName {
                ring: Id::parse(ring).ok()?,
                key: Id::parse(key).ok()?,
            }))
        };
        text.split_once('/')
            .and_then(parse)
            .ok_or_else(|| format!("\"{text}\" is no key: expected the ids of its ring and of the key, ring/key"))
    }

    fn entity(&self) -> EntityUid {
        match self {
            Self::Everywhere => gateway(),
            Self::KeyRing(ring) => Kind::KeyRing.entity(ring.as_str()),
            Self::Key(key) => Kind::Key.entity(&format!("{}/{}", key.ring, key.key)),
        }
    }
}

impl Grant {
    /// What the slots of the role's templates are filled in with: each principal with each place.
    pub(super) fn values(&self) -> Vec<HashMap<SlotId, EntityUid>> {
        let mut values = Vec::new();
        for pattern in &self.principals {
            let kind = if pattern.is_exact() {
                Kind::Principal
            } else {
                Kind::Pattern
            };
            let principal = (SlotId::principal(), kind.entity(&pattern.to_string()));
            if self.role.needs_place() {
                for place in &self.places {
                    values.push(HashMap::from([principal.clone(), (SlotId::resource(), place.entity())]));
                }
            } else {
                values.push(HashMap::from([principal]));
            }
        }
        values
    }
}

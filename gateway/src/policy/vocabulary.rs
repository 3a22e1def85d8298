//! The words of policies: kinds of entity, and the schema that policies are checked against.

use super::{Action, Duty};
use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use std::{collections::HashMap, sync::LazyLock};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// A kind of entity. The names are those of the schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$kind,)*];

            fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }
        }
    };
}

kinds! {
    /// What is done, or a duty that groups it.
    Action,
    /// A caller.
    Principal,
    /// All callers whose names start so.
    Pattern,
    /// How a caller proved who it is.
    Method,
    /// The gateway.
    Gateway,
    /// A ring.
    KeyRing,
    /// A key.
    Key,
    /// Why a key exists.
    Purpose,
    /// What a key is.
    KeyType,
    /// How a key is kept.
    Protection,
    /// How an operation is done.
    Mechanism,
    /// How the caller is connected.
    Connection,
    /// The caller's encryption context.
    EncryptionContext,
}

impl Kind {
    /// The entity of this kind with an id.
    pub(super) fn entity(self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(TYPE_NAMES[&self].clone(), EntityId::new(id))
    }

    /// The kind of an entity, if policies know it.
    pub(super) fn of(entity: &EntityUid) -> Option<Self> {
        Self::of_type(entity.type_name())
    }

    /// The kind with a type's name.
    pub(super) fn of_type(name: &EntityTypeName) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| TYPE_NAMES[kind] == *name)
    }
}

/// The schema: what policies may speak of.
pub(super) fn schema() -> &'static Schema {
    &SCHEMA
}

/// The gateway as policies know it.
pub(super) fn gateway() -> EntityUid {
    Kind::Gateway.entity("gateway")
}

/// The actions that an entity of kind `Action` stands for: one, or those of a duty.
pub(super) fn actions_of(entity: &EntityUid) -> Vec<Action> {
    let id = entity.id().unescaped();
    let duty = Duty::ALL.iter().find(|duty| duty.name() == id);
    Action::grantable()
        .filter(|action| action.name() == id || Some(&action.duty()) == duty)
        .collect()
}

static TYPE_NAMES: LazyLock<HashMap<Kind, EntityTypeName>> = LazyLock::new(|| {
    let named = |kind: &Kind| {
        // Invariant: the name of a kind is an identifier.
        (*kind, kind.name().parse().expect("a kind has the name of a type"))
    };
    Kind::ALL.iter().map(named).collect()
});

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    // Invariant: the schema is part of the program, and a test reads it.
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA_TEXT).expect("the schema is valid");
    schema
});

const SCHEMA_TEXT: &str = include_str!("portcullis.cedarschema");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::AuthenticationMethod,
        keys::{purpose::Purpose, record::Protection},
        policy::Target,
    };
    use portcullis_hsm::algorithm::{KeyType, Mechanism};
    use std::collections::BTreeSet;

    #[test]
    fn the_schema_knows_the_actions_of_the_gateway_and_no_others() {
        let (_, warnings) = Schema::from_cedarschema_str(SCHEMA_TEXT).expect("a valid schema");
        assert_eq!(
            warnings.map(|one| one.to_string()).collect::<Vec<_>>(),
            Vec::<String>::new()
        );
        let known: BTreeSet<String> = schema().actions().map(|one| one.id().unescaped().to_owned()).collect();
        let groups: BTreeSet<&str> = schema().action_groups().map(|one| one.id().unescaped()).collect();
        let expected: BTreeSet<String> = Action::grantable().map(|one| one.name().to_owned()).collect();
        let single: BTreeSet<String> = known
            .iter()
            .filter(|one| !groups.contains(one.as_str()))
            .cloned()
            .collect();
        assert_eq!(single, expected);
        for action in Action::grantable() {
            let uid = Kind::Action.entity(action.name());
            let resources: BTreeSet<String> = schema()
                .resources_for_action(&uid)
                .expect("a known action")
                .map(ToString::to_string)
                .collect();
            let targets = action.targets().iter().map(|target| match target {
                Target::Gateway => "Gateway".to_owned(),
                Target::KeyRing => "KeyRing".to_owned(),
                Target::Key => "Key".to_owned(),
            });
            assert_eq!(resources, targets.collect(), "{action}");
        }
    }

    #[test]
    fn the_schemas_groups_are_the_duties() {
        let json = schema_json();
        for action in Action::grantable() {
            let groups: Vec<&str> = json["actions"][action.name()]["memberOf"]
                .as_array()
                .map(|groups| groups.iter().filter_map(|group| group["id"].as_str()).collect())
                .unwrap_or_default();
            let duty = action.duty().name();
            let expected = if duty == action.name() { vec![] } else { vec![duty] };
            assert_eq!(groups, expected, "{action}");
            assert!(actions_of(&Kind::Action.entity(duty)).contains(&action));
        }
    }

    #[test]
    fn the_schemas_lists_are_those_of_the_gateway() {
        let json = schema_json();
        let listed = |kind: &str| -> BTreeSet<String> {
            let names = json["entityTypes"][kind]["enum"].as_array().expect("a list");
            names.iter().filter_map(|one| one.as_str()).map(str::to_owned).collect()
        };
        let names = |names: &[&str]| names.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(
            listed("Mechanism"),
            Mechanism::ALL.iter().map(ToString::to_string).collect()
        );
        assert_eq!(
            listed("KeyType"),
            KeyType::ALL.iter().map(ToString::to_string).collect()
        );
        assert_eq!(listed("Purpose"), names(&Purpose::ALL.map(Purpose::name)));
        assert_eq!(listed("Protection"), names(&Protection::ALL.map(Protection::name)));
        let methods = [AuthenticationMethod::UnixPeer, AuthenticationMethod::ClientCertificate];
        assert_eq!(listed("Method"), names(&methods.map(AuthenticationMethod::name)));
    }

    fn schema_json() -> serde_json::Value {
        let (fragment, _) = cedar_policy::SchemaFragment::from_cedarschema_str(SCHEMA_TEXT).expect("a valid schema");
        fragment.to_json_value().expect("JSON")[""].clone()
    }
}

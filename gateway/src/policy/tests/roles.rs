//! What each role may do, over all actions.

use super::*;
use crate::policy::{review, vocabulary::schema};
use cedar_policy::{PolicyId, PolicySet, ValidationMode, Validator};
use std::collections::BTreeSet;

/// The actions of each role, by name; groups by their duty.
const MAY: &[(&str, &[&str])] = &[
    ("key-admin", &["administer", "read"]),
    ("reader", &["read"]),
    ("signer", &["sign", "read"]),
    ("verifier", &["verify", "read"]),
    ("encrypter", &["encrypt", "read"]),
    ("decrypter", &["decrypt", "asymmetric.decrypt", "read"]),
    ("reencrypter", &["reencrypt.from", "reencrypt.to", "read"]),
    ("mac-user", &["mac.sign", "mac.verify", "read"]),
    ("key-agreement-user", &["derive", "read"]),
    (
        "data-key-user",
        &["data_key.generate", "data_key.generate_sealed", "read"],
    ),
    ("random-user", &["random"]),
    (
        "ephemeral-key-user",
        &["ephemeral_key.create", "ephemeral_key.renew", "read"],
    ),
    ("object-admin", &["objects", "read"]),
    ("importer", &["key.import", "read"]),
    ("exporter", &["key.export", "read"]),
    ("destroyer", &["destroy", "read"]),
    ("break-glass", &["key_version.use_compromised"]),
    ("activation-requester", &["activation.request", "activation.read"]),
    ("activation-approver", &["activation.approve", "activation.read"]),
    ("auditor", &["audit.read", "read", "observe"]),
    ("hsm-operator", &["cluster.read", "cluster.manage"]),
];

fn actions_of(role: &str) -> BTreeSet<Action> {
    let (_, may) = MAY.iter().find(|(name, _)| *name == role).expect("a role of the table");
    let named = |action: &Action| may.contains(&action.name()) || may.contains(&action.duty().name());
    Action::grantable().filter(named).collect()
}

fn everywhere(role: &str) -> Policy {
    let places = match Role::parse(role).expect("a role").needs_place() {
        true => vec![Place::Everywhere],
        false => Vec::new(),
    };
    granted(role, &[TELLER], places)
}

/// Asks about every kind of resource that an action is done to.
fn allowed(policy: &Policy, who: &Peer, action: Action) -> bool {
    let (key, none, ring) = (name("keyRings/payments/keys/release"), BTreeMap::new(), id("payments"));
    let answers: BTreeSet<bool> = action
        .targets()
        .iter()
        .map(|target| match target {
            Target::Gateway => Resource::Gateway,
            Target::KeyRing => Resource::KeyRing(&ring),
            Target::Key => Resource::Key(facts(&key, &none)),
        })
        .map(|resource| ask_about(policy, who, action, resource, Circumstances::NONE).is_allowed())
        .collect();
    assert!(answers.len() < 2, "{action} depends on the kind of resource");
    answers.contains(&true)
}

#[test]
fn every_role_may_do_what_it_is_for_and_nothing_else() {
    let named: Vec<&str> = MAY.iter().map(|(role, _)| *role).collect();
    assert_eq!(Role::all().map(Role::name).collect::<Vec<_>>(), named);
    for role in Role::all() {
        let policy = everywhere(role.name());
        for action in Action::ALL.iter().copied() {
            let expected = actions_of(role.name()).contains(&action);
            assert_eq!(allowed(&policy, &peer(TELLER), action), expected, "{role}: {action}");
            assert!(
                !allowed(&policy, &peer("spiffe://example.org/payments/tell"), action),
                "{role}: {action}"
            );
        }
        assert!(role.description().len() > 20, "{role} does not say what it is for");
    }
}

#[test]
fn every_role_is_valid_for_every_kind_of_principal_and_place() {
    let validator = Validator::new(schema().clone());
    for role in Role::all() {
        let places = [
            Place::Everywhere,
            Place::KeyRing(id("payments")),
            Place::Key(name("keyRings/payments/keys/release")),
        ];
        let grant = Grant {
            name: "a grant".to_owned(),
            role,
            principals: vec![pattern(TELLER), pattern("unix:uid=*"), pattern("*")],
            places: if role.needs_place() {
                places.to_vec()
            } else {
                Vec::new()
            },
        };
        let mut set = PolicySet::new();
        for template in role.templates() {
            set.add_template(template.clone()).expect("a template");
            for (number, values) in grant.values().into_iter().enumerate() {
                let link = PolicyId::new(format!("{} {number}", template.id()));
                set.link(template.id().clone(), link, values).expect("a link");
            }
        }
        assert!(set.num_of_policies() >= 3, "{role}");
        let checked = validator.validate(&set, ValidationMode::Strict);
        let errors: Vec<String> = checked.validation_errors().map(ToString::to_string).collect();
        assert_eq!(errors, Vec::<String>::new(), "{role}");
    }
}

#[test]
fn no_role_joins_duties_that_should_be_apart() {
    for role in Role::all() {
        assert_eq!(review::conflicts(&everywhere(role.name())), [], "{role}");
        let duties: BTreeSet<Duty> = actions_of(role.name()).iter().map(|action| action.duty()).collect();
        let passive = [Duty::Read, Duty::Observe];
        let active: Vec<_> = duties.iter().filter(|duty| !passive.contains(duty)).collect();
        assert!(active.len() <= 1, "{role} has the duties {active:?}");
    }
    let actions = |role: &str| {
        actions_of(role)
            .into_iter()
            .filter(|action| action.duty() != Duty::Read)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        actions("destroyer"),
        [Action::ScheduleVersionDestruction, Action::CancelVersionDestruction]
    );
    assert_eq!(
        actions("activation-approver"),
        [Action::ApproveActivation, Action::ReadActivation]
    );
    assert_eq!(actions("exporter"), [Action::ExportKey]);
    assert_eq!(actions("importer"), [Action::ImportKey]);
}

#[test]
fn no_role_imports_material_in_clear() {
    for role in Role::all() {
        assert!(
            !allowed(&everywhere(role.name()), &peer(TELLER), Action::ImportClearKey),
            "{role}"
        );
    }
}

#[test]
fn a_grant_holds_where_it_says_for_whom_it_says() {
    let policy = granted(
        "signer",
        &["spiffe://example.org/payments/*", "unix:uid=1000"],
        vec![
            Place::KeyRing(id("payments")),
            Place::Key(name("keyRings/other/keys/one")),
        ],
    );
    let none = BTreeMap::new();
    let sign = |who: &str, key: &str| {
        let key = name(key);
        ask_about(
            &policy,
            &peer(who),
            Action::Sign,
            Resource::Key(facts(&key, &none)),
            Circumstances::NONE,
        )
    };
    for who in [TELLER, "unix:uid=1000"] {
        assert_eq!(sign(who, "keyRings/payments/keys/release"), by("the signer"), "{who}");
        assert_eq!(sign(who, "keyRings/other/keys/one"), by("the signer"), "{who}");
        assert_eq!(sign(who, "keyRings/other/keys/two"), Decision::Deny(None), "{who}");
        assert_eq!(
            sign(who, "keyRings/payments2/keys/release"),
            Decision::Deny(None),
            "{who}"
        );
    }
    for who in [
        "spiffe://example.org/payments",
        "spiffe://example.org/paymentsx/teller",
        "spiffe://example.org/PAYMENTS/teller",
        "spiffe://example.com/payments/teller",
        "unix:uid=10000",
        "unix:uid=100",
        "x509:CN=spiffe://example.org/payments/teller",
    ] {
        assert_eq!(
            sign(who, "keyRings/payments/keys/release"),
            Decision::Deny(None),
            "{who}"
        );
        assert!(!policy.could_allow(&peer(who), Action::Sign).is_allowed(), "{who}");
    }
    let read = |ring: &str| {
        let ring = id(ring);
        ask_about(
            &policy,
            &peer(TELLER),
            Action::ReadKeyRing,
            Resource::KeyRing(&ring),
            Circumstances::NONE,
        )
    };
    assert_eq!(read("payments"), by("the signer"));
    assert_eq!(read("other"), Decision::Deny(None));
}

#[test]
fn duties_in_one_hand_are_found_where_they_meet() {
    let grant = |role: &str, principal: &str, ring: &str| Grant {
        name: format!("{role} of {principal} in {ring}"),
        role: Role::parse(role).expect("a role"),
        principals: vec![pattern(principal)],
        places: match Role::parse(role).expect("a role").needs_place() {
            true => vec![Place::parse_ring(ring).expect("a ring")],
            false => Vec::new(),
        },
    };
    let found = |grants: Vec<Grant>| {
        let policy = Policy::load(&PolicySettings {
            files: Vec::new(),
            grants,
        });
        let conflicts = review::conflicts(&policy.unwrap_or_else(|error| panic!("{error}")));
        conflicts
            .iter()
            .map(|one| (one.principals.to_string(), one.duties))
            .collect::<Vec<_>>()
    };
    let a = || "spiffe://example.org/a".to_owned();
    let both = (Duty::Administer, Duty::Use);
    assert_eq!(
        found(vec![grant("key-admin", &a(), "x"), grant("signer", &a(), "x")]),
        [(a(), both)]
    );
    assert_eq!(
        found(vec![grant("key-admin", &a(), "x"), grant("signer", &a(), "*")]),
        [(a(), both)]
    );
    assert_eq!(
        found(vec![grant("key-admin", &a(), "x"), grant("signer", &a(), "y")]),
        []
    );
    // Who is in a pattern has what the pattern has.
    assert_eq!(
        found(vec![
            grant("key-admin", &a(), "x"),
            grant("signer", "spiffe://example.org/*", "x")
        ]),
        [(a(), both)]
    );
    assert_eq!(
        found(vec![
            grant("key-admin", &a(), "x"),
            grant("signer", "spiffe://example.org/b", "x")
        ]),
        []
    );
    assert_eq!(
        found(vec![
            grant("activation-requester", &a(), ""),
            grant("activation-approver", "*", "")
        ]),
        [(a(), (Duty::RequestActivation, Duty::ApproveActivation))]
    );
    // What two wide patterns do together is said once.
    assert_eq!(
        found(vec![
            grant("key-admin", "*", "x"),
            grant("signer", "*", "x"),
            grant("reader", &a(), "x")
        ]),
        [("*".to_owned(), both)]
    );
}

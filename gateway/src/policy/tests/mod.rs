//! Policies as an operator writes them, and what they decide.

mod conditions;
mod loading;
mod roles;

use super::*;
use crate::{
    identity::{AuthenticationMethod, Peer, Principal, PrincipalPattern},
    keys::{
        name::{Id, KeyName},
        purpose::Purpose,
        record::Protection,
    },
};
use portcullis_hsm::algorithm::{KeyType, Mechanism};
use std::{collections::BTreeMap, fs};
use time::{Duration, OffsetDateTime};

/// A policy from one file in Cedar.
fn cedar(text: &str) -> Policy {
    try_cedar(text).unwrap_or_else(|error| panic!("{error}"))
}

fn try_cedar(text: &str) -> Result<Policy, PolicyError> {
    let directory = tempfile::tempdir().expect("a directory");
    Policy::load(&file_in(directory.path(), text))
}

fn file_in(directory: &std::path::Path, text: &str) -> PolicySettings {
    let file = directory.join("policy.cedar");
    fs::write(&file, text).expect("a file");
    PolicySettings {
        files: vec![file],
        grants: Vec::new(),
    }
}

fn granted(role: &str, principals: &[&str], places: Vec<Place>) -> Policy {
    let grant = Grant {
        name: format!("the {role}"),
        role: Role::parse(role).expect("a role"),
        principals: principals.iter().map(|one| pattern(one)).collect(),
        places,
    };
    let settings = PolicySettings {
        files: Vec::new(),
        grants: vec![grant],
    };
    Policy::load(&settings).unwrap_or_else(|error| panic!("{error}"))
}

fn pattern(text: &str) -> PrincipalPattern {
    PrincipalPattern::parse(text).expect("a pattern")
}

fn peer(name: &str) -> Peer {
    peer_at(name, "192.0.2.7:4711")
}

fn peer_at(name: &str, address: &str) -> Peer {
    let principal = Principal::named(&pattern(name)).expect("one principal");
    if name.starts_with("unix:") {
        Peer::new(principal, AuthenticationMethod::UnixPeer, "unix:pid=1".to_owned())
    } else {
        Peer::new(principal, AuthenticationMethod::ClientCertificate, address.to_owned())
    }
}

fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

fn name(text: &str) -> KeyName {
    KeyName::parse(text).expect("a name")
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn facts<'a>(name: &'a KeyName, labels: &'a BTreeMap<String, String>) -> KeyFacts<'a> {
    KeyFacts {
        name,
        labels,
        purpose: Purpose::SignVerify,
        key_type: KeyType::EcP256,
        protection: Protection::Wrapped,
        exportable: false,
    }
}

/// Sunday noon.
fn noon() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_348_800).expect("a time")
}

/// Asks about a key of ring `payments`.
fn ask(policy: &Policy, who: &Peer, action: Action, circumstances: Circumstances<'_>) -> Decision {
    let (name, none) = (name("keyRings/payments/keys/release"), BTreeMap::new());
    ask_about(policy, who, action, Resource::Key(facts(&name, &none)), circumstances)
}

fn ask_about(
    policy: &Policy,
    who: &Peer,
    action: Action,
    resource: Resource<'_>,
    circumstances: Circumstances<'_>,
) -> Decision {
    let question = Question {
        peer: who,
        action,
        resource,
        circumstances,
    };
    let decision = policy.decide(question, noon());
    assert_eq!(
        policy.decide(question, noon()),
        decision,
        "the second answer is another one"
    );
    if decision.is_allowed() {
        assert!(
            policy.could_allow(who, action).is_allowed(),
            "what is allowed was said to be impossible"
        );
    }
    decision
}

fn by(rule: &str) -> Decision {
    Decision::Allow(rule.into())
}

fn forbidden_by(rule: &str) -> Decision {
    Decision::Deny(Some(rule.into()))
}

const TELLER: &str = "spiffe://example.org/payments/teller";

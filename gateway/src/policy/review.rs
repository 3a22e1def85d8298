//! Who holds duties that should be apart.

use super::{Duty, Policy, rule::Rule};
use crate::identity::PrincipalPattern;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Two duties in one hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Whose.
    pub principals: PrincipalPattern,
    /// The duties.
    pub duties: (Duty, Duty),
    /// Why they should be apart.
    pub reason: &'static str,
    /// The policies that give the first, and those that give the second.
    pub rules: (BTreeSet<String>, BTreeSet<String>),
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |rules: &BTreeSet<String>| {
            rules
                .iter()
                .map(|rule| format!("\"{rule}\""))
                .collect::<Vec<_>>()
                .join(", ")
        };
        write!(
            formatter,
            "{} holds the duties {} (by {}) and {} (by {}) in one place: {}",
            self.principals,
            self.duties.0,
            list(&self.rules.0),
            self.duties.1,
            list(&self.rules.1),
            self.reason
        )
    }
}

/// The duties that should be apart and are not, for each name or pattern that a policy names. Conditions and prohibitions are
/// not looked at: what a condition keeps apart today, another time or label brings together.
pub fn conflicts(policy: &Policy) -> Vec<Conflict> {
    let rules = policy.rules();
    let permits: Vec<&Rule> = rules.iter().map(AsRef::as_ref).filter(|rule| rule.permits()).collect();
    let named: BTreeSet<&PrincipalPattern> = permits.iter().filter_map(|rule| rule.principals.as_ref()).collect();
    let mut found = Vec::new();
    for principals in named {
        let covers = |rule: &&Rule| rule.principals.as_ref().is_some_and(|other| other.covers(principals));
        let held: Vec<&Rule> = permits.iter().copied().filter(covers).collect();
        let mut pairs: BTreeMap<usize, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for (index, (one, other, _)) in APART.iter().enumerate() {
            for first in held.iter().filter(|rule| has(rule, *one)) {
                for second in held
                    .iter()
                    .filter(|rule| has(rule, *other) && rule.reach.meets(&first.reach))
                {
                    // What wider patterns do together is said of them.
                    let own = |rule: &Rule| rule.principals.as_ref() == Some(principals);
                    if own(first) || own(second) {
                        let pair = pairs.entry(index).or_default();
                        pair.0.insert(first.name.to_string());
                        pair.1.insert(second.name.to_string());
                    }
                }
            }
        }
        found.extend(pairs.into_iter().map(|(index, rules)| Conflict {
            principals: principals.clone(),
            duties: (APART[index].0, APART[index].1),
            reason: APART[index].2,
            rules,
        }));
    }
    found
}

fn has(rule: &Rule, duty: Duty) -> bool {
    rule.actions.iter().any(|action| action.duty() == duty)
}

/// The duties that no one hand should hold, and why.
const APART: [(Duty, Duty, &str); 18] = [
    (
        Duty::Administer,
        Duty::Use,
        "who makes and changes keys should not use them",
    ),
    (
        Duty::Administer,
        Duty::BreakGlass,
        "who marks keys as compromised should not use such keys",
    ),
    (
        Duty::Administer,
        Duty::Destroy,
        "who makes keys should not destroy them",
    ),
    (
        Duty::Administer,
        Duty::Export,
        "who can make exportable keys should not export them",
    ),
    (
        Duty::Import,
        Duty::Use,
        "who brings a key in may know it, and should not use it",
    ),
    (
        Duty::Import,
        Duty::Administer,
        "who makes keys should not choose what they are",
    ),
    (Duty::Use, Duty::Destroy, "who uses keys should not destroy them"),
    (Duty::Operate, Duty::Use, "who runs the HSMs should not use keys"),
    (
        Duty::Operate,
        Duty::Administer,
        "who runs the HSMs should not make or change keys",
    ),
    (
        Duty::RequestActivation,
        Duty::ApproveActivation,
        "who asks for an activation should not approve it",
    ),
    (
        Duty::Audit,
        Duty::Administer,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::Use,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::Destroy,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::Import,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::Export,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::Operate,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::RequestActivation,
        "who reads the audit log should not be who is in it",
    ),
    (
        Duty::Audit,
        Duty::ApproveActivation,
        "who reads the audit log should not be who is in it",
    ),
];

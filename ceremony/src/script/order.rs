//! The order of a script's steps.

use super::{Action, CUSTODIANS, Deed, Kind, Step};
use crate::problem::Findings;
use std::collections::BTreeSet;

/// What stands where, for the whole script.
pub(super) fn order(findings: &mut Findings, kind: Kind, steps: &[&Step]) {
    let mut seen = BTreeSet::new();
    for step in steps {
        if !seen.insert(&step.id) {
            findings.add(format!("step.{}", step.id), "the id is there twice");
        }
    }
    if steps.first().is_none_or(|step| step.action != Action::RollCall) {
        findings.add(
            "step",
            "the first step is no roll-call: nobody would be known to be there",
        );
    }
    if steps.last().is_none_or(|step| step.action != Action::Close) {
        findings.add("step", "the last step is no close");
    }
    for once in [Action::RollCall, Action::Close] {
        if steps.iter().filter(|step| step.action == once).count() > 1 {
            findings.add("step", format!("{} is there more than once", once.name()));
        }
    }
    for (place, step) in steps.iter().enumerate() {
        let agreed = |before: &&Step| before.sign_off.iter().any(|seat| seat.as_str() == CUSTODIANS);
        let destroys = step.action.deed().is_some_and(Deed::destroys);
        if destroys && !steps[..place].iter().any(agreed) {
            findings.add(
                format!("step.{}", step.id),
                "nothing before it is signed off by the custodians: they agree before anything is destroyed",
            );
        }
    }
    let mut names = steps.iter().map(|step| step.action.name());
    let required = kind.required();
    if let Some(missing) = required.iter().find(|required| !names.any(|name| name == **required)) {
        findings.add(
            "step",
            format!(
                "a ceremony of kind {kind} has the steps {}, in this order: {missing} is missing or too early",
                required.join(", ")
            ),
        );
    }
}

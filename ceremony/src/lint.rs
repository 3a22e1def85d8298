//! Whether a script can be held by the people of an environment: every seat filled, the quorum reachable, and nobody able
//! to meet it alone.

use crate::{
    environment::{Class, Environment, Person},
    name::Name,
    problem::{Findings, Problems},
    script::{Need, RoleKind, Script},
};

/// Holds a script and an environment against each other.
pub fn lint(script: &Script, environment: &Environment) -> Result<(), Problems> {
    let mut findings = Findings::default();
    for role in &script.roles {
        let holders = environment.holders_of(&role.id).count();
        if holders != usize::from(role.count) {
            findings.add(
                format!("role.{}", role.id),
                format!("{holders} people have this seat, expected {}", role.count),
            );
        }
    }
    if let Some(quorum) = &script.quorum {
        for seat in quorum.of.iter().chain(&quorum.alternates) {
            let holders = environment.holders_of(seat).count();
            if holders != 1 {
                findings.add(
                    "quorum.custodians",
                    format!("{holders} people have the seat {seat}, expected one"),
                );
            }
        }
    }
    for step in &script.steps {
        for token in step.action.tokens() {
            if environment.token(token).is_none() {
                findings.add(
                    format!("step.{}.on", step.id),
                    format!("the environment has no token {token}"),
                );
            }
        }
    }
    for person in &environment.people {
        of_person(&mut findings, script, person);
    }
    if script.steps.iter().any(|step| step.action.needs_recipients()) {
        recipients(&mut findings, script, environment);
    }
    if environment.class == Class::Production
        && script.policy.rehearsal == Need::Required
        && environment.rehearsal.is_none()
    {
        findings.add("rehearsal", "the script needs a rehearsal: name its bundle");
    }
    findings.finish(|| Some(()))
}

/// What is meant for a custodian alone must be encrypted to somebody.
fn recipients(findings: &mut Findings, script: &Script, environment: &Environment) {
    for person in &environment.people {
        if person.is_custodian(script) && person.receives.is_none() {
            findings.add(
                format!("person \"{}\".receives", person.name),
                "is missing: custodians get shares, or stand in the record with the recipient of theirs",
            );
        }
    }
}

fn of_person(findings: &mut Findings, script: &Script, person: &Person) {
    let place = format!("person \"{}\"", person.name);
    for seat in &person.seats {
        if script.role(seat).is_none() && !script.is_custodian(seat) {
            findings.add(&place, format!("the script has no seat {seat}"));
        }
    }
    let custodians: Vec<&Name> = person.seats.iter().filter(|seat| script.is_custodian(seat)).collect();
    if custodians.len() > 1 {
        findings.add(
            &place,
            "has the seats of several custodians: one person would count as many",
        );
    }
    if let (Some(quorum), false) = (&script.quorum, custodians.is_empty()) {
        for excluded in quorum.exclude_roles.iter().filter(|role| person.seats.contains(role)) {
            findings.add(
                &place,
                format!("is a custodian and {excluded}: the script keeps the two apart"),
            );
        }
    }
    let is_witness = person
        .seats
        .iter()
        .filter_map(|seat| script.role(seat))
        .any(|role| matches!(role.kind, RoleKind::Witness | RoleKind::Auditor));
    if is_witness && person.seats.len() > 1 {
        findings.add(
            &place,
            "watches and has another seat: whoever watches does nothing else",
        );
    }
}

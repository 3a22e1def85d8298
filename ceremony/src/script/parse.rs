//! Reads a script, and says everything that is wrong with it at once.

use super::{
    Action, CUSTODIANS, FileHash, Kind, Need, OnFail, Permission, Policy, Quorum, Role, RoleKind, Script, Step, Window,
    looks_secret, order::order,
};
use crate::{
    name::Name,
    problem::{Findings, Problems},
};
use serde::Deserialize;
use std::collections::BTreeSet;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(super) fn parse(text: &str) -> Result<Script, Problems> {
    let raw: Raw = toml::from_str(text).map_err(|error| Problems::one("file", error.to_string().trim_end()))?;
    let mut findings = Findings::default();
    if raw.format != FORMAT {
        findings.add(
            "format",
            format!("\"{}\", expected \"{FORMAT}\"", raw.format.escape_default()),
        );
    }
    line(&mut findings, "title", &raw.title, 120);
    line(&mut findings, "purpose", &raw.purpose, 600);
    let window = window(&mut findings, &raw);
    let roles = roles(&mut findings, &raw.role);
    let quorum = raw
        .quorum
        .map(|quorums| quorum(&mut findings, quorums.custodians, &roles));
    let seats = Seats {
        roles: &roles,
        quorum: quorum.as_ref(),
    };
    let steps: Vec<Option<Step>> = raw
        .step
        .into_iter()
        .map(|step| seats.step(&mut findings, step, raw.kind))
        .collect();
    if let Some(steps) = steps.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() {
        order(&mut findings, raw.kind, &steps);
    }
    findings.finish(|| {
        Some(Script {
            kind: raw.kind,
            title: raw.title,
            purpose: raw.purpose,
            policy: Policy {
                software_tokens: match raw.policy.software_tokens {
                    RawPermission::Allowed => Permission::Allowed,
                    RawPermission::Refused => Permission::Refused,
                },
                rehearsal: match raw.policy.rehearsal {
                    RawNeed::Required => Need::Required,
                    RawNeed::Optional => Need::Optional,
                },
            },
            window: window?,
            quorum,
            roles,
            steps: steps.into_iter().collect::<Option<_>>()?,
            hash: FileHash::of(text.as_bytes()),
        })
    })
}

fn window(findings: &mut Findings, raw: &Raw) -> Option<Window> {
    let from = moment(findings, "valid_from", &raw.valid_from);
    let until = moment(findings, "valid_until", &raw.valid_until);
    let window = Window {
        from: from?,
        until: until?,
    };
    if window.until <= window.from {
        findings.add(
            "valid_until",
            "it is not after valid_from: the script could never be run",
        );
    }
    Some(window)
}

fn moment(findings: &mut Findings, place: &str, value: &toml::value::Datetime) -> Option<OffsetDateTime> {
    let parsed = OffsetDateTime::parse(&value.to_string(), &Rfc3339)
        .map_err(|_| "expected a date, a time and an offset, such as 2026-12-01T08:00:00Z");
    findings.take(place, parsed)
}

/// A text on one line that people read.
fn line(findings: &mut Findings, place: &str, text: &str, longest: usize) {
    if text.trim().is_empty() {
        findings.add(place, "it is empty");
    }
    if text.chars().count() > longest {
        findings.add(place, format!("it has more than {longest} characters"));
    }
    if text.chars().any(char::is_control) {
        findings.add(place, "it has line ends or other control characters; expected one line");
    }
    if let Some(what) = looks_secret(text) {
        findings.add(
            place,
            format!("it looks like {what}: secrets are typed during the ceremony, never written in a script"),
        );
    }
}

fn roles(findings: &mut Findings, raw: &[RawRole]) -> Vec<Role> {
    let mut seen = BTreeSet::new();
    for role in raw {
        let place = format!("role.{}", role.id);
        if role.id.as_str() == CUSTODIANS {
            findings.add(&place, "the name stands for the quorum: give the role another one");
        }
        if !seen.insert(&role.id) {
            findings.add(&place, "the name is there twice");
        }
        if !(1..=9).contains(&role.count) {
            findings.add(format!("{place}.count"), format!("{}, expected 1 to 9", role.count));
        }
    }
    for (kind, why) in [
        (RoleKind::Administrator, "nobody would lead through the script"),
        (RoleKind::Witness, "nobody would watch who holds no key material"),
    ] {
        if !raw.iter().any(|role| role.kind == kind) {
            findings.add("role", format!("there is no {kind}: {why}"));
        }
    }
    raw.iter()
        .map(|role| Role {
            id: role.id.clone(),
            kind: role.kind,
            count: role.count,
        })
        .collect()
}

fn quorum(findings: &mut Findings, raw: RawQuorum, roles: &[Role]) -> Quorum {
    let mut seen = BTreeSet::new();
    for seat in raw.of.iter().chain(&raw.alternates) {
        if !seen.insert(seat) {
            findings.add("quorum.custodians", format!("{seat} is there twice"));
        }
        if seat.as_str() == CUSTODIANS || roles.iter().any(|role| role.id == *seat) {
            findings.add(
                "quorum.custodians",
                format!("{seat} is the name of a role, or of all custodians"),
            );
        }
    }
    for excluded in &raw.exclude_roles {
        if !roles.iter().any(|role| role.id == *excluded) {
            findings.add(
                "quorum.custodians.exclude_roles",
                format!("there is no role {excluded}"),
            );
        }
    }
    let count = raw.of.len();
    if usize::from(raw.need) > count {
        findings.add(
            "quorum.custodians.need",
            format!("{} of {count} can never be met", raw.need),
        );
    }
    if raw.need < 2 {
        findings.add(
            "quorum.custodians.need",
            format!("{}: one custodian alone would meet it; expected 2 or more", raw.need),
        );
    }
    if count > MOST_CUSTODIANS {
        findings.add(
            "quorum.custodians.of",
            format!("{count} custodians, expected at most {MOST_CUSTODIANS}"),
        );
    }
    if usize::from(raw.need) == count && !raw.all_needed {
        findings.add(
            "quorum.custodians.need",
            format!(
                "{count} of {count}: losing one custodian would lose everything; say all_needed = true if that is meant"
            ),
        );
    }
    Quorum {
        need: raw.need,
        of: raw.of,
        alternates: raw.alternates,
        exclude_roles: raw.exclude_roles,
        all_needed: raw.all_needed,
    }
}

/// The seats that steps may name.
struct Seats<'a> {
    roles: &'a [Role],
    quorum: Option<&'a Quorum>,
}

impl Seats<'_> {
    fn step(&self, findings: &mut Findings, raw: RawStep, kind: Kind) -> Option<Step> {
        let place = format!("step.{}", raw.id);
        let action = findings.take(&format!("{place}.do"), Action::parse(&raw.action, raw.on, raw.with));
        self.known(findings, &format!("{place}.by"), &raw.by);
        self.known(findings, &format!("{place}.sign_off"), &raw.sign_off);
        if let Some(note) = &raw.note {
            line(findings, &format!("{place}.note"), note, 600);
        }
        let on_fail = findings.take(&format!("{place}.on_fail"), on_fail(raw.on_fail.as_deref()));
        let action = action?;
        if let Some(text) = action.texts() {
            line(findings, &format!("{place}.with.what"), text, 600);
        }
        if !kind.permits(&action) {
            findings.add(
                format!("{place}.do"),
                format!("{} does not belong into a ceremony of kind {kind}", action.name()),
            );
        }
        self.actors(findings, &place, &action, &raw.by);
        self.guards(findings, &place, &action, &raw.by, &raw.sign_off);
        if matches!(action, Action::SignOff) && raw.sign_off.is_empty() {
            findings.add(format!("{place}.sign_off"), "nobody signs: name who does");
        }
        if matches!(action, Action::RollCall | Action::Close) && !raw.sign_off.is_empty() {
            findings.add(
                format!("{place}.sign_off"),
                format!("everyone who is present signs a {} anyway", action.name()),
            );
        }
        if !raw.by.is_empty() && !raw.sign_off.is_empty() && raw.sign_off.iter().all(|seat| raw.by.contains(seat)) {
            findings.add(
                format!("{place}.sign_off"),
                "only those who do the step sign it off: name somebody who watched",
            );
        }
        Some(Step {
            id: raw.id,
            action,
            by: raw.by,
            sign_off: raw.sign_off,
            on_fail: on_fail?,
            note: raw.note,
        })
    }

    fn known(&self, findings: &mut Findings, place: &str, seats: &[Name]) {
        let mut seen = BTreeSet::new();
        for seat in seats {
            if !seen.insert(seat) {
                findings.add(place, format!("{seat} is there twice"));
            }
            let known = match seat.as_str() {
                CUSTODIANS => self.quorum.is_some(),
                _ => {
                    self.roles.iter().any(|role| role.id == *seat)
                        || self.quorum.is_some_and(|quorum| quorum.of.contains(seat))
                }
            };
            if !known {
                findings.add(
                    place,
                    format!("nobody has the seat {seat}: no role and no custodian is named so"),
                );
            }
        }
    }

    /// What is done with a token is done by somebody with a quorum of the custodians, and somebody else signs it off.
    fn guards(&self, findings: &mut Findings, place: &str, action: &Action, by: &[Name], sign_off: &[Name]) {
        if !action.needs_custodians() {
            return;
        }
        let of_quorum = |seat: &&Name| seat.as_str() == CUSTODIANS;
        let leads = by
            .first()
            .is_some_and(|seat| self.roles.iter().any(|role| role.id == *seat));
        if !leads || by.len() != 2 || !by.iter().skip(1).any(|seat| of_quorum(&seat)) {
            findings.add(
                format!("{place}.by"),
                format!(
                    "{} is done by the holder of a role and the custodians: expected such as [\"operator\", \"{CUSTODIANS}\"]",
                    action.name()
                ),
            );
        }
        let watches = |seat: &Name| {
            self.roles
                .iter()
                .any(|role| role.id == *seat && matches!(role.kind, RoleKind::Witness | RoleKind::Auditor))
        };
        if !sign_off.iter().any(watches) {
            findings.add(
                format!("{place}.sign_off"),
                "no witness signs it off: name one, who saw what was done",
            );
        }
        if let (Action::Record { activation, .. }, Some(quorum)) = (action, self.quorum)
            && !(2..=quorum.of.len()).contains(&usize::from(*activation))
        {
            findings.add(
                format!("{place}.with.activation"),
                format!("{activation}, expected 2 to {}", quorum.of.len()),
            );
        }
    }

    fn actors(&self, findings: &mut Findings, place: &str, action: &Action, by: &[Name]) {
        let people: usize = by
            .iter()
            .map(|seat| match seat.as_str() {
                CUSTODIANS => self.quorum.map_or(0, |quorum| usize::from(quorum.need)),
                _ => 1,
            })
            .sum();
        let needed = action.actors();
        if needed == 0 && !by.is_empty() {
            findings.add(
                format!("{place}.by"),
                format!("{} is done by nobody in particular", action.name()),
            );
        }
        if people < needed {
            findings.add(
                format!("{place}.by"),
                format!("{} needs {needed} seats, {people} are named", action.name()),
            );
        }
        if needed == 2 && by.len() > 2 {
            findings.add(
                format!("{place}.by"),
                format!(
                    "{} is done by two: the first and the second that are named",
                    action.name()
                ),
            );
        }
        if needed == 2 && by.iter().any(|seat| seat.as_str() == CUSTODIANS) {
            findings.add(format!("{place}.by"), "name the two seats, not the quorum");
        }
    }
}

fn on_fail(text: Option<&str>) -> Result<OnFail, String> {
    match text {
        None | Some("exception") => Ok(OnFail::Exception),
        Some("abort") => Ok(OnFail::Abort),
        Some(other) => match other.strip_prefix("retry:").and_then(|count| count.parse().ok()) {
            Some(count @ 1..=9) => Ok(OnFail::Retry(count)),
            _ => Err(format!(
                "\"{}\", expected \"abort\", \"exception\" or \"retry:1\" to \"retry:9\"",
                other.escape_default()
            )),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: String,
    kind: Kind,
    title: String,
    purpose: String,
    valid_from: toml::value::Datetime,
    valid_until: toml::value::Datetime,
    policy: RawPolicy,
    quorum: Option<RawQuorums>,
    #[serde(default)]
    role: Vec<RawRole>,
    #[serde(default)]
    step: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    software_tokens: RawPermission,
    rehearsal: RawNeed,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawPermission {
    Allowed,
    Refused,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawNeed {
    Required,
    Optional,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuorums {
    custodians: RawQuorum,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuorum {
    need: u8,
    of: Vec<Name>,
    #[serde(default)]
    alternates: Vec<Name>,
    #[serde(default)]
    exclude_roles: Vec<Name>,
    #[serde(default)]
    all_needed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    id: Name,
    kind: RoleKind,
    count: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    id: Name,
    #[serde(rename = "do")]
    action: String,
    on: Option<Name>,
    #[serde(default)]
    by: Vec<Name>,
    #[serde(default)]
    with: toml::Table,
    #[serde(default)]
    sign_off: Vec<Name>,
    on_fail: Option<String>,
    note: Option<String>,
}

const FORMAT: &str = "ceremony/1";
const MOST_CUSTODIANS: usize = 16;

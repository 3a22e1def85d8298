//! What a report says, taken from the transcript.

use crate::{
    bundle::durations,
    environment::{Class, Environment, Person},
    name::Name,
    progress::{Outcome, Progress, Stage},
    script::{Permission, Script},
    transcript::{Decision, Entry, Event, FrontKind, Line, Opened, Statement},
};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
pub(super) struct View {
    title: String,
    purpose: String,
    /// What must be seen on every page.
    watermark: Option<String>,
    outcome: String,
    is_done: bool,
    facts: Vec<Pair>,
    /// What a reader must know before anything else.
    cautions: Vec<String>,
    script_words: Vec<String>,
    people: Vec<PersonRow>,
    steps: Vec<StepRow>,
    is_rehearsed: bool,
    exceptions: Vec<ExceptionRow>,
    incidents: Vec<Incident>,
    signatures: Vec<SignatureRow>,
    head: String,
    lines: usize,
}

#[derive(Debug, Serialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct PersonRow {
    name: String,
    seats: String,
    key: String,
    presence: &'static str,
}

#[derive(Debug, Serialize)]
struct StepRow {
    number: usize,
    id: String,
    words: String,
    note: Option<String>,
    status: &'static str,
    attempts: u32,
    at: String,
    took: String,
    rehearsed: String,
    facts: Vec<Pair>,
    artefacts: Vec<Pair>,
    failures: Vec<String>,
    signed: String,
}

#[derive(Debug, Serialize)]
struct ExceptionRow {
    number: u32,
    at: String,
    what: String,
    noticed_by: String,
    effect: String,
    decision: &'static str,
    reason: String,
    agreed: String,
}

#[derive(Debug, Serialize)]
struct Incident {
    at: String,
    what: String,
}

#[derive(Debug, Serialize)]
struct SignatureRow {
    line: u64,
    person: String,
    statement: String,
}

impl View {
    pub(super) fn new(script: &Script, environment: &Environment, lines: &[Line]) -> Result<Self, String> {
        let mut progress = Progress::new(script, environment);
        for line in lines {
            progress.apply(&line.entry)?;
        }
        let (Some(opened), Some(first)) = (progress.opened(), lines.first()) else {
            return Err("the ceremony was never opened".to_owned());
        };
        let last = lines.last().unwrap_or(first);
        let mut view = Self {
            title: script.title.clone(),
            purpose: script.purpose.clone(),
            watermark: (opened.class == Class::Rehearsal).then(|| "REHEARSAL".to_owned()),
            outcome: outcome(&progress),
            is_done: *progress.stage() == Stage::Ended(Outcome::Done),
            facts: facts(opened, &first.entry, &last.entry),
            cautions: cautions(script, opened),
            script_words: script.hash.words().lines(),
            people: environment
                .people
                .iter()
                .map(|person| person_row(person, lines))
                .collect(),
            steps: steps(script, opened, lines, &progress),
            is_rehearsed: opened.rehearsal.is_some(),
            exceptions: Vec::new(),
            incidents: Vec::new(),
            signatures: Vec::new(),
            head: last.head.to_string(),
            lines: lines.len(),
        };
        for line in lines {
            view.take(&line.entry);
        }
        Ok(view)
    }

    fn take(&mut self, entry: &Entry) {
        let at = entry.at.to_string();
        let mut incident = |what: String| self.incidents.push(Incident { at: at.clone(), what });
        match &entry.event {
            Event::Signed { person, statement, .. } => {
                if let Statement::Decided(number) = statement
                    && let Some(row) = self.exceptions.iter_mut().find(|row| row.number == *number)
                {
                    join(&mut row.agreed, person.as_str());
                }
                self.signatures.push(SignatureRow {
                    line: entry.seq,
                    person: person.to_string(),
                    statement: statement.to_string(),
                });
            }
            Event::Exception {
                number,
                what,
                noticed_by,
                effect,
            } => self.exceptions.push(ExceptionRow {
                number: *number,
                at,
                what: what.clone(),
                noticed_by: noticed_by.to_string(),
                effect: effect.clone(),
                decision: "nothing was decided",
                reason: String::new(),
                agreed: String::new(),
            }),
            Event::Decided {
                number,
                decision,
                reason,
            } => {
                if let Some(row) = self.exceptions.iter_mut().find(|row| row.number == *number) {
                    row.decision = match decision {
                        Decision::Repeat => "the step was repeated",
                        Decision::GoOn => "the ceremony went on",
                        Decision::Abort => "the ceremony was aborted",
                    };
                    row.reason.clone_from(reason);
                }
            }
            Event::Paused { why } => incident(format!("Paused: {why}")),
            Event::Resumed { .. } => incident("Taken up again by a new run of the program.".to_owned()),
            Event::Interrupted { step, attempt } => {
                incident(format!("Attempt {attempt} of step {step} was interrupted."))
            }
            Event::Used {
                step, number, digest, ..
            } => incident(format!(
                "Use {number} of the root key in step {step}: it signs the digest {digest}."
            )),
            Event::Postponed { why } => incident(format!("Postponed: {why}")),
            Event::Aborted {
                why, residue, swept, ..
            } => {
                incident(format!("Aborted: {why}"));
                for step in swept {
                    incident(format!(
                        "What step {step} made was destroyed, and looked for again: it is gone."
                    ));
                }
                for what in residue {
                    incident(format!("This may remain: {what}"));
                }
            }
            _ => {}
        }
    }
}

fn outcome(progress: &Progress<'_>) -> String {
    match progress.stage() {
        Stage::Ended(Outcome::Done) => "Done: every step of the script.".to_owned(),
        Stage::Ended(Outcome::AbortedClean) => "ABORTED. Nothing remains of it.".to_owned(),
        Stage::Ended(Outcome::AbortedWithResidue) => "ABORTED. Something may remain of it: see below.".to_owned(),
        Stage::Ended(Outcome::Postponed) => "POSTPONED. Nothing was changed.".to_owned(),
        _ => format!("Not over: {}.", progress.expected()),
    }
}

fn facts(opened: &Opened, first: &Entry, last: &Entry) -> Vec<Pair> {
    let mut facts = vec![
        pair("Ceremony", opened.ceremony),
        pair("Kind", opened.kind),
        pair("Class", opened.class),
        pair("Began", first.at),
        pair("Ended", last.at),
        pair("Script, SHA-256", opened.script),
        pair("Environment, SHA-256", opened.environment),
        pair("Program, SHA-256", opened.tool),
        pair("Program, version", &opened.version),
    ];
    if let Some(rehearsal) = &opened.rehearsal {
        facts.push(pair("Rehearsed in", rehearsal.ceremony));
        facts.push(pair("Head of the rehearsal", rehearsal.head));
    }
    facts
}

fn cautions(script: &Script, opened: &Opened) -> Vec<String> {
    let mut cautions = Vec::new();
    if opened.class == Class::Rehearsal {
        cautions.push("This was a rehearsal: nothing of it counts.".to_owned());
    }
    if script.policy.software_tokens == Permission::Allowed {
        cautions.push("The script permits tokens that are software also in production.".to_owned());
    }
    if opened.class == Class::Production && opened.rehearsal.is_none() {
        cautions.push("No rehearsal of this script is named.".to_owned());
    }
    if opened.front == FrontKind::Descriptor {
        cautions.push("The answers came from a program, not from people at a terminal.".to_owned());
    }
    cautions
}

fn person_row(person: &Person, lines: &[Line]) -> PersonRow {
    let last = lines.iter().rev().find_map(|line| match &line.entry.event {
        Event::Present { person: name } if *name == person.name => Some("present"),
        Event::Absent { person: name } if *name == person.name => Some("absent"),
        _ => None,
    });
    PersonRow {
        name: person.name.to_string(),
        seats: person.seats_in_words(),
        key: person.key.id().to_string(),
        presence: last.unwrap_or("not asked"),
    }
}

fn steps(script: &Script, opened: &Opened, lines: &[Line], progress: &Progress<'_>) -> Vec<StepRow> {
    let durations = durations(lines);
    let mut rows: Vec<StepRow> = (1..)
        .zip(&script.steps)
        .map(|(number, step)| StepRow {
            number,
            id: step.id.to_string(),
            words: step.in_words(),
            note: step.note.clone(),
            status: "not reached",
            attempts: progress.attempts(&step.id),
            at: String::new(),
            took: seconds(&durations, &step.id),
            rehearsed: opened
                .rehearsal
                .as_ref()
                .map(|rehearsal| seconds(&rehearsal.durations, &step.id))
                .unwrap_or_default(),
            facts: Vec::new(),
            artefacts: Vec::new(),
            failures: Vec::new(),
            signed: String::new(),
        })
        .collect();
    let place = |id: &Name| script.steps.iter().position(|step| step.id == *id);
    for Line { entry, .. } in lines {
        let row = match &entry.event {
            Event::Intent { step, .. }
            | Event::Result { step, .. }
            | Event::Failed { step, .. }
            | Event::Signed {
                statement: Statement::SignOff(step),
                ..
            } => place(step).and_then(|place| rows.get_mut(place)),
            Event::Signed {
                statement: Statement::Present,
                ..
            } => rows.first_mut(),
            Event::Closed {} => rows.last_mut(),
            _ => None,
        };
        if let Some(row) = row {
            row.take(entry);
        }
    }
    rows
}

impl StepRow {
    fn take(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Intent { .. } => {
                self.status = "not finished";
                self.at = entry.at.to_string();
            }
            Event::Result { facts, artefacts, .. } => {
                self.status = "done";
                self.signed.clear();
                self.facts = facts.iter().map(|(name, value)| pair(name, value)).collect();
                self.artefacts = artefacts.iter().map(|(name, hash)| pair(name, hash)).collect();
            }
            Event::Failed { what, .. } => {
                self.status = "failed";
                self.failures.push(what.clone());
            }
            Event::Signed { person, .. } => join(&mut self.signed, person.as_str()),
            Event::Closed {} => {
                self.status = "done";
                self.at = entry.at.to_string();
            }
            _ => {}
        }
    }
}

fn seconds(durations: &BTreeMap<Name, u64>, step: &Name) -> String {
    durations
        .get(step)
        .map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
        .unwrap_or_default()
}

fn join(list: &mut String, name: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(name);
}

fn pair(name: &str, value: impl std::fmt::Display) -> Pair {
    Pair {
        name: name.to_owned(),
        value: value.to_string(),
    }
}

//! Where a ceremony stands: what its transcript adds up to, and nothing else.
//!
//! Every entry goes through [`Progress::apply`]: before it is written, when a ceremony is taken up again, and when its bundle is
//! verified. What one of them would refuse, no other accepts.

mod deeds;
mod exceptions;
mod host;
mod seats;

use crate::{
    environment::Environment,
    name::Name,
    script::{Action, Need, OnFail, Script, Spoken, Step},
    transcript::{Decision, Entry, Event, Head, Opened, Signing, Statement, signed_bytes},
};
use base64::{Engine, engine::general_purpose::STANDARD};
pub(crate) use deeds::{ALLOWED, EPOCH, FINGERPRINT, NOTHING, PROVED, USES, deed_of};
use portcullis_provisioning::{Moment, custodian::CustodianName};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A ceremony as far as it went.
#[derive(Debug, Clone)]
pub struct Progress<'a> {
    script: &'a Script,
    environment: &'a Environment,
    opened: Option<Opened>,
    stage: Stage,
    /// Who was asked at the roll call, and whether they are here.
    people: BTreeMap<CustodianName, bool>,
    attempts: BTreeMap<Name, u32>,
    exceptions: Vec<Option<Decision>>,
    /// The exception that was recorded about the step that failed last.
    about_failure: Option<u32>,
    /// The fingerprints of the domains, by their epochs.
    domains: BTreeMap<u32, String>,
    /// How often root keys were used, by step.
    uses: BTreeMap<Name, u32>,
    paused: bool,
    last: Option<Moment>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The first entry.
    Unopened,
    /// The step of this place, from 0.
    Ready(usize),
    /// The result of the step of this place.
    Begun(usize),
    /// The step of this place failed: it is tried again, or people decide.
    Failed(usize),
    /// Signatures.
    Signing {
        /// What is signed.
        statement: Statement,
        /// Who has not signed yet.
        missing: Vec<CustodianName>,
        /// What comes then.
        then: Box<Self>,
    },
    /// Nothing but an abort.
    MustAbort,
    /// Nothing: it is over.
    Ended(Outcome),
}

/// How a ceremony ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Every step was done.
    Done,
    /// It was aborted, and nothing remains of it.
    AbortedClean,
    /// It was aborted, and something may remain.
    AbortedWithResidue,
    /// It is held at another time.
    Postponed,
}

impl<'a> Progress<'a> {
    /// Before the first entry.
    pub fn new(script: &'a Script, environment: &'a Environment) -> Self {
        Self {
            script,
            environment,
            opened: None,
            stage: Stage::Unopened,
            people: BTreeMap::new(),
            attempts: BTreeMap::new(),
            exceptions: Vec::new(),
            about_failure: None,
            domains: BTreeMap::new(),
            uses: BTreeMap::new(),
            paused: false,
            last: None,
        }
    }

    /// What comes next.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// How it began.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// Exceptions about which nothing was decided, by their numbers.
    pub fn undecided(&self) -> Vec<u32> {
        (1..)
            .zip(&self.exceptions)
            .filter(|(_, decision)| decision.is_none())
            .map(|(number, _)| number)
            .collect()
    }

    /// The exception by which people decide about the step that failed, if it was recorded.
    pub fn about_failure(&self) -> Option<u32> {
        self.about_failure
    }

    /// How many exceptions there were.
    pub fn exceptions(&self) -> u32 {
        u32::try_from(self.exceptions.len()).unwrap_or(u32::MAX)
    }

    /// How often a step was begun.
    pub fn attempts(&self, step: &Name) -> u32 {
        self.attempts.get(step).copied().unwrap_or(0)
    }

    /// Whether it may be tried again without anybody's decision.
    pub fn may_retry(&self, step: &Step) -> bool {
        matches!(step.on_fail, OnFail::Retry(count) if self.attempts(&step.id) <= u32::from(count))
    }

    /// Takes an entry, if it may stand where it stands. Says why not in words.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        if self.last.is_some_and(|last| entry.at < last) {
            return Err("the host's clock went back".to_owned());
        }
        self.take(entry)?;
        self.last = Some(entry.at);
        Ok(())
    }

    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        if let Event::Opened(opened) = &entry.event {
            return self.open(opened, entry.at);
        }
        if self.opened.is_none() {
            return Err("the ceremony was never opened".to_owned());
        }
        if matches!(self.stage, Stage::Ended(_)) {
            return Err("the ceremony is over".to_owned());
        }
        match &entry.event {
            Event::Opened(_) => return Err("the ceremony was opened before".to_owned()),
            Event::Resumed { .. } => {
                self.paused = false;
                return Ok(());
            }
            _ if self.paused => return Err("the ceremony is paused: it must be taken up again first".to_owned()),
            Event::Intent { step, attempt, by } => {
                // What was done can be signed, and a ceremony be ended, also when its time is over.
                self.within_window(entry.at)?;
                self.begin(step, *attempt, by)?;
            }
            Event::Used {
                step, attempt, number, ..
            } => self.use_root_key(step, *attempt, *number)?,
            Event::Present { person } => self.answer_roll_call(person, true)?,
            Event::Absent { person } => self.answer_roll_call(person, false)?,
            Event::Result {
                step, attempt, facts, ..
            } => {
                let place = self.begun(step, *attempt)?;
                self.check_result(place, facts)?;
                self.note_result(place, facts);
                self.stage = self.after(place);
            }
            Event::Failed { step, attempt, .. } => {
                let place = self.begun(step, *attempt)?;
                self.about_failure = None;
                self.stage = match self.script.steps[place].on_fail {
                    OnFail::Abort => Stage::MustAbort,
                    OnFail::Retry(_) | OnFail::Exception => Stage::Failed(place),
                };
            }
            Event::Interrupted { step, attempt } => self.stage = Stage::Ready(self.begun(step, *attempt)?),
            Event::Signed {
                person,
                statement,
                signature,
            } => self.sign(entry.seq, entry.prev, person, statement, signature)?,
            Event::Exception { number, noticed_by, .. } => self.except(*number, noticed_by)?,
            Event::Decided { number, decision, .. } => self.decide(*number, *decision)?,
            Event::Paused { .. } => {
                self.between_steps("pause")?;
                self.paused = true;
            }
            Event::Postponed { .. } => {
                self.between_steps("postpone")?;
                if self.has_touched_a_token() {
                    return Err(
                        "something was done with a token: it cannot be postponed any more, but aborted".to_owned(),
                    );
                }
                self.stage = self.ending(Outcome::Postponed);
            }
            Event::Aborted { residue, swept, .. } => {
                self.check_abort(residue, swept)?;
                self.stage = self.ending(match residue.as_slice() {
                    [] => Outcome::AbortedClean,
                    _ => Outcome::AbortedWithResidue,
                });
            }
            Event::Closed {} => self.close()?,
        }
        Ok(())
    }

    fn open(&mut self, opened: &Opened, at: Moment) -> Result<(), String> {
        if self.opened.is_some() {
            return Err("the ceremony was opened before".to_owned());
        }
        if opened.script != self.script.hash {
            return Err(format!("it was held by the script {}, not by this one", opened.script));
        }
        if opened.environment != self.environment.hash {
            return Err(format!(
                "it was held in the environment {}, not in this one",
                opened.environment
            ));
        }
        if opened.kind != self.script.kind || opened.class != self.environment.class {
            return Err("its kind or class is not that of the script and the environment".to_owned());
        }
        let same_people = opened.participants.len() == self.environment.people.len()
            && opened
                .participants
                .iter()
                .zip(&self.environment.people)
                .all(|(one, other)| one.name == other.name && one.seats == other.seats && one.key == other.key);
        if !same_people {
            return Err("its participants are not the people of the environment".to_owned());
        }
        if opened.class == crate::environment::Class::Production
            && self.script.policy.rehearsal == Need::Required
            && opened.rehearsal.is_none()
        {
            return Err("the script needs a rehearsal, and none is named".to_owned());
        }
        self.within_window(at)?;
        self.opened = Some(opened.clone());
        self.stage = Stage::Ready(0);
        Ok(())
    }

    fn within_window(&self, at: Moment) -> Result<(), String> {
        let at_time = OffsetDateTime::from_unix_timestamp(at.unix()).map_err(|error| error.to_string())?;
        if self.script.window.contains(at_time) {
            return Ok(());
        }
        Err(format!("{at} is outside of the window in which the script may be held"))
    }

    fn begin(&mut self, id: &Name, attempt: u32, by: &[CustodianName]) -> Result<(), String> {
        let place = match self.stage {
            Stage::Ready(place) => place,
            Stage::Failed(place) if self.may_retry(&self.script.steps[place]) => place,
            Stage::Failed(_) => return Err(format!("step {id} failed: people must decide first")),
            _ => return Err(format!("step {id} cannot begin here: {}", self.expected())),
        };
        let step = &self.script.steps[place];
        if step.id != *id {
            return Err(format!("step {id} cannot begin here: {}", self.expected()));
        }
        if step.action == Action::Close {
            return Err("the last step has no beginning: the ceremony is closed".to_owned());
        }
        if attempt != self.attempts(id) + 1 {
            return Err(format!(
                "attempt {attempt} of step {id}, expected {}",
                self.attempts(id) + 1
            ));
        }
        if by != self.people_of(&step.by) {
            return Err(format!(
                "step {id} is not done by those who have its seats and are here"
            ));
        }
        if step.action == Action::RollCall {
            self.people.clear();
        }
        self.attempts.insert(id.clone(), attempt);
        self.stage = Stage::Begun(place);
        Ok(())
    }

    fn begun(&self, id: &Name, attempt: u32) -> Result<usize, String> {
        match self.stage {
            Stage::Begun(place) if self.script.steps[place].id == *id && self.attempts(id) == attempt => Ok(place),
            _ => Err(format!(
                "attempt {attempt} of step {id} was not begun: {}",
                self.expected()
            )),
        }
    }

    fn answer_roll_call(&mut self, person: &CustodianName, here: bool) -> Result<(), String> {
        let calling = matches!(self.stage, Stage::Begun(place) if self.script.steps[place].action == Action::RollCall);
        if !calling {
            return Err("there is no roll call".to_owned());
        }
        if self.environment.person(person).is_none() {
            return Err(format!("nobody is called {person}"));
        }
        match self.people.insert(person.clone(), here) {
            None => Ok(()),
            Some(_) => Err(format!("{person} was asked before")),
        }
    }

    /// What anyone can check of a result.
    fn check_result(&self, place: usize, facts: &BTreeMap<String, String>) -> Result<(), String> {
        match &self.script.steps[place].action {
            Action::RollCall => self.roll_call_suffices(),
            Action::ReadAloud { what } => {
                let expected = match what {
                    Spoken::Script => self.script.hash,
                    Spoken::Environment => self.environment.hash,
                };
                if facts.get("hash") == Some(&expected.to_string()) {
                    Ok(())
                } else {
                    Err(format!("what was read aloud is not {what}"))
                }
            }
            Action::AttestHost { offline } => self.host_suffices(*offline, facts),
            Action::AttestHsm { on } => self.check_software(on, facts),
            Action::Token { on, deed } => {
                self.check_uses(&self.script.steps[place], facts)?;
                self.check_deed(on, deed, facts)
            }
            Action::Record { .. } => self.check_record(facts),
            _ => Ok(()),
        }
    }

    fn after(&self, place: usize) -> Stage {
        let step = &self.script.steps[place];
        let next = Stage::Ready(place + 1);
        match step.action {
            Action::RollCall => signing(Statement::Present, self.present(), next),
            _ => signing(
                Statement::SignOff(step.id.clone()),
                self.people_of(&step.sign_off),
                next,
            ),
        }
    }

    fn sign(
        &mut self,
        sequence: u64,
        head: Head,
        person: &CustodianName,
        statement: &Statement,
        signature: &str,
    ) -> Result<(), String> {
        let Stage::Signing {
            statement: expected,
            missing,
            then,
        } = &mut self.stage
        else {
            return Err(format!("no signature is due here: {}", self.expected()));
        };
        if statement != expected {
            return Err(format!("{person} signed \"{statement}\", expected \"{expected}\""));
        }
        let Some(place) = missing.iter().position(|one| one == person) else {
            return Err(format!("{person} does not sign this, or signed it before"));
        };
        let (Some(opened), Some(known)) = (&self.opened, self.environment.person(person)) else {
            return Err(format!("nobody is called {person}"));
        };
        let bytes = signed_bytes(Signing {
            ceremony: opened.ceremony,
            sequence,
            head,
            person,
            seats: &known.seats,
            statement,
        });
        let decoded = STANDARD
            .decode(signature)
            .map_err(|_| format!("the signature of {person} is not in base64"))?;
        if !known.key.verifies(&bytes, &decoded) {
            return Err(format!("the signature is not by {person} over this"));
        }
        missing.remove(place);
        if missing.is_empty() {
            self.stage = (**then).clone();
        }
        Ok(())
    }

    fn between_steps(&self, what: &str) -> Result<(), String> {
        match &self.stage {
            Stage::Ready(_) | Stage::Failed(_) | Stage::Signing { .. } if !self.is_ending() => Ok(()),
            _ => Err(format!("no {what} can stand here: {}", self.expected())),
        }
    }

    /// Whether nothing is left but signatures at the end.
    pub fn is_ending(&self) -> bool {
        matches!(
            &self.stage,
            Stage::Signing {
                statement: Statement::Ended,
                ..
            }
        )
    }

    fn place(&self, id: &Name) -> Result<usize, String> {
        let place = self.script.steps.iter().position(|step| step.id == *id);
        place.ok_or_else(|| format!("there is no step {id}"))
    }

    /// What comes next, in words.
    pub fn expected(&self) -> String {
        match &self.stage {
            Stage::Unopened => "the ceremony was not opened yet".to_owned(),
            Stage::Ready(place) => format!("step {} comes next", self.script.steps[*place].id),
            Stage::Begun(place) => format!("the result of step {} comes next", self.script.steps[*place].id),
            Stage::Failed(place) => format!("step {} failed", self.script.steps[*place].id),
            Stage::Signing { statement, missing, .. } => {
                let missing: Vec<&str> = missing.iter().map(CustodianName::as_str).collect();
                format!("\"{statement}\" is to be signed by {}", missing.join(", "))
            }
            Stage::MustAbort => "the ceremony must be aborted".to_owned(),
            Stage::Ended(_) => "the ceremony is over".to_owned(),
        }
    }
}

fn signing(statement: Statement, missing: Vec<CustodianName>, then: Stage) -> Stage {
    if missing.is_empty() {
        return then;
    }
    Stage::Signing {
        statement,
        missing,
        then: Box::new(then),
    }
}

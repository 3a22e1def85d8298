//! The table around which people sit: leads them through the script, and writes down what happens.
//!
//! - `steps`: what each step asks and does. `deeds`: what is done with tokens.
//! - `signing`: signatures, by keys that people bring.
//! - `wishes`: exceptions, pauses, and the ends that nobody planned.
//!
//! It has no memory of its own. What comes next is always asked of [`Progress`], so a ceremony that was killed at any moment goes
//! on where its transcript ends.

mod deeds;
mod signing;
mod steps;
mod wishes;

use crate::{
    bundle::Bundle,
    clock::{Clock, Watch},
    environment::Environment,
    failure::Failure,
    front::{Front, Question, Scene, WISHES},
    host::Host,
    progress::{Outcome, Progress, Stage},
    script::{Action, Script, Step},
    transcript::{Event, Journal, Line, Opened, Participant, RehearsalLink},
};
use portcullis_provisioning::custodian::CustodianName;
use std::{collections::BTreeMap, path::PathBuf};
use steps::StepEnd;
use uuid::Uuid;
use wishes::Wish;

/// A ceremony that is being held.
pub struct Table<'a, F, C> {
    script: &'a Script,
    environment: &'a Environment,
    host: &'a Host,
    rehearsal: Option<RehearsalLink>,
    bundle: Bundle,
    journal: Journal,
    progress: Progress<'a>,
    lines: Vec<Line>,
    front: F,
    clock: C,
    watch: Watch,
}

/// How a run of the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The ceremony is over.
    Over(Outcome),
    /// It waits to be taken up again.
    Paused,
}

/// Why a step, or a question, is left before its end.
enum Detour {
    /// Somebody wants something else.
    Wish(Wish),
    /// The step fails, for this reason.
    Failed(String),
    /// Nobody answers any more.
    Gone,
    /// The program cannot go on.
    Failure(Failure),
}

impl<E: Into<Failure>> From<E> for Detour {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// What a ceremony is held with.
pub struct Setting<'a> {
    /// The script.
    pub script: &'a Script,
    /// The environment.
    pub environment: &'a Environment,
    /// The host.
    pub host: &'a Host,
    /// The rehearsal.
    pub rehearsal: Option<RehearsalLink>,
    /// Where everything is left.
    pub bundle: Bundle,
}

impl<'a, F: Front, C: Clock> Table<'a, F, C> {
    /// Begins a ceremony.
    pub fn begin(setting: Setting<'a>, front: F, clock: C) -> Result<Self, Failure> {
        let paths = setting.bundle.transcripts();
        let journal = Journal::create(paths.each_ref().map(PathBuf::as_path))?;
        let mut table = Self::around(setting, front, clock, journal);
        table.open()?;
        Ok(table)
    }

    /// Takes a ceremony up again where its transcript ends.
    pub fn resume(setting: Setting<'a>, front: F, clock: C) -> Result<Self, Failure> {
        let paths = setting.bundle.transcripts();
        let (journal, transcript) = Journal::reopen(paths.each_ref().map(PathBuf::as_path))?;
        let (lines, progress) = crate::bundle::replay(setting.script, setting.environment, &transcript)?;
        let mut table = Self::around(setting, front, clock, journal);
        table.progress = progress;
        table.lines = lines;
        match table.progress.stage() {
            Stage::Unopened => table.open()?,
            // Its bundle may not be whole.
            Stage::Ended(_) => {}
            _ => table.append(Event::Resumed {
                tool: table.host.tool,
                front: table.front.kind(),
            })?,
        }
        Ok(table)
    }

    fn around(setting: Setting<'a>, front: F, clock: C, journal: Journal) -> Self {
        Self {
            script: setting.script,
            environment: setting.environment,
            host: setting.host,
            rehearsal: setting.rehearsal,
            bundle: setting.bundle,
            journal,
            progress: Progress::new(setting.script, setting.environment),
            lines: Vec::new(),
            front,
            watch: Watch::start(&clock),
            clock,
        }
    }

    fn open(&mut self) -> Result<(), Failure> {
        let participants = self.environment.people.iter().map(|person| Participant {
            name: person.name.clone(),
            seats: person.seats.clone(),
            key: person.key.clone(),
        });
        let opened = Opened {
            ceremony: Uuid::now_v7(),
            kind: self.script.kind,
            class: self.environment.class,
            script: self.script.hash,
            environment: self.environment.hash,
            tool: self.host.tool,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            front: self.front.kind(),
            rehearsal: self.rehearsal.clone(),
            participants: participants.collect(),
        };
        self.append(Event::Opened(Box::new(opened)))
    }

    /// Leads through the script to its end, or to where people leave it.
    pub fn hold(mut self) -> Result<End, Failure> {
        self.welcome()?;
        loop {
            let stage = self.progress.stage().clone();
            let went = match stage {
                Stage::Unopened => self.open().map_err(Detour::Failure),
                Stage::Ready(place) if self.script.steps[place].action == Action::Close => self.close(place),
                Stage::Ready(place) => self.step(place),
                Stage::Begun(place) => self.interrupted(place).map_err(Detour::Failure),
                Stage::Failed(place) if self.progress.may_retry(&self.script.steps[place]) => self.step(place),
                Stage::Failed(place) => self.decide_about_failure(place),
                Stage::Signing { statement, missing, .. } => match missing.first() {
                    Some(person) => self.sign(person, &statement),
                    None => Ok(()),
                },
                Stage::MustAbort => self.abort("a decision, or a step that had to succeed"),
                Stage::Ended(outcome) => {
                    self.finish()?;
                    return Ok(End::Over(outcome));
                }
            };
            let ended = match went {
                Ok(()) => None,
                Err(Detour::Wish(wish)) => match self.follow(wish) {
                    Ok(end) => end,
                    Err(detour) => self.left_by(detour)?,
                },
                Err(detour) => self.left_by(detour)?,
            };
            if let Some(end) = ended {
                return Ok(end);
            }
        }
    }

    /// Aborts it, for whatever reason people give.
    pub fn end_here(mut self, why: &str) -> Result<End, Failure> {
        if let Stage::Begun(place) = *self.progress.stage() {
            self.interrupted(place)?;
        }
        while !matches!(self.progress.stage(), Stage::Ended(_)) && !self.progress.is_ending() {
            if let Err(detour) = self.abort(why)
                && let Some(end) = self.left_by(detour)?
            {
                return Ok(end);
            }
        }
        self.hold()
    }

    /// Whether the program ends because something was left before its end.
    fn left_by(&mut self, detour: Detour) -> Result<Option<End>, Failure> {
        match detour {
            Detour::Gone => Ok(Some(End::Paused)),
            Detour::Failure(failure) => Err(failure),
            Detour::Wish(_) => Ok(None),
            Detour::Failed(what) => {
                self.say(&what)?;
                Ok(None)
            }
        }
    }

    fn welcome(&mut self) -> Result<(), Failure> {
        let class = self.environment.class;
        self.say(&format!("{} ({class})", self.script.title))?;
        self.say(&self.script.purpose)
    }

    fn step(&mut self, place: usize) -> Result<(), Detour> {
        let step = &self.script.steps[place];
        let by = self.progress.people_of(&step.by);
        self.show(place, step, &by)?;
        self.ask_enter(
            &format!("begin/{}", step.id),
            "everyone",
            "Ready? Press Enter to begin this step",
        )?;
        let attempt = self.progress.attempts(&step.id) + 1;
        self.append(Event::Intent {
            step: step.id.clone(),
            attempt,
            by: by.clone(),
        })?;
        match self.perform(step, &by) {
            Ok(StepEnd::Done { facts, artefacts }) => {
                for (name, value) in &facts {
                    self.say(&format!("{name}: {value}"))?;
                }
                self.append(Event::Result {
                    step: step.id.clone(),
                    attempt,
                    facts,
                    artefacts,
                })?;
                Ok(())
            }
            Ok(StepEnd::Failed(what)) | Err(Detour::Failed(what)) => {
                self.say(&format!("This step failed: {what}"))?;
                self.append(Event::Failed {
                    step: step.id.clone(),
                    attempt,
                    what,
                })?;
                Ok(())
            }
            Err(Detour::Wish(wish)) => {
                self.interrupted(place)?;
                Err(Detour::Wish(wish))
            }
            Err(other) => Err(other),
        }
    }

    fn show(&mut self, place: usize, step: &Step, by: &[CustodianName]) -> Result<(), Failure> {
        let scene = Scene {
            number: place + 1,
            count: self.script.steps.len(),
            id: step.id.to_string(),
            words: step.in_words(),
            note: step.note.clone(),
            by: by.iter().map(CustodianName::to_string).collect(),
            attempt: self.progress.attempts(&step.id) + 1,
        };
        self.front.scene(&scene).map_err(Failure::Front)
    }

    /// What it had made on a token is destroyed by the next attempt, or by an abort.
    fn interrupted(&mut self, place: usize) -> Result<(), Failure> {
        let step = self.script.steps[place].id.clone();
        let attempt = self.progress.attempts(&step);
        self.append(Event::Interrupted { step, attempt })
    }

    fn close(&mut self, place: usize) -> Result<(), Detour> {
        let step = &self.script.steps[place];
        self.show(place, step, &[])?;
        if let Some(number) = self.progress.undecided().first().copied() {
            self.say(&format!("Exception {number} is open: it must be decided first."))?;
            return self.decide(number, &[]);
        }
        self.ask_enter(&format!("begin/{}", step.id), "everyone", "Ready to close? Press Enter")?;
        self.append(Event::Closed {})?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let written = self.bundle.finish(self.script, self.environment, &self.lines);
        written.map_err(Failure::file("write the bundle"))?;
        self.say(&format!(
            "The bundle is complete: {}. Everyone may check it: portcullis-ceremony verify. Print report.html and sign it.",
            self.bundle.directory().display()
        ))
    }

    /// Writes an entry, once it is known that it may stand there.
    fn append(&mut self, event: Event) -> Result<(), Failure> {
        let last = self.lines.last().map(|line| line.entry.at);
        let (at, ms) = self.watch.read(&self.clock, last).map_err(|seconds| {
            Failure::Environment(format!(
                "the host's clock was set by {seconds} s since the program was started: put it right, and resume"
            ))
        })?;
        let entry = self.journal.entry(at, ms, event);
        let mut progress = self.progress.clone();
        progress.apply(&entry).map_err(Failure::Environment)?;
        let head = self.journal.append(&entry)?;
        self.progress = progress;
        self.lines.push(Line { entry, head });
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.front.say(text).map_err(Failure::Front)
    }

    /// Puts a question and takes any answer that is a wish for one.
    fn ask(&mut self, id: &str, who: &str, prompt: &str, choices: &'static [&'static str]) -> Result<String, Detour> {
        let question = Question {
            id: id.to_owned(),
            who: who.to_owned(),
            prompt: prompt.to_owned(),
            choices,
        };
        loop {
            let asked = self.front.ask(&question).map_err(Failure::Front)?;
            let answer = asked.ok_or(Detour::Gone)?;
            if let Some(wish) = Wish::parse(&answer) {
                return Err(Detour::Wish(wish));
            }
            if answer.starts_with('!') {
                let wishes: Vec<&str> = WISHES.iter().map(|(wish, _)| *wish).collect();
                self.say(&format!("\"{answer}\" is not known; there are {}", wishes.join(", ")))?;
            } else if answer.chars().count() > LONGEST_ANSWER || answer.chars().any(char::is_control) {
                self.say(&format!("Expected one line of at most {LONGEST_ANSWER} characters."))?;
            } else if !choices.is_empty() && !choices.contains(&answer.as_str()) {
                self.say(&format!("Expected one of: {}", choices.join(", ")))?;
            } else {
                return Ok(answer);
            }
        }
    }

    /// A question that must not be left empty.
    fn ask_text(&mut self, id: &str, who: &str, prompt: &str) -> Result<String, Detour> {
        loop {
            let answer = self.ask(id, who, prompt, &[])?;
            if !answer.is_empty() {
                return Ok(answer);
            }
            self.say("Expected some words.")?;
        }
    }

    fn ask_enter(&mut self, id: &str, who: &str, prompt: &str) -> Result<(), Detour> {
        self.ask(id, who, prompt, &[]).map(drop)
    }
}

type Facts = BTreeMap<String, String>;

const LONGEST_ANSWER: usize = 400;

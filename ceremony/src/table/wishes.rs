//! What does not go by the script: exceptions, pauses, and the ends that nobody planned.

use super::{Detour, End, Table};
use crate::{
    clock::Clock,
    front::Front,
    progress::Stage,
    transcript::{Decision, Event, Statement},
};
use portcullis_provisioning::custodian::CustodianName;

/// What somebody wants instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Exception,
    Pause,
    Postpone,
    Abort,
}

impl Wish {
    pub(super) fn parse(answer: &str) -> Option<Self> {
        Some(match answer {
            "!exception" => Self::Exception,
            "!pause" => Self::Pause,
            "!postpone" => Self::Postpone,
            "!abort" => Self::Abort,
            _ => return None,
        })
    }
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// Does what was wished for, between steps.
    pub(super) fn follow(&mut self, wish: Wish) -> Result<Option<End>, Detour> {
        if self.progress.is_ending() || *self.progress.stage() == Stage::MustAbort {
            self.say("Only signatures are left: sign, or end the program and resume later.")?;
            return Ok(None);
        }
        match wish {
            Wish::Exception => self.raise().map(|()| None),
            Wish::Pause => {
                let why = self.ask_text("pause/why", "everyone", "Why is it paused?")?;
                self.append(Event::Paused { why })?;
                Ok(Some(End::Paused))
            }
            Wish::Postpone if self.progress.has_touched_a_token() => {
                self.say("Something was done with a token: it cannot be postponed any more. Pause it, or abort it.")?;
                Ok(None)
            }
            Wish::Postpone => {
                let why = self.ask_text("postpone/why", "everyone", "Why is it postponed?")?;
                self.append(Event::Postponed { why })?;
                Ok(None)
            }
            Wish::Abort => {
                let why = self.ask_text("abort/why", "everyone", "Why is it aborted?")?;
                self.abort(&why)?;
                Ok(None)
            }
        }
    }

    /// Ends it without its purpose. What its steps made is destroyed first; what cannot be is named.
    pub(super) fn abort(&mut self, why: &str) -> Result<(), Detour> {
        let swept = self.sweep()?;
        self.append(Event::Aborted {
            why: why.to_owned(),
            residue: swept.residue,
            swept: swept.steps,
            artefacts: swept.artefacts,
        })?;
        Ok(())
    }

    /// A step failed, and people must decide.
    pub(super) fn decide_about_failure(&mut self, place: usize) -> Result<(), Detour> {
        if let Some(number) = self.progress.about_failure() {
            return self.decide(number, self.after_failure(place));
        }
        let step = self.script.steps[place].id.clone();
        self.say(&format!(
            "Step {step} failed. It is recorded as an exception, and decided upon."
        ))?;
        self.record()?;
        let number = self.progress.exceptions();
        self.decide(number, self.after_failure(place))
    }

    fn after_failure(&self, place: usize) -> &'static [&'static str] {
        if self.script.steps[place].action.can_be_passed_over() {
            &["repeat", "go-on", "abort"]
        } else {
            &["repeat", "abort"]
        }
    }

    /// Somebody says that something did not go by the script.
    fn raise(&mut self) -> Result<(), Detour> {
        self.record()?;
        let number = self.progress.exceptions();
        let choices: &'static [&'static str] = match self.progress.stage() {
            Stage::Failed(place) => self.after_failure(*place),
            Stage::Signing {
                statement: Statement::SignOff(_),
                ..
            } => &["repeat", "go-on", "abort", "later"],
            _ => &["go-on", "abort", "later"],
        };
        self.decide(number, choices)
    }

    fn record(&mut self) -> Result<(), Detour> {
        let what = self.ask_text("exception/what", "everyone", "What happened?")?;
        let noticed_by = loop {
            let typed = self.ask_text("exception/noticed-by", "everyone", "Who noticed? (the name)")?;
            let known = typed.parse::<CustodianName>().ok();
            match known.filter(|name| self.environment.person(name).is_some()) {
                Some(name) => break name,
                None => {
                    let people = self.environment.people.iter().map(|person| person.name.as_str());
                    let people: Vec<&str> = people.collect();
                    self.say(&format!(
                        "Nobody is called \"{typed}\". There are: {}",
                        people.join(", ")
                    ))?;
                }
            }
        };
        let effect = self.ask_text("exception/effect", "everyone", "What does it mean for the ceremony?")?;
        let number = self.progress.exceptions() + 1;
        self.append(Event::Exception {
            number,
            what,
            noticed_by,
            effect,
        })?;
        Ok(())
    }

    /// Decides about an exception. The administrator and the witness sign the decision next.
    pub(super) fn decide(&mut self, number: u32, choices: &'static [&'static str]) -> Result<(), Detour> {
        let choices = if choices.is_empty() {
            &["go-on", "abort"]
        } else {
            choices
        };
        let id = format!("decide/{number}");
        let prompt = format!("What follows from exception {number}?");
        let decision = match self.ask(&id, "everyone", &prompt, choices)?.as_str() {
            "repeat" => Decision::Repeat,
            "abort" => Decision::Abort,
            "later" => return Ok(()),
            _ => Decision::GoOn,
        };
        let reason = self.ask_text(&format!("decide/{number}/reason"), "everyone", "Why?")?;
        self.append(Event::Decided {
            number,
            decision,
            reason,
        })?;
        Ok(())
    }
}

//! Exceptions, what is decided about them, and the ends of a ceremony.

use super::{Outcome, Progress, Stage, signing};
use crate::{
    script::Action,
    transcript::{Decision, Statement},
};
use portcullis_provisioning::custodian::CustodianName;

impl Progress<'_> {
    pub(super) fn except(&mut self, number: u32, noticed_by: &CustodianName) -> Result<(), String> {
        self.between_steps("exception")?;
        if number != self.exceptions() + 1 {
            return Err(format!("exception {number}, expected {}", self.exceptions() + 1));
        }
        if self.environment.person(noticed_by).is_none() {
            return Err(format!("nobody is called {noticed_by}"));
        }
        self.exceptions.push(None);
        if matches!(self.stage, Stage::Failed(_)) {
            self.about_failure = Some(number);
        }
        Ok(())
    }

    pub(super) fn decide(&mut self, number: u32, decision: Decision) -> Result<(), String> {
        self.between_steps("decision")?;
        let index = usize::try_from(number)
            .map_err(|error| error.to_string())?
            .wrapping_sub(1);
        match self.exceptions.get(index) {
            Some(None) => {}
            Some(Some(_)) => return Err(format!("exception {number} was decided before")),
            None => return Err(format!("there is no exception {number}")),
        }
        let about_failure = self.about_failure == Some(number);
        let then = match (decision, &self.stage) {
            (Decision::Abort, _) => Stage::MustAbort,
            (Decision::Repeat, Stage::Failed(place)) if about_failure => Stage::Ready(*place),
            (
                Decision::Repeat,
                Stage::Signing {
                    statement: Statement::SignOff(step),
                    ..
                },
            ) => Stage::Ready(self.place(step)?),
            (Decision::Repeat, _) => {
                return Err("there is no step to repeat: none failed, and none waits to be signed off".to_owned());
            }
            (Decision::GoOn, Stage::Failed(place)) if about_failure => {
                let step = &self.script.steps[*place];
                if !step.action.can_be_passed_over() {
                    return Err(format!("step {} cannot be left out: repeat it, or abort", step.id));
                }
                Stage::Ready(place + 1)
            }
            (Decision::GoOn, stage) => stage.clone(),
        };
        self.exceptions[index] = Some(decision);
        self.stage = signing(Statement::Decided(number), self.deciders(), then);
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), String> {
        match self.stage {
            Stage::Ready(place) if self.script.steps[place].action == Action::Close => {}
            _ => return Err(format!("the ceremony cannot be closed here: {}", self.expected())),
        }
        if let Some(number) = self.undecided().first() {
            return Err(format!(
                "exception {number} is open: it must be decided before the ceremony is closed"
            ));
        }
        self.stage = signing(Statement::Ended, self.present(), Stage::Ended(Outcome::Done));
        Ok(())
    }

    pub(super) fn ending(&self, outcome: Outcome) -> Stage {
        signing(Statement::Ended, self.deciders(), Stage::Ended(outcome))
    }
}

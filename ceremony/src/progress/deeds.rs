//! What is done with tokens: what anyone can check of it, and what an abort must have looked for.

use super::Progress;
use crate::{
    name::Name,
    script::{Action, Deed, Step},
    token::{SOFTWARE_FACT, SOFTWARE_NO, SOFTWARE_YES, permitted},
};
use portcullis_provisioning::custodian::CustodianName;
use std::collections::BTreeMap;

impl Progress<'_> {
    /// What anyone can check of the result of a deed.
    pub(super) fn check_deed(&self, on: &Name, deed: &Deed, facts: &BTreeMap<String, String>) -> Result<(), String> {
        self.check_software(on, facts)?;
        if deed.hands_out_shares() {
            let acting: Vec<&str> = self.acting_custodians().iter().map(|one| one.name.as_str()).collect();
            let seats = self.script.quorum.as_ref().map_or(0, |quorum| quorum.of.len());
            if acting.len() != seats {
                return Err(format!(
                    "{} custodians are here, and each of {seats} gets a share",
                    acting.len()
                ));
            }
            if fact(facts, PROVED)? != acting.join(", ") {
                return Err("not every custodian has shown that the share can be decrypted".to_owned());
            }
        }
        if deed.leaves_objects() && fact(facts, ALLOWED)? != NOTHING {
            return Err(format!("{on} allowed what it must refuse"));
        }
        if let Some(epoch) = deed.epoch() {
            if fact(facts, EPOCH)? != epoch.to_string() {
                return Err(format!("it is of another domain epoch than {epoch}"));
            }
            // A domain that is born again, because its step is repeated, is another one.
            if !matches!(deed, Deed::GenerateDomain { .. } | Deed::DestroyDomain { .. }) {
                self.check_fingerprint(epoch, fact(facts, FINGERPRINT)?)?;
            }
        }
        Ok(())
    }

    /// What anyone can check of a provisioning record's facts; the record itself is checked as the document that it is.
    pub(super) fn check_record(&self, facts: &BTreeMap<String, String>) -> Result<(), String> {
        let epoch = fact(facts, EPOCH)?
            .parse()
            .map_err(|_| "its domain epoch is no number".to_owned())?;
        self.check_fingerprint(epoch, fact(facts, FINGERPRINT)?)
    }

    pub(super) fn check_software(&self, on: &Name, facts: &BTreeMap<String, String>) -> Result<(), String> {
        let is_software = match facts.get(SOFTWARE_FACT).map(String::as_str) {
            Some(SOFTWARE_YES) => true,
            Some(SOFTWARE_NO) => false,
            _ => return Err(format!("it is not said whether {on} is software")),
        };
        permitted(self.environment.class, self.script, is_software).map_err(|why| format!("{on}: {why}"))
    }

    /// One domain has one fingerprint, on every token and in every step.
    fn check_fingerprint(&self, epoch: u32, found: &str) -> Result<(), String> {
        match self.domains.get(&epoch) {
            Some(known) if known != found => Err(format!(
                "the fingerprint of domain epoch {epoch} is {found}; it was {known} before"
            )),
            _ => Ok(()),
        }
    }

    /// Remembers what later steps are held against.
    pub(super) fn note_result(&mut self, place: usize, facts: &BTreeMap<String, String>) {
        let epoch = self.script.steps[place].action.deed().and_then(Deed::epoch);
        if let (Some(epoch), Some(fingerprint)) = (epoch, facts.get(FINGERPRINT)) {
            self.domains.insert(epoch, fingerprint.clone());
        }
    }

    /// The steps that were begun and may have left objects on a token.
    pub fn may_have_left(&self) -> Vec<&Step> {
        let steps = self.script.steps.iter();
        steps
            .filter(|step| self.attempts(&step.id) > 0)
            .filter(|step| step.action.deed().is_some_and(Deed::leaves_objects))
            .collect()
    }

    /// Whether anything was begun with a token beside looking at it.
    pub fn has_touched_a_token(&self) -> bool {
        let steps = self.script.steps.iter();
        steps
            .filter(|step| step.action.deed().is_some())
            .any(|step| self.attempts(&step.id) > 0)
    }

    /// An abort that says that nothing remains has looked.
    pub(super) fn check_abort(&self, residue: &[String], swept: &[Name]) -> Result<(), String> {
        if let Some(unknown) = swept.iter().find(|id| self.script.step(id).is_none()) {
            return Err(format!("there is no step {unknown}"));
        }
        let left = self.may_have_left();
        match left.iter().find(|step| !swept.contains(&step.id)) {
            Some(step) if residue.is_empty() => Err(format!(
                "nobody looked for what step {} may have left, and it is not said that something may remain",
                step.id
            )),
            _ => Ok(()),
        }
    }

    /// How often the root key of a step was used.
    pub fn uses(&self, step: &Name) -> u32 {
        self.uses.get(step).copied().unwrap_or(0)
    }

    /// A use counts when it is recorded, whether or not a signature came of it, and through all attempts of the step.
    pub(super) fn use_root_key(&mut self, id: &Name, attempt: u32, number: u32) -> Result<(), String> {
        let place = self.begun(id, attempt)?;
        let Some(Deed::ActivateRootKey(activation)) = self.script.steps[place].action.deed() else {
            return Err(format!("step {id} activates no root key"));
        };
        if number != self.uses(id) + 1 {
            return Err(format!("use {number}, expected {}", self.uses(id) + 1));
        }
        if number > activation.uses {
            return Err(format!("use {number}, and {} are permitted", activation.uses));
        }
        self.uses.insert(id.clone(), number);
        Ok(())
    }

    pub(super) fn check_uses(&self, step: &Step, facts: &BTreeMap<String, String>) -> Result<(), String> {
        match step.action.deed() {
            Some(Deed::ActivateRootKey(_)) if fact(facts, USES)? != self.uses(&step.id).to_string() => {
                Err("it was used more or less often than its result says".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Who acts in a step, without the one who leads it.
    pub fn custodians_of(&self, step: &Step) -> Vec<CustodianName> {
        let acting: Vec<CustodianName> = self.acting_custodians().iter().map(|one| one.name.clone()).collect();
        let people = self.people_of(&step.by);
        people.into_iter().filter(|name| acting.contains(name)).collect()
    }
}

impl Deed {
    fn epoch(&self) -> Option<u32> {
        match self {
            Self::GenerateDomain { epoch }
            | Self::BackUpDomain { epoch }
            | Self::JoinDomain { epoch, .. }
            | Self::RestoreDomain { epoch, .. }
            | Self::DestroyDomain { epoch } => Some(*epoch),
            _ => None,
        }
    }
}

/// The deed of a step, with its token.
pub(crate) fn deed_of(step: &Step) -> Option<(&Name, &Deed)> {
    match &step.action {
        Action::Token { on, deed } => Some((on, deed)),
        _ => None,
    }
}

fn fact<'f>(facts: &'f BTreeMap<String, String>, name: &str) -> Result<&'f str, String> {
    facts
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| format!("it is not said: {name}"))
}

/// The facts that are checked, by their names.
pub(crate) const EPOCH: &str = "domain epoch";
pub(crate) const FINGERPRINT: &str = "fingerprint";
pub(crate) const PROVED: &str = "shares proved by";
pub(crate) const ALLOWED: &str = "forbidden operations that the token allowed";
pub(crate) const NOTHING: &str = "none";
pub(crate) const USES: &str = "uses";

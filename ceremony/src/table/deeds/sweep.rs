//! What an abort destroys, and what it says may remain.

use super::{Bench, Detour, as_user};
use crate::{
    clock::Clock,
    failure::Failure,
    front::Front,
    name::Name,
    progress::deed_of,
    script::{Deed, FileHash, Step},
    table::Table,
    transcript::Event,
};
use std::collections::BTreeMap;

/// What an abort found.
#[derive(Debug, Default)]
pub(in crate::table) struct Swept {
    /// The steps whose objects are gone.
    pub(in crate::table) steps: Vec<Name>,
    /// What may remain.
    pub(in crate::table) residue: Vec<String>,
    /// Files by which people can deal with it.
    pub(in crate::table) artefacts: BTreeMap<String, FileHash>,
}

impl<F: Front, C: Clock> Table<'_, F, C> {
    /// Destroys what the steps made that were begun, each by its `CKA_ID`, and looks again. What cannot be destroyed is named.
    pub(in crate::table) fn sweep(&mut self) -> Result<Swept, Detour> {
        let mut swept = Swept::default();
        let script = self.script;
        for step in &script.steps {
            if self.progress.attempts(&step.id) == 0 {
                continue;
            }
            self.name_documents(step, &mut swept);
            let Some((on, deed)) = deed_of(step) else {
                continue;
            };
            if deed.sets_pins() {
                self.look_for_token(step, (on, deed), &mut swept)?;
            } else if deed.leaves_objects() {
                self.sweep_step(step, on, &mut swept)?;
            }
        }
        Ok(swept)
    }

    /// What was handed out in writing cannot be taken back.
    fn name_documents(&self, step: &Step, swept: &mut Swept) {
        let made = self.lines.iter().filter_map(|line| match &line.entry.event {
            Event::Result {
                step: id, artefacts, ..
            } if *id == step.id => Some(artefacts),
            _ => None,
        });
        for name in made.flat_map(BTreeMap::keys) {
            let what = match name.rsplit_once('.') {
                Some((_, "backup")) => "a backup of the domain, which a quorum's shares open",
                Some((_, "record")) => "a provisioning record that the custodians signed",
                _ => continue,
            };
            swept.residue.push(format!(
                "{name}, {what}: destroy every copy of it that is outside of this bundle, and do not use it"
            ));
        }
    }

    fn sweep_step(&mut self, step: &Step, on: &Name, swept: &mut Swept) -> Result<(), Detour> {
        let id = self.object_id(step)?;
        loop {
            let question = format!("Step {} may have made something on {on}. Is it destroyed now?", step.id);
            let why = match self.ask(
                &format!("sweep/{}", step.id),
                "everyone",
                &question,
                &["destroy", "leave"],
            ) {
                Ok(answer) if answer == "leave" => "nobody destroyed it".to_owned(),
                Ok(_) => match self.destroy_objects(step, on) {
                    Ok(count) => {
                        self.say(&format!(
                            "{count} objects of step {} were destroyed; none is left on {on}.",
                            step.id
                        ))?;
                        swept.steps.push(step.id.clone());
                        return Ok(());
                    }
                    Err(Detour::Failed(why)) => {
                        self.say(&format!("That failed: {why}"))?;
                        continue;
                    }
                    Err(Detour::Wish(_)) => continue,
                    Err(other) => return Err(other),
                },
                Err(Detour::Wish(_)) => continue,
                Err(other) => return Err(other),
            };
            swept.residue.push(format!(
                "objects with the CKA_ID {id} on {on}, of step {}: {why}",
                step.id
            ));
            return Ok(());
        }
    }

    fn destroy_objects(&mut self, step: &Step, on: &Name) -> Result<usize, Detour> {
        let id = self.object_id(step)?;
        let mut bench = Bench::default();
        let mut token = self.open_token(&mut bench, on)?;
        let pin = self.user_pin(on, &mut token)?;
        as_user(&mut token, &pin, |session| {
            id.destroy(session).map_err(|error| Detour::Failed(error.to_string()))
        })
    }

    /// A token that was initialised stays so, and PINs that were renewed stay new; the shares of them are kept.
    fn look_for_token(&mut self, step: &Step, (on, deed): (&Name, &Deed), swept: &mut Swept) -> Result<(), Detour> {
        let Some(before) = self.begun_before(step)? else {
            return Ok(());
        };
        let token = self.token(on)?;
        let found = Bench::default().open(&token).map(|open| open.info().clone());
        match found {
            _ if *deed == Deed::RenewPins => swept.residue.push(format!(
                "{on}, whose PINs step {} renews: they are in the shares of this bundle, or still in those of before",
                step.id
            )),
            Err(portcullis_hsm::Error::TokenAbsent(_)) => return Ok(()),
            Err(error) => swept.residue.push(format!(
                "{on}, which step {} may have initialised and which cannot be asked: {error}",
                step.id
            )),
            Ok(info) => swept.residue.push(format!(
                "{on}, which step {} initialised: it is empty and has the serial number {}; its PINs are in the shares of this bundle",
                step.id, info.serial_number
            )),
        }
        for name in self
            .bundle
            .artefacts_of(&step.id)
            .map_err(Failure::file("list the artefacts"))?
        {
            let content = std::fs::read(self.bundle.artefact(&name)).map_err(Failure::file("read an artefact"))?;
            swept.artefacts.insert(name, FileHash::of(&content));
        }
        swept.artefacts.extend(before.artefacts);
        Ok(())
    }
}

//! Who acts for a seat: its holder, or an alternate who stands in for a custodian.

use super::Progress;
use crate::{
    environment::Person,
    name::Name,
    script::{CUSTODIANS, RoleKind},
};
use portcullis_provisioning::custodian::CustodianName;

impl Progress<'_> {
    /// Everyone who is here, in the order of the environment.
    pub fn present(&self) -> Vec<CustodianName> {
        self.environment
            .people
            .iter()
            .filter(|person| self.is_present(person))
            .map(|person| person.name.clone())
            .collect()
    }

    /// Who acts for these seats, each person once.
    pub fn people_of(&self, seats: &[Name]) -> Vec<CustodianName> {
        let mut people = Vec::new();
        for seat in seats {
            let acting = match seat.as_str() {
                CUSTODIANS => self.acting_custodians(),
                _ => self.acting(seat),
            };
            for person in acting {
                if !people.contains(&person.name) {
                    people.push(person.name.clone());
                }
            }
        }
        people
    }

    /// Who decides about exceptions: administrators and witnesses, as far as they are not known to be absent.
    pub(super) fn deciders(&self) -> Vec<CustodianName> {
        let decides = |person: &&Person| {
            person
                .seats
                .iter()
                .filter_map(|seat| self.script.role(seat))
                .any(|role| matches!(role.kind, RoleKind::Administrator | RoleKind::Witness))
        };
        self.environment
            .people
            .iter()
            .filter(decides)
            .filter(|person| self.people.get(&person.name) != Some(&false))
            .map(|person| person.name.clone())
            .collect()
    }

    /// Whether those who are here can hold the ceremony; says who is missing.
    pub fn roll_call_suffices(&self) -> Result<(), String> {
        if let Some(person) = self
            .environment
            .people
            .iter()
            .find(|person| !self.people.contains_key(&person.name))
        {
            return Err(format!("{} was not asked", person.name));
        }
        for role in &self.script.roles {
            let here = self.acting(&role.id).len();
            if here < usize::from(role.count) {
                return Err(format!(
                    "{here} of {} people are here for the seat {}",
                    role.count, role.id
                ));
            }
        }
        if let Some(quorum) = &self.script.quorum {
            let here = self.acting_custodians().len();
            if here < usize::from(quorum.need) {
                return Err(format!("{here} custodians are here, {} are needed", quorum.need));
            }
        }
        for step in &self.script.steps {
            for seat in step.by.iter().chain(&step.sign_off) {
                if seat.as_str() != CUSTODIANS && self.acting(seat).is_empty() {
                    return Err(format!("nobody is here for {seat}, whom step {} needs", step.id));
                }
            }
        }
        Ok(())
    }

    /// The custodians who count, alternates who stand in included.
    pub fn acting_custodians(&self) -> Vec<&Person> {
        let seats = self.script.quorum.iter().flat_map(|quorum| &quorum.of);
        seats.flat_map(|seat| self.acting(seat)).collect()
    }

    /// Who acts for a seat. The first custodian who is absent is stood in for by the first alternate who is here, and so on.
    fn acting(&self, seat: &Name) -> Vec<&Person> {
        let holders: Vec<&Person> = self
            .environment
            .holders_of(seat)
            .filter(|person| self.is_present(person))
            .collect();
        if !holders.is_empty() {
            return holders;
        }
        let Some(quorum) = self.script.quorum.as_ref().filter(|quorum| quorum.of.contains(seat)) else {
            return Vec::new();
        };
        let empty = |seat: &&Name| !self.environment.holders_of(seat).any(|person| self.is_present(person));
        let place = quorum.of.iter().filter(empty).position(|absent| absent == seat);
        let mut standing_in = quorum
            .alternates
            .iter()
            .flat_map(|alternate| self.environment.holders_of(alternate))
            .filter(|person| self.is_present(person));
        place.and_then(|place| standing_in.nth(place)).into_iter().collect()
    }

    fn is_present(&self, person: &Person) -> bool {
        self.people.get(&person.name) == Some(&true)
    }
}
